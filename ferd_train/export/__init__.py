"""A trained network in a file that runs without this project, checked against the original."""
