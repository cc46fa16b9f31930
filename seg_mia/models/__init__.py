"""Segmentation networks and what every caller needs to know about their output."""
