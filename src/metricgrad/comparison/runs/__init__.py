"""The runs of a comparison: which are left, how each is trained, and what a budget in time buys."""
