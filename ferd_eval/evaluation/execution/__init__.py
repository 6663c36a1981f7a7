"""Who computes: this process, or workers through Ray."""
