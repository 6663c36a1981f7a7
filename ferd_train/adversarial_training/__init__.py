"""Robust teachers by adversarial training."""
