"""Metrics of other libraries and of users: how they are recognised, described and called."""
