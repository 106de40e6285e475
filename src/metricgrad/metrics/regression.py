"""Metrics to come."""
