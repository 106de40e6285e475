"""What a metric reads from the scores: comparisons, the binaries they decide, and score sets that realise them."""
