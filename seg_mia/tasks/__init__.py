"""LightningModules of training, attacks and membership classification."""
