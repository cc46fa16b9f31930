"""Differentially private training: DP-SGD, its accounting and its checks."""
