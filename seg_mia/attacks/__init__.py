"""Adversarial attacks as functions on tensors."""
