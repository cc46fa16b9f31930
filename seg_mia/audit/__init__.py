"""Audits: one file with the training, the attacks and the results."""
