"""The task of communities: data, model, task."""
