"""Aligners that fit a form to a metric before training, on blocks of stored scores: ReLoss's half of the grid."""
