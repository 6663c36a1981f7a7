"""Files and text, without torch where the format allows it."""
