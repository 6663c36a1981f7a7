"""Files of weights: formats, the networks in them, and their metadata."""
