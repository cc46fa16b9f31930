"""What happens around a step: metrics, pictures, records, the checkpoint's card."""
