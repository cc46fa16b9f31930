"""MONAI bundles as they lie on disk."""
