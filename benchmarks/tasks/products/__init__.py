"""The task of products: data, model, task."""
