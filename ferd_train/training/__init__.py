"""Parts shared by all training loops."""
