"""Hand-made losses that people use today, which a new loss must beat."""
