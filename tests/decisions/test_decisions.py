"""Each decision against brute force, and what it does to scores."""

import itertools

import pytest
import torch

import metricgrad as mg
from metricgrad.decisions import (
    DECISIONS,
    AtPrecision,
    AtRecall,
    Identity,
    LabelThresholds,
    Masks,
    Offsets,
    OrdinalCuts,
    PlugIn,
    Threshold,
    TopK,
    build,
)
from metricgrad.decisions.labels import quantiles
from metricgrad.metrics.utilities import called_of_labels, slopes_of_labels


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes(n: int, c: int, seed: int = 0, spread: float = 1.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of some skill, and targets of which the higher are rarer."""
    g = torch.Generator().manual_seed(seed)
    targets = torch.multinomial(0.6 ** torch.arange(c, dtype=torch.float64), n, replacement=True, generator=g)
    return torch.randn(n, c, generator=g) + spread * torch.nn.functional.one_hot(targets, c), targets


@pytest.mark.parametrize("metric", ["f1", "mcc", "g_mean", "balanced_accuracy"])
def test_a_threshold_is_the_best_of_all_cuts(metric):
    g = torch.Generator().manual_seed(1)
    targets = (torch.rand(60, generator=g) < 0.3).long()
    scores = torch.randn(60, generator=g) + targets
    judged_by = mg.as_metric(metric)
    every = max(float(torch.nan_to_num(judged_by(scores - cut, targets), -1)) for cut in [*(scores - 1e-4), 0.0])
    assert float(judged_by(Threshold.fit(judged_by, scores, targets)(scores), targets)) == pytest.approx(every)


def test_thresholds_of_labels_are_at_least_as_good_as_one_for_all():
    targets = (drawn(200, 3, seed=1) > torch.tensor([0.0, 0.5, -0.5])).long()
    scores = drawn(200, 3, seed=2) + 3 * targets + torch.tensor([0.0, -3.0, 3.0])
    metric = mg.as_metric("macro_f1")
    one, each = (d.fit(metric, scores, targets) for d in (Threshold, LabelThresholds))
    assert float(metric(each(scores), targets)) > float(metric(one(scores), targets)) + 0.05


def test_offsets_of_two_classes_are_a_threshold():
    scores, targets = classes(50, 2)
    metric = mg.as_metric("macro_f1")
    best = max(float(metric(scores + torch.tensor([0.0, b]), targets)) for b in torch.linspace(-5, 5, 2001))
    assert float(metric(Offsets.fit(metric, scores, targets)(scores), targets)) == pytest.approx(best)


def test_offsets_are_those_of_three_whole_passes_in_fewer_calls():
    scores, targets = classes(100, 4, seed=1)
    scores, calls = scores.double(), []

    def recall(labels, targets):
        calls.append(1)
        return torch.stack([(labels[targets == c] == c).float().mean() for c in range(4)]).mean()

    offsets, best = torch.zeros(4, dtype=torch.float64), -1.0
    for c in [0, 1, 2, 3] * 3:
        needed = (scores + offsets).index_fill(1, torch.tensor([c]), -torch.inf).amax(1) - scores[:, c]
        for offset in [offsets[c].clone(), *quantiles(needed, 8)]:
            tried = offsets.index_fill(0, torch.tensor([c]), float(offset))
            if (value := float(recall((scores + tried).argmax(1), targets))) > best:
                best, better = value, tried
        offsets = better
    whole = len(calls)
    metric = mg.as_metric(recall, higher_is_better=True, reads="labels")
    torch.testing.assert_close(Offsets.fit(metric, scores, targets).offsets, offsets - offsets.mean())
    assert len(calls) - whole < whole / 2


def test_ordinal_cuts_decide_by_the_interval_of_the_expected_grade():
    scores = drawn(40, 4) * 2
    decision = OrdinalCuts([0.5, 1.2, 2.0], beta=0.7)
    grade = ((0.7 * scores).softmax(1) * torch.arange(4)).sum(1)
    expected = (grade[:, None] > torch.tensor([0.5, 1.2, 2.0])).sum(1)
    assert torch.equal(decision.predict(scores), expected)
    assert bool(((decision(scores) > 0).sum(1) == 1).all())


def test_ordinal_cuts_are_the_best_of_a_grid_where_there_are_three_grades():
    scores, targets = classes(60, 3, spread=1.0)
    metric = mg.as_metric("quadratic_kappa")
    grid = torch.linspace(0.05, 1.95, 39, dtype=torch.float64).tolist()
    beta = OrdinalCuts.fit(metric, scores, targets).beta
    best = max(float(metric(OrdinalCuts([a, b], beta)(scores), targets)) for a, b in itertools.combinations(grid, 2))
    assert float(metric(OrdinalCuts.fit(metric, scores, targets)(scores), targets)) > best - 0.02


@pytest.mark.parametrize(
    "metric",
    [
        "accuracy",
        "macro_f1",
        "balanced_accuracy",
        "kappa",
        "quadratic_kappa:num_classes=4",
        "mcc",
        "micro_f1",
        "g_mean",
    ],
)
def test_utilities_are_the_change_of_the_metric_when_few_rows_move(metric):
    scores, targets = classes(4000, 4)
    labels, judged_by = scores.argmax(1), mg.as_metric(metric)
    found = slopes_of_labels(judged_by, labels, targets, 4, of=torch.arange(4))
    for y in range(4):
        rows = (targets == y).nonzero()[:, 0]
        one = rows[labels[rows] == y][:1]  # a row that is right now goes to each class
        values = []
        for b in range(4):
            moved = labels.clone()
            moved[one] = b
            values.append(float(judged_by(torch.nn.functional.one_hot(moved, 4).float().double(), targets)))
        moved = torch.tensor(values, dtype=torch.float64) - values[y]
        torch.testing.assert_close((found[y] - found[y, y]), moved * 4000, rtol=0.03, atol=0.01)


def test_utilities_of_a_called_metric_are_near_the_derivative():
    scores, targets = classes(3000, 3)
    labels, metric = scores.argmax(1), mg.as_metric("macro_f1")
    exact = slopes_of_labels(metric, labels, targets, 3, of=torch.arange(3))
    for y in range(3):
        called = called_of_labels(metric, labels, targets, 3, of=y, to=torch.arange(3))
        torch.testing.assert_close(called - called.mean(), exact[y] - exact[y].mean(), rtol=0.15, atol=0.1)


def test_classes_that_were_never_seen_share_one_column():
    scores, targets = classes(200, 5)
    labels = scores.argmax(1)
    found = slopes_of_labels(mg.as_metric("macro_f1"), labels, targets, 1000, of=torch.tensor([0, 2]))
    assert found.shape == (2, 1000)
    assert bool((found[:, 5:] == found[:, 5:6]).all())
    assert found[0].argmax() == 0


def test_plug_in_decides_by_expected_utility():
    table = [[1.0, 0.0, 0.3], [0.0, 1.0, 0.2], [-1.0, 0.1, 1.0]]
    scores = drawn(30, 3)
    p = (2.0 * scores).softmax(1)
    assert torch.equal(
        PlugIn(table, beta=2.0).predict(scores), (p @ torch.tensor(table, dtype=torch.float64)).argmax(1)
    )


def test_top_k_takes_k_of_every_row_whatever_the_ties():
    scores = torch.tensor([[1.0, 1.0, 1.0, 0.0], [-5.0, -7.0, -6.0, -5.0]])
    assert TopK(2).predict(scores).sum(1).tolist() == [2, 2]
    assert TopK(9).predict(scores).sum(1).tolist() == [4, 4]


def test_operating_points_are_the_best_of_all_cuts():
    g = torch.Generator().manual_seed(3)
    targets = (torch.rand(80, generator=g) < 0.3).long()
    scores = torch.round(torch.randn(80, generator=g) + targets, decimals=1)  # with ties
    points = [((scores > c), float(c)) for c in [*scores.unique(), scores.min() - 1]]
    precision = [float((p & (targets > 0)).sum() / p.sum().clamp(min=1)) for p, _ in points]
    recall = [float((p & (targets > 0)).sum() / targets.sum()) for p, _ in points]
    positive = AtPrecision.of(0.6, scores, targets)(scores) > 0
    reached = max(r for p, r in zip(precision, recall, strict=True) if p >= 0.6)
    assert float((positive & (targets > 0)).sum() / positive.sum()) >= 0.6
    assert float((positive & (targets > 0)).sum() / targets.sum()) == pytest.approx(reached)
    positive = AtRecall.of(0.8, scores, targets)(scores) > 0
    assert float((positive & (targets > 0)).sum() / targets.sum()) >= 0.8
    assert float((positive & (targets > 0)).sum() / positive.sum()) == pytest.approx(
        max(p for p, r in zip(precision, recall, strict=True) if r >= 0.8)
    )


EXAMPLES = [
    (Identity("argmax"), (7, 4)), (Threshold(0.3), (7,)), (LabelThresholds([0.1, -0.2, 0.3]), (7, 3)),
    (TopK(2), (7, 3)), (Offsets([0.1, -0.4, 0.3]), (7, 3)), (OrdinalCuts([0.5, 1.5], 0.8), (7, 3)),
    (PlugIn([[1.0, 0.0], [0.2, 1.0]], 1.1), (7, 2)), (AtPrecision(0.9, 0.2), (7,)), (AtRecall(0.9, 0.2), (7,)),
    (Masks("iou", 0.7, -0.2), (7, 3, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("decision", "shape"), EXAMPLES, ids=lambda x: getattr(x, "kind", ""))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_decisions_keep_shape_and_dtype_and_are_built_again_from_json(decision, shape, dtype):
    scores = drawn(*shape).to(dtype)
    decided = decision(scores)
    assert decided.shape == scores.shape
    assert decided.dtype == dtype
    again = build(decision.kind, decision.config())
    assert torch.equal(again(scores), decided)
    assert torch.equal(again.predict(scores), decision.predict(scores))


def test_every_kind_is_among_the_examples():
    assert {decision.kind for decision, _ in EXAMPLES} == set(DECISIONS)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("none", {}),
        ("offsets", {"offsets": "abc"}),
        ("top_k", {"k": 0}),
        ("ordinal_cuts", {"cuts": [2, 1]}),
        ("offsets", {}),
    ],
)
def test_what_cannot_be_built_says_so(kind, config):
    with pytest.raises(mg.MetricgradError):
        build(kind, config)


def test_scores_of_another_model_are_refused():
    with pytest.raises(mg.MetricgradError, match="3 columns"):
        Offsets([0.0, 1.0, 2.0])(torch.zeros(4, 2))


@pytest.mark.parametrize("decision", [decision for decision, _ in EXAMPLES], ids=lambda d: d.kind)
def test_arrays_are_told_to_be_made_tensors(decision):
    for call in (decision, decision.predict):
        with pytest.raises(mg.MetricgradError, match=r"scores is a ndarray; pass a tensor: torch\.as_tensor\(scores\)"):
            call(torch.zeros(4, 3).numpy())
