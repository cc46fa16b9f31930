"""Samples, who of them is a member, and how they reach a network."""
