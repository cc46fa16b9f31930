"""Defences of a victim model against leakage, and poisoning of its data: one file each."""
