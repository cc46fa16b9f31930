"""Two-dimensional image files: reading, headers, folders of pairs."""
