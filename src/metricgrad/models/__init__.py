"""Small networks for the built-in tasks."""
