"""Evidence of an audit: its groups of fields, and the statements that follow by rules."""
