"""Students distilled from a frozen teacher."""
