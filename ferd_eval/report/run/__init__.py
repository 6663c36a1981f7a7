"""The report of one or several runs."""
