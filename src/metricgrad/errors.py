"""The one exception type of the package."""


class MetricgradError(ValueError):
    """Bad input: the message names the argument, what it was, and how to mend it."""
