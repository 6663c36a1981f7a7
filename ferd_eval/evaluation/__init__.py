"""Model × data × attacks → outcomes."""
