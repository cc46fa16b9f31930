"""Annexes of a report: a page for the data protection officer, a model card."""
