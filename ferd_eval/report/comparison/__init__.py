"""Reports of a comparison: one view of two sides, rendered to files and to the terminal."""
