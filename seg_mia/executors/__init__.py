"""Execution of independent tasks: in this process, in several processes, or on a Ray cluster."""
