"""Adversarial attacks: functions on tensors."""
