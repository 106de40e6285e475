"""The one exception type of the package."""


class MetricgradError(ValueError):
    """Bad input: the message names the argument, what it was, and how to mend it."""


class FailedRunError(MetricgradError):
    """What went wrong in one run and may go well in another: a study notes it and goes on."""
