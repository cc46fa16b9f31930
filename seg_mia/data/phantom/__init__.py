"""Synthetic abdominal CT: anatomy and scanner."""
