"""The one exception a person gets to see, as one line without a traceback."""


class LaunchError(Exception):
    """The server cannot run; the message is one line that says what to do."""
