"""UniLoss's form: the metric itself, interpolated over configurations of decisions."""
