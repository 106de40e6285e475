"""A step whose hypergradient cannot be told."""

from __future__ import annotations

from metricgrad.errors import MetricgradError


class SkippedStepError(MetricgradError):
    """Why it cannot be told: it is raised and caught while looking ahead, and a user reads it as a warning.

    Args:
        kind: of the reason; each is said once.
        why: a sentence that names the cause and the remedy.
    """

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind
