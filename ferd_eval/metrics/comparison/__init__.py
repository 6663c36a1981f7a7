"""Two checkpoints, or two methods, on the same images."""
