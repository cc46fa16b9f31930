"""LightningModules: thin shells that turn a batch into tensors."""
