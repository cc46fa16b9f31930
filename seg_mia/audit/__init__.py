"""One audit file: what is trained, what attacks it, what came out."""
