"""Membership inference: what an attacker sees of a network, and how it decides from that."""
