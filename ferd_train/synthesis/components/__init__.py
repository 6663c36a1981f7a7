"""Parts that several synthesis methods share."""
