"""Lists whose items weigh differently are worth what the metric says of moves of their items."""

import pytest
import sklearn.metrics
import torch

import metricgrad as mg
from metricgrad.losses.interpolated.lists.list_losses import many_lists
from metricgrad.losses.interpolated.lists.ranked_lists import ranked_lists
from metricgrad.losses.interpolated.lists.weighted_secants import _changes
from metricgrad.refactoring.batch import checked
from metricgrad.refactoring.from_structure import for_batch

METRICS = ["average_precision", "auroc"]
N, C = 24, 4


def draw(seed, kind="labels"):
    g = torch.Generator().manual_seed(seed)
    weight = 2 * torch.rand(N, generator=g, dtype=torch.float64)
    weight[::5] = 0
    targets = (torch.rand(N, C, generator=g) < 0.4).long()
    scores = torch.randn(N, C, generator=g, dtype=torch.float64) + 0.5 * targets
    context = {"sample_weight": weight}
    if kind == "classes":
        targets = torch.arange(N) % (C - 1)
    elif kind == "one list":
        scores, targets = scores[:, 0], targets[:, 0]
    elif kind == "entries":
        context["mask"] = torch.rand(N, C, generator=g) < 0.7
    elif kind == "ties":
        scores = scores.round()
    return scores, targets, context


def found(spec, scores, targets, context, q=None):
    metric = mg.as_metric(spec)
    batch = checked(metric, scores, targets, context, check_finite=True)
    lists = ranked_lists(batch, for_batch(metric.structure, batch, metric), metric.fast_path)
    return many_lists(metric.fast_path, metric.fixed, batch, lists, q=q)


@pytest.mark.parametrize("kind", ["labels", "classes", "one list", "entries", "ties"])
@pytest.mark.parametrize("spec", METRICS)
def test_the_value_is_the_metrics_and_the_gradient_that_of_the_loss(spec, kind):
    scores, targets, context = draw(0, kind)
    for q in (None, 0.5):
        ours = found(spec, scores, targets, context, q)
        batch = checked(mg.as_metric(spec), scores, targets, context, check_finite=True)
        leaf = batch.scores.clone().requires_grad_()
        torch.testing.assert_close(ours.gradient, torch.autograd.grad(ours.loss(leaf), leaf)[0], rtol=1e-6, atol=1e-9)
        assert float(ours.now) == pytest.approx(float(mg.as_metric(spec)(scores, targets, **context)), abs=1e-6)
        assert float(ours.ideal) == pytest.approx(1)


@pytest.mark.parametrize("q", [None, 0.5])
@pytest.mark.parametrize("kind", ["labels", "classes", "entries"])
@pytest.mark.parametrize("spec", METRICS)
def test_weights_that_are_all_alike_are_none(spec, kind, q):
    scores, targets, context = draw(1, kind)
    plain = {name: value for name, value in context.items() if name != "sample_weight"}
    alike = found(spec, scores, targets, {**plain, "sample_weight": torch.full((N,), 3.0)}, q)
    torch.testing.assert_close(alike.gradient, found(spec, scores, targets, plain, q).gradient)


@pytest.mark.parametrize("spec", METRICS)
def test_a_move_of_an_item_is_worth_what_the_metric_says(spec):
    """Of items that weigh a unit; where all are alike it is so of all."""
    g = torch.Generator().manual_seed(2)
    metric, targets = mg.as_metric(spec), (torch.arange(30) % 3 == 0).long()
    weight = torch.rand(30, generator=g, dtype=torch.float64)
    weight[::6] = 1.0
    scores = torch.randn(30, generator=g, dtype=torch.float64)
    up, order = scores[targets == 1].sort(descending=True)
    down, behind = scores[targets == 0].sort(descending=True)
    own, others = weight[targets == 1][order], weight[targets == 0][behind]
    above = (others * (down > up[:, None])).sum(1)[None]
    upto, passed = (torch.nn.functional.pad(of.cumsum(0), (1, 0)) for of in (own, others))
    before = metric(scores, targets, sample_weight=weight)
    for end in range(21):  # how many negatives come to stand above
        moved = passed[end].expand(1, 1, len(up))
        ours = _changes(metric.fast_path, above, moved, own[None], upto[None], others.sum()[None, None], {})[0, 0]
        place = torch.cat([down[:1] + 2, down, down[-1:] - 2])
        for i in (own == 1).nonzero()[:, 0].tolist():
            between = (scores > place[end + 1]) & (scores < place[end])
            between[(scores == up[i]).nonzero()] = False
            if between.any():
                continue  # which of its own kind it passes is for the place to say
            there = torch.where(scores == up[i], (place[end] + place[end + 1]) / 2, scores)
            change = float(metric(there, targets, sample_weight=weight) - before)
            assert float(ours[i]) == pytest.approx(change, abs=2e-6)


@pytest.mark.parametrize("q", [None, 0.5])
def test_long_lists_are_summed_in_near_linear_time(q, monkeypatch):
    whole = found("average_precision", *draw(4), q=q)
    monkeypatch.setattr("metricgrad.losses.interpolated.lists.pairs._LONG", 10)
    parts = found("average_precision", *draw(4), q=q)
    torch.testing.assert_close(parts.gradient, whole.gradient, rtol=1e-6, atol=1e-9)
    left = draw(4)[0][draw(4)[2]["sample_weight"] > 0]
    torch.testing.assert_close(parts.loss(left), whole.loss(left))


@pytest.mark.parametrize(
    ("foreign", "name"),
    [(sklearn.metrics.average_precision_score, "average_precision"), (sklearn.metrics.roc_auc_score, "auroc")],
)
def test_a_training_step_calls_nothing(foreign, name, monkeypatch, recwarn):
    scores, targets, context = draw(5)
    losses, gradients = [mg.UniLoss(name), mg.UniLoss(mg.as_metric(foreign))], []
    monkeypatch.setattr(losses[0].form.form.metric, "_fn", None)
    for loss in losses:
        leaf = scores.clone().requires_grad_()
        value = loss(leaf, targets, **context)
        value.backward()
        gradients.append(leaf.grad)
        assert float(value.detach()) == pytest.approx(
            1 - float(mg.as_metric(name)(scores, targets, **context)), abs=1e-6
        )
    torch.testing.assert_close(*gradients)
    assert not [w for w in recwarn if "is called itself" in str(w.message)]
