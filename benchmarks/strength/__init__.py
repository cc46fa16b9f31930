"""Parts of `defended_strength.py`: victims, attacks on them, kept results, tables."""
