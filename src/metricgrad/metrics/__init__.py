"""Built-in metrics, batched over a leading axis, and the adapters for foreign ones; one file for each family."""
