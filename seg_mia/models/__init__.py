"""Segmentation networks, their weights and their outputs."""
