"""The task of stick figures: data, model, task."""
