"""Aligners that turn a form's knobs while training runs, rewarded by the metric on validation data: ALA's half."""
