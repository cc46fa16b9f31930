"""The report as an HTML page: its tables, figures and templates."""
