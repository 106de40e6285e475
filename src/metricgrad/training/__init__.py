"""The Lightning engine."""
