"""metricgrad in the libraries people train with: one file each, which imports that library."""
