"""Predictions of networks in files, listed by a CSV file with the membership of each case."""
