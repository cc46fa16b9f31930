"""Report of a finished audit: an HTML page and a machine-readable file."""
