"""A task is data, a model, a metric and the loss people use today."""
