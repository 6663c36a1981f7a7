"""Files of weights: formats, the networks in them, and what else they record."""
