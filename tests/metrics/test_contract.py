"""What every built-in metric promises, and that what is declared of it is true."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

import metricgrad as mg
from metricgrad.metrics.built_in import table

REQUIRED = {
    *("accuracy", "top_k_accuracy", "f1", "macro_f1", "balanced_accuracy", "mcc", "kappa", "quadratic_kappa", "g_mean"),
    *("jaccard", "auroc", "average_precision", "precision_at_k", "recall_at_k", "recall_at_precision", "ndcg", "mrr"),
    "spearman",
}
SPECS = [
    *mg.list_metrics(),
    "fbeta:beta=2.0,average=macro",
    "fbeta:average=micro",
    "fbeta:average=samples",
    "jaccard:average=macro",
    "ndcg:k=3",
    "recall_at_k:k=2",
    "quadratic_kappa:num_classes=4",
]


def draw(kind: str, seed: int = 0, n: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    if kind == "maps":
        return torch.randn(n, 5, 6, generator=g), torch.randint(0, 5, (n, 2), generator=g)
    if kind == "sentences":
        return torch.randn(n, 6, 4, generator=g), torch.randint(0, 4, (n, 6), generator=g)
    if kind == "spans":
        return torch.randn(n, 2, 6, generator=g), torch.randint(0, 6, (n, 2), generator=g).sort(1).values
    scores = torch.randn((n,) if kind == "flat" else (n, 4), generator=g)
    if kind == "classes":
        return scores, torch.randint(0, 4, (n,), generator=g)
    return scores, torch.randint(0, 2, scores.shape, generator=g)


CASES = []
for spec in SPECS:
    layout = mg.as_metric(spec).layout
    for kind in ("flat", "classes", "columns") if layout.of_rows else (layout.name,):
        try:
            mg.as_metric(spec)(*draw(kind))
        except mg.MetricgradError:
            continue
        CASES.append((spec, kind))


def test_required_names_are_there_and_every_metric_has_a_use():
    assert set(mg.list_metrics()) >= REQUIRED
    assert {spec for spec, _ in CASES} == set(SPECS)
    assert all(entry.summary.endswith((".", "default)")) for entry in table().values())


@pytest.mark.parametrize(("spec", "kind"), CASES)
def test_contract(spec, kind):
    metric = mg.as_metric(spec)
    scores, targets = draw(kind)
    stack = torch.stack([scores, -scores, scores.flip(0)])
    values = metric.over(stack, targets)
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    for row, value in zip(stack, values, strict=True):
        assert torch.equal(metric(row, targets), value)
        assert float(metric(row.double(), targets)) == pytest.approx(float(value), abs=1e-6)
        assert math.isclose(
            float(metric(row.bfloat16(), targets)), float(metric(row.bfloat16().double(), targets)), abs_tol=1e-6
        )
    for cast in (
        targets.float(),
        targets.double(),
        targets.int(),
        *([targets.bool()] if kind in ("flat", "columns") else []),
    ):
        assert torch.equal(metric.over(stack, cast), values)
    assert metric(scores[:0], targets[:0]).isnan()
    assert metric(scores[:1], targets[:1]).shape == ()
    assert metric.over(stack[:0], targets).shape == (0,)
    assert metric(scores, torch.zeros_like(targets)).shape == ()
    broken = stack.clone()
    broken[1].view(-1)[3] = torch.nan
    assert torch.equal(metric.over(broken, targets).isnan(), torch.tensor([False, True, False]))
    order = torch.randperm(len(targets))
    assert torch.allclose(metric.over(stack[:, order], targets[order]), values, atol=1e-6)
    again = mg.as_metric(metric.spec)
    assert torch.equal(again.over(stack, targets), values)
    assert again.structure == metric.structure


@pytest.mark.parametrize(("spec", "kind"), CASES)
def test_weights_of_one_are_no_weights_and_weights_of_two_are_two_rows(spec, kind):
    metric = mg.as_metric(spec)
    scores, targets = draw(kind)
    if "sample_weight" not in metric.context:
        with pytest.raises(mg.MetricgradError, match="takes no 'sample_weight'"):
            metric(scores, targets, sample_weight=torch.ones(len(targets)))
        return
    plain = metric(scores, targets)
    assert torch.allclose(metric(scores, targets, sample_weight=torch.ones(len(targets))), plain)
    if "groups" in metric.context and targets.ndim == scores.ndim == 1:
        return  # one query: see test_query_weights
    twice = torch.cat([scores, scores[:7]]), torch.cat([targets, targets[:7]])
    weight = torch.ones(len(targets))
    weight[:7] = 2
    assert torch.allclose(metric(scores, targets, sample_weight=weight), metric(*twice), atol=1e-6)


def moved(scores: torch.Tensor, metric: mg.Metric, kind: str) -> torch.Tensor:
    """Scores changed in every way that the declared structure says does not matter."""
    structure = metric.structure
    assert structure is not None
    if structure.kind == "labels":
        if kind != "classes":
            return torch.where(scores > 0, 1.0, -1.0) * (0.1 + torch.rand(scores.shape))
        fresh = torch.rand(scores.shape)
        return fresh.scatter(1, scores.argmax(1, keepdim=True), 2.0)
    if structure.kind == "peak":
        fresh = torch.rand(len(scores), 30)
        return fresh.scatter(1, scores.flatten(1).argmax(1, keepdim=True), 2.0).reshape(scores.shape)
    if structure.kind == "tokens":
        fresh = torch.rand(scores.shape)
        return fresh.scatter(2, scores.argmax(2, keepdim=True), 2.0)
    if structure.kind == "span_ends":  # the best sum of a start and an end
        return scores * (0.5 + torch.rand(len(scores), 1, 1)) + torch.randn(len(scores), 2, 1)
    if structure.kind == "top_k":
        inside = scores.argsort(1, descending=True).argsort(1) < structure.params["k"]
        return torch.rand(scores.shape) + inside.float()
    if structure.kind in ("neighbours", "clusters"):
        turned = scores @ torch.linalg.qr(torch.randn(4, 4)).Q
        return turned * (0.5 + torch.rand(len(scores), 1))
    within = structure.params["two_d"] if kind != "flat" else "all"
    if within == "row":
        return scores * (0.5 + torch.rand(len(scores), 1)) + torch.randn(len(scores), 1)
    if within == "column" and kind == "columns":
        return scores * (0.5 + torch.rand(1, 4)) + torch.randn(1, 4)
    if within == "column":  # one class against the rest: the order of the softmax probabilities
        mixed = 0.3 * scores.double().softmax(-1) + 0.7 * torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
        return mixed.log()
    return scores * 3 + 1


def ideal(targets: torch.Tensor, kind: str) -> torch.Tensor:
    """Scores that could not be better."""
    if kind == "maps":
        return torch.eye(30)[targets[:, 1] * 6 + targets[:, 0]].reshape(-1, 5, 6)
    if kind == "spans":
        return torch.eye(6)[targets]
    return torch.eye(4)[targets] if kind in ("classes", "sentences") else targets.float()


@pytest.mark.parametrize(("spec", "kind"), CASES)
def test_declared_structure_is_true(spec, kind):
    metric = mg.as_metric(spec)
    assert metric.structure is not None
    if metric.structure.kind == "differentiable":
        return
    scores, targets = draw(kind)
    value = float(metric(scores, targets))
    assert float(metric(moved(scores, metric, kind), targets)) == pytest.approx(value, abs=1e-6)
    assert metric(ideal(targets, kind), targets) >= value


@pytest.mark.parametrize(("spec", "kind"), CASES)
def test_label_changes_of_exchangeable_entries_are_worth_the_same(spec, kind):
    metric = mg.as_metric(spec)
    assert metric.structure is not None
    if metric.structure.kind != "labels":
        return
    scores, targets = draw(kind, n=12)
    predicted = scores.argmax(1) if kind == "classes" else (scores > 0).long()
    changed, stratum = [], []
    for place in range(targets.numel()):
        other = scores.clone()
        if kind == "classes":
            other[place] = torch.eye(4)[(predicted[place] + 1) % 4]
        else:
            other.view(-1)[place] *= -1
        changed.append(other)
        cell = int(targets.view(-1)[place] * 4 + predicted.view(-1)[place])
        over = metric.structure.exchangeable if kind == "columns" else "all"
        stratum.append((cell, {"all": 0, "row": place // 4, "column": place % 4}[over]))
    values = metric.over(torch.stack(changed), targets)
    shared = 0
    for key in set(stratum):
        same = values[torch.tensor([k == key for k in stratum])]
        shared += len(same) - 1
        assert torch.allclose(same, same[:1].expand_as(same), atol=1e-6)
    assert shared > 0


@pytest.mark.parametrize(("spec", "kind"), CASES)
def test_positives_may_be_swapped_and_negatives_may_be_swapped(spec, kind):
    metric = mg.as_metric(spec)
    assert metric.structure is not None
    if metric.structure.kind != "positives_over_negatives" or kind == "classes":
        return
    scores, targets = draw(kind, n=40)
    over = "all" if kind == "flat" else metric.structure.params["two_d"]
    lists = {"all": lambda x: [x.view(-1)], "row": list, "column": lambda x: list(x.mT)}[over]
    other = scores.clone()
    for row, wanted in zip(lists(other), lists(targets), strict=True):
        for k in (0, 1):
            row[wanted == k] = row[wanted == k][torch.randperm(int((wanted == k).sum()))]
    assert not torch.equal(other, scores)
    assert float(metric(other, targets)) == pytest.approx(float(metric(scores, targets)), abs=1e-6)


@pytest.mark.parametrize("spec", ["auroc", "ndcg", "kendall", "map", "average_precision"])
def test_chunks_do_not_show(spec, monkeypatch):
    scores, targets = draw("columns")
    stack = torch.randn(5, *scores.shape)
    whole = mg.as_metric(spec).over(stack, targets)
    monkeypatch.setattr("metricgrad.metrics.chunks.BUDGET", 2 * scores.numel())
    assert torch.equal(mg.as_metric(spec).over(stack, targets), whole)


@pytest.mark.parametrize("spec", [*SPECS, "dice:background=True", "mean_iou:background=False"])
def test_it_can_be_pickled_with_its_loss(spec):
    """As for workers of a loader, and for processes that train apart."""
    copied = pickle.loads(pickle.dumps(mg.as_metric(spec)))
    assert copied.spec == spec
    try:
        loss = mg.UniLoss(spec)
    except mg.MetricgradError:
        return  # nothing trains on it
    assert repr(pickle.loads(pickle.dumps(loss))) == repr(loss)
