"""Figures of results, each drawn by one function and saved in two formats: PNG for files, SVG for a page."""
