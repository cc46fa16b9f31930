"""Config files, class paths and help: the command line before anything is built from it."""
