"""The synthetic abdominal CT: anatomy and scanner."""
