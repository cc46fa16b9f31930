"""Samples, their split into members and non-members, and their loaders."""
