"""A file of rows and columns understood: its schema, its preprocessing as plain data, networks and trees for it."""
