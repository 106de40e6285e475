"""The task of cifar: data, model, task."""
