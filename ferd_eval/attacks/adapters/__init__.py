"""Other packages' attacks, run as ours: one file a package."""
