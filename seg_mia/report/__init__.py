"""One finished audit as a page that people read and a file that scripts read."""
