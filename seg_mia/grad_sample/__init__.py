"""Gradients of single samples, clipped and summed: what DP-SGD adds to backpropagation. Knows torch only."""
