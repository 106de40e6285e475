"""The control of every policy: the same steps on the same knobs, at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from metricgrad.aligners.knobs.controller import KnobController
from metricgrad.aligners.knobs.observation import Observation
from metricgrad.aligners.knobs.policy_network import ACTIONS, Choice


class RandomWalk(KnobController):
    """Moves every knob down, up or not at all, each with the same probability, whatever validation says.

    It scores validation data as a policy does and writes the same history, so that it costs the same. A policy that
    does not beat it has learned nothing: what is gained then comes from the form, or from choosing the best epoch.

    Args:
        metric: noted in the history; it decides nothing. The other settings are those of
            :class:`metricgrad.aligners.knobs.controller.KnobController`.

    Example:
        >>> import torch, metricgrad as mg
        >>> from metricgrad.losses.families.classification import ClassificationFamily
        >>> loss = mg.Loss(ClassificationFamily(2), RandomWalk("accuracy", warm_up=0))
        >>> loss.observe(torch.randn(8, 2), torch.arange(8) % 2)
        >>> len(loss.aligner.history["metric"])
        1
    """

    kind: ClassVar[str] = "random_walk"

    def choose(
        self, seen: Sequence[Observation], advantages: Sequence[float], generator: torch.Generator
    ) -> list[Choice]:
        """Uniform."""
        level = torch.tensor(1 / ACTIONS).log()
        return [
            Choice(
                torch.randint(ACTIONS, (len(one.knobs),), generator=generator),
                level.expand(len(one.knobs)),
                -float(level),
            )
            for one in seen
        ]
