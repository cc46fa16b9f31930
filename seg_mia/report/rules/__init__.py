"""What a report concludes from numbers: verdicts, caveats and gates."""
