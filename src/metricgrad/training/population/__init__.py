"""Many networks trained under one policy."""
