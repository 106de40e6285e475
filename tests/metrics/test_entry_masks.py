"""Labels that are missing by entry: an average over columns, or rows, goes over what each of them has."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
import torch

import metricgrad as mg
from metricgrad.refactoring.ranking.rankings import PositivesOverNegatives


def _recall_at(y, s, precision):
    found = [0.0]
    for threshold in s:
        chosen = s >= threshold
        if y[chosen].mean() >= precision:
            found.append(y[chosen].sum() / y.sum())
    return max(found)


def _labels(fn):
    return lambda y, s: fn(y, s > 0)


COLUMNS = {
    "macro_f1": _labels(sk.f1_score),
    "fbeta:beta=2,average=macro": _labels(lambda y, p: sk.fbeta_score(y, p, beta=2)),
    "jaccard:average=macro": _labels(sk.jaccard_score),
    "auroc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "recall_at_precision:precision=0.7": lambda y, s: _recall_at(y, s, 0.7),
}
VALUES = {
    "mse": sk.mean_squared_error,
    "mae": sk.mean_absolute_error,
    "r2": sk.r2_score,
    "spearman": lambda y, s: scipy.stats.spearmanr(y, s)[0],
    "kendall": lambda y, s: scipy.stats.kendalltau(y, s)[0],
}
ROWS = {
    "accuracy": lambda y, s: float(((s > 0) == y).all()),
    "samples_f1": _labels(lambda y, p: sk.f1_score(y, p, zero_division=0)),
    "jaccard:average=samples": _labels(lambda y, p: sk.jaccard_score(y, p, zero_division=0)),
}
POOLED = {
    "f1": sk.f1_score,
    "micro_f1": sk.f1_score,
    "fbeta:beta=2,average=micro": lambda y, p: sk.fbeta_score(y, p, beta=2),
    "jaccard": sk.jaccard_score,
    "jaccard:average=micro": sk.jaccard_score,
}


def _batch(spec, n=24, columns=4):
    g = torch.Generator().manual_seed(7)
    scores = torch.randn(n, columns, generator=g, dtype=torch.float64)
    targets = (scores + torch.randn(n, columns, generator=g)) if spec in VALUES else None
    if targets is None:
        targets = (torch.rand(n, columns, generator=g) < 0.5).long()
    return scores, targets, torch.rand(n, columns, generator=g) < 0.7


@pytest.mark.parametrize("spec", [*COLUMNS, *VALUES, *ROWS])
def test_an_average_goes_over_what_each_column_or_row_has(spec):
    scores, targets, mask = _batch(spec)
    mask[:, 3] = False  # nobody knows this label: it is no column at all
    mask[5] = False
    y, s, m = targets.numpy(), scores.numpy(), mask.numpy()
    oracle = {**COLUMNS, **VALUES, **ROWS}[spec]
    lines = zip(y, s, m, strict=True) if spec in ROWS else zip(y.T, s.T, m.T, strict=True)
    expected = np.mean([oracle(a[kept], b[kept]) for a, b, kept in lines if kept.any()])
    metric = mg.as_metric(spec)
    assert float(metric(scores, targets, mask=mask)) == pytest.approx(expected)
    nonsense = torch.where(mask, targets.double(), torch.nan), torch.where(mask, scores, torch.nan)
    assert float(metric(nonsense[1], nonsense[0], mask=mask)) == pytest.approx(expected)
    assert metric(scores, targets, mask=mask & ~mask).isnan()
    assert metric(scores, targets, mask=mask | ~mask) == pytest.approx(float(metric(scores, targets)))


@pytest.mark.parametrize("spec", POOLED)
def test_entries_that_count_together_are_each_a_yes_or_a_no(spec):
    scores, targets, mask = _batch(spec)
    weight = torch.arange(len(scores)) % 3 + 1.0
    each = weight[:, None].expand(mask.shape)[mask]
    kept = (targets[mask].numpy(), (scores[mask] > 0).numpy())
    beta = 2 if spec.startswith("fbeta") else 1
    score = sk.jaccard_score if spec.startswith("jaccard") else lambda y, p, **w: sk.fbeta_score(y, p, beta=beta, **w)
    metric = mg.as_metric(spec)
    assert float(metric(scores, targets, mask=mask)) == pytest.approx(POOLED[spec](*kept))
    found = metric(scores, targets, mask=mask, sample_weight=weight)
    assert float(found) == pytest.approx(score(*kept, sample_weight=each.numpy()))
    assert metric(scores, targets, mask=mask | ~mask) == pytest.approx(float(metric(scores, targets)))


def test_an_average_of_another_library_is_not_taken_of_both_answers():
    scores, targets, mask = _batch("f1")
    binary = mg.as_metric(sk.f1_score)(scores, targets, mask=mask)
    assert float(binary) == pytest.approx(sk.f1_score(targets[mask], scores[mask] > 0))
    for fn in (sk.f1_score, sk.jaccard_score):
        metric = mg.as_metric(fn, average="micro")  # of one list it is the accuracy, and its Jaccard index
        with pytest.raises(mg.MetricgradError, match="mask whole rows, take a built-in metric such as 'micro_f1'"):
            metric(scores, targets, mask=mask)
        rows = mask[:, 0]
        expected = fn(targets[rows], scores[rows] > 0, average="micro")
        assert float(metric(scores, targets, mask=rows)) == pytest.approx(expected)


@pytest.mark.parametrize("spec", [*COLUMNS, *ROWS, "mse", "mae"])
def test_weights_count_rows_of_which_some_entries_are_missing(spec):
    scores, targets, mask = _batch(spec)
    weight = torch.arange(len(scores)) % 3 + 1
    found = mg.as_metric(spec)(scores, targets, mask=mask, sample_weight=weight)
    scores, targets, mask = (x.repeat_interleave(weight, 0) for x in (scores, targets, mask))
    assert float(found) == pytest.approx(float(mg.as_metric(spec)(scores, targets, mask=mask)))


@pytest.mark.parametrize("spec", [*COLUMNS, *VALUES, *ROWS, "f1", "mean_iou", "log_loss", "ndcg", "map"])
def test_a_missing_entry_has_no_gradient_and_changes_nothing(spec):
    scores, targets, mask = _batch(spec, n=12)

    def trained(scores, targets):
        scores = scores.clone().requires_grad_()
        value = mg.UniLoss(spec, softness=1.0)(scores, targets, mask=mask)
        (gradient,) = torch.autograd.grad(value, scores)
        return value.detach(), gradient

    value, gradient = trained(scores, targets)
    assert gradient[~mask].abs().max() == 0
    assert gradient[mask].abs().sum() > 0
    other = trained(torch.where(mask, scores, 9.0), torch.where(mask, targets, 1))
    assert torch.equal(value, other[0])
    assert torch.equal(gradient, other[1])


@pytest.mark.parametrize("spec", ["macro_f1", "auroc", "samples_f1"])
def test_a_metric_nobody_describes_keeps_its_columns(spec):
    (scores, targets, mask), metric = _batch(spec, n=40), mg.as_metric(spec)
    unknown = metric.undescribed()
    assert unknown(scores, targets, mask=mask) == metric(scores, targets, mask=mask)
    scores.requires_grad_()
    (gradient,) = torch.autograd.grad(mg.UniLoss(unknown)(scores, targets, mask=mask), scores)
    assert gradient[~mask].abs().max() == 0
    assert gradient[mask].abs().max() > 0


def test_a_refactoring_of_columns_is_not_handed_a_list():
    scores, targets, mask = _batch("auroc")
    loss = mg.UniLoss("auroc", refactoring=PositivesOverNegatives(within="column"))
    with pytest.raises(mg.MetricgradError, match="leave refactoring= out"):
        loss(scores, targets, mask=mask)


def test_a_metric_that_cannot_tell_columns_apart_refuses():
    scores, targets, mask = _batch("")
    with pytest.raises(mg.MetricgradError, match="mask whole rows"):
        mg.as_metric(sk.f1_score, average="macro")(scores, targets, mask=mask)
