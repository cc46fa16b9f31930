"""Audit of predictions in files, without the network that made them."""
