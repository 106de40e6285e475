"""What moves a loss form: the right half of the grid."""
