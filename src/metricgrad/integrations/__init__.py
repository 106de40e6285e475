"""Losses in the trainers people use: one file each, which imports that trainer."""
