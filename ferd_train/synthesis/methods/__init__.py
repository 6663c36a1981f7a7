"""Synthesis methods, one file each."""
