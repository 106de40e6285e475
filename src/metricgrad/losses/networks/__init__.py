"""Learned forms: small networks of what a metric reads."""
