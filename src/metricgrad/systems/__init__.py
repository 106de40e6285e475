"""The published systems as points on the grid, one file each, at its paper's settings."""
