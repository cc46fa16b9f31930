"""One run, from the command line to a trained, attacked or evaluated network, with LightningCLI."""
