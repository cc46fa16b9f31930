"""One value per image."""
