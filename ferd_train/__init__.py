"""Trains robust teachers and, from them, students; what it writes, `ferd_eval` reads."""
