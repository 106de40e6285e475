"""What a metric reads from the scores, found by calling it on score sets of graded quality."""
