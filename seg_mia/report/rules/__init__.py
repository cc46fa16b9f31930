"""Conclusions of a report from numbers: verdicts, caveats and gates."""
