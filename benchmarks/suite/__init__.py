"""Measurements of speed, each paired with a baseline that does the same work in the same run."""
