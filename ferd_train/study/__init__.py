"""Studies: methods × losses × seeds × teachers as one job that continues where it was stopped."""
