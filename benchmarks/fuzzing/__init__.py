"""Mutated files for every reader of outside files: seeds, changes, readers and what is watched."""
