"""Callbacks: metrics, figures, records and checkpoint metadata."""
