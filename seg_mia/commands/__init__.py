"""Commands besides fit, test and audit."""
