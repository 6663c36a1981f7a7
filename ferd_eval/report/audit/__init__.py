"""The appendix for auditors."""
