"""The rank correlation aligner: its objective, its blocks, and what it does when the sign is wrong."""

import pytest
import torch

import metricgrad as mg
from metricgrad.aligners.fitting.blocks import ScoreStore
from metricgrad.aligners.fitting.rank_correlation import RankCorrelation
from metricgrad.losses.composite.hand_made import HandMade
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.probabilities import ProbabilityNetwork


def _pairs(n=400, classes=4):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(classes, (n,), generator=generator)
    return torch.randn(n, classes, generator=generator) + 2 * torch.nn.functional.one_hot(targets, classes), targets


class _Turned(ProbabilityNetwork):
    """Ranks the wrong way round until it is drawn anew."""

    resets = 0

    def reset(self, seed):
        super().reset(seed)
        self.resets += 1

    def over(self, scores, targets):
        return super().over(scores, targets) * (1 if self.resets > 1 else -1)


def test_a_fit_with_the_wrong_sign_starts_anew():
    form = _Turned()
    mg.Loss(form, RankCorrelation("accuracy", steps=2)).prepare(*_pairs())
    assert form.resets == 2
    with pytest.raises(mg.MetricgradError, match="no loss that ranks as 'accuracy' does"):
        mg.Loss(_Turned(), RankCorrelation("accuracy", steps=2, restarts=0)).prepare(*_pairs())


def test_the_fit_improves_the_hard_correlation_and_freezes():
    scores, targets = _pairs()
    loss = mg.Loss(ProbabilityNetwork(monotone=False, seed=1), RankCorrelation("accuracy", steps=60, values=16))
    loss.prepare(scores, targets)
    assert mg.mismatch(loss, "accuracy", scores, targets).value > 0.6
    assert not any(parameter.requires_grad for parameter in loss.parameters())


def _weights(**options):
    form = ProbabilityNetwork()
    mg.Loss(form, RankCorrelation("accuracy", steps=10, values=4, **options)).prepare(*_pairs())
    return form.network.mlp.weights[0]


def test_the_gradient_penalty_reaches_the_weights():
    assert torch.equal(_weights(), _weights())
    assert not torch.equal(_weights(), _weights(penalty=0.1))


def test_the_papers_settings_run():
    assert not torch.equal(_weights(), _weights(paper=True))


def test_a_metric_that_never_varies_is_refused():
    targets = _pairs()[1]
    perfect = 50.0 * torch.nn.functional.one_hot(targets, 4)
    with pytest.raises(mg.MetricgradError, match="is 1 on every block of stored rows"):
        mg.Loss(ProbabilityNetwork(), RankCorrelation("accuracy")).prepare(perfect, targets)


def test_what_has_no_network_is_refused():
    with pytest.raises(mg.MetricgradError, match="no network to fit"):
        mg.Loss(HandMade(torch.nn.CrossEntropyLoss()), RankCorrelation("accuracy"))


@pytest.mark.parametrize("kind", ["real", "tempered", "shifted", "flipped", "random"])
def test_blocks_hold_what_their_kind_says(kind):
    scores, targets = _pairs()
    drawn, labels, _ = ScoreStore.of(scores, targets).draw(64, kind, torch.Generator().manual_seed(3))
    assert drawn.shape == (64, 4)
    accuracy, stored = (float(mg.as_metric("accuracy")(*pair)) for pair in ((drawn, labels), (scores, targets)))
    assert abs(accuracy - stored) < 0.15 if kind in ("real", "tempered") else accuracy < stored
    assert set(labels.tolist()) <= set(range(4))


def test_too_few_or_broken_pairs_are_refused():
    scores, targets = _pairs()
    with pytest.raises(mg.MetricgradError, match="too few"):
        ScoreStore.of(scores[:10], targets[:10])
    with pytest.raises(mg.MetricgradError, match="NaN or infinity"):
        ScoreStore.of(scores * torch.inf, targets)


def test_every_network_form_draws_the_same_weights_from_the_same_seed():
    for cls in NetworkForm.__subclasses__():
        if cls.__module__.startswith("metricgrad."):
            first, second = cls(seed=5), cls(seed=5)
            assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
