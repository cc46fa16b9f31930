"""Volumes: NIfTI and DICOM files, their geometry and their slices."""
