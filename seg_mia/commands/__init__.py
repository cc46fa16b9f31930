"""Commands beside fit, test and audit."""
