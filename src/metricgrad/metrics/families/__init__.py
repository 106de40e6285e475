"""The built-in metrics, batched over a leading axis, one file for each family."""
