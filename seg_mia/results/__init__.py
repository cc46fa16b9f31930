"""Results as text, files, figures and pictures."""
