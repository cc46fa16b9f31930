"""One run: from the command line to a trained, attacked or measured network, by LightningCLI."""
