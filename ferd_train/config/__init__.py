"""Recipes as typed fields: from TOML, the command line and Python."""
