"""The task of docstring answers: data, model, task."""
