"""Tasks that show the published systems, one folder each."""
