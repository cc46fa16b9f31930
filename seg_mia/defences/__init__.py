"""What a victim may do against leaks, and what an attacker may have done to its data: one file each."""
