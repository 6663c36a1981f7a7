"""Which classes the errors go to."""
