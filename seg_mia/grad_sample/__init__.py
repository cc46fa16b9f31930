"""Clipped sums of per-sample gradients for DP-SGD, based on torch alone."""
