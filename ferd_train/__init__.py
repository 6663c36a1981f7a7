"""Trains robust teachers and distils students from them, for `ferd_eval` to score."""
