"""The task of romanian strings: data, model, task."""
