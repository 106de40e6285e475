"""Studies, statistics, controls and the report."""
