"""Parametric families with a few bounded knobs, for policies to turn."""
