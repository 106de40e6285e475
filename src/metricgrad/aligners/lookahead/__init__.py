"""The aligner that moves a form by an exact hypergradient through each optimiser step: AdaLFL's half of the grid."""
