"""A run on disk: outcomes, manifest, folders. No torch."""
