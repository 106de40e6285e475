"""A form with one knob and a metric that is the knob: what a policy must be able to climb."""

import torch
from torch import nn

import metricgrad as mg
from metricgrad.losses.base import Form, Knob


class OneKnob(Form):
    """Its knob changes nothing but itself."""

    kind = "one_knob"

    def __init__(self, names=("height",), high=100.0, classes=None):
        super().__init__()
        self.values = nn.Parameter(torch.zeros(len(names)), requires_grad=False)
        self.names, self.high, self.classes = names, high, classes

    def forward(self, scores, targets, *, call, **context):
        return scores.square().mean() + self.values.sum() * 0

    def config(self):
        return {}

    def knobs(self):
        return {n: Knob(v, -self.high, self.high, self.classes) for n, v in zip(self.names, self.values, strict=True)}


def mean_score(scores, targets):
    """A metric of raw scores."""
    return scores.mean()


LEVEL = mg.as_metric(mean_score, higher_is_better=True, reads="scores")


def climb(loss, periods, noise=0.0):
    """Feed back the knob's own height, with noise, so many times; how high it is afterwards."""
    generator = torch.Generator().manual_seed(loss.seed + 99)
    targets = torch.zeros(4)
    for period in range(periods):
        height = loss.form.values.detach().double()[0] / loss.form.high
        scores = (height + noise * torch.randn((), generator=generator)).expand(4).double()
        loss.observe(scores, targets, progress=period / periods)
    return float(loss.form.values[0]) / (loss.aligner.settings.step_size * loss.form.high)
