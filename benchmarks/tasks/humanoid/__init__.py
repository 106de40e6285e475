"""The task of humanoid: data, model, task."""
