"""Constants of a recipe, chosen by a budget of trials."""
