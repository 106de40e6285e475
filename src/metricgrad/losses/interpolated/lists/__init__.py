"""Closed forms of metrics of ranked lists: one with what is remembered of it, or many side by side."""
