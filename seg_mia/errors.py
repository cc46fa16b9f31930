"""The error that means: what was put in does not fit, and here is what to do."""


class InputError(ValueError):
    """Input outside a contract; its message is one line: what must hold, what came, what to do.

    The command line shows the message alone, without a traceback. From Python it is a `ValueError`.
    """
