"""Batches and metrics on which a careless probe believes anything."""

import zlib

import numpy as np
import pytest
import sklearn.metrics as sk
import torch

import metricgrad as mg
from metricgrad.metrics.types import Structure
from metricgrad.refactoring.infer import infer_refactoring, probe_once
from metricgrad.refactoring.probing.caller import BUDGET
from metricgrad.refactoring.probing.probe import probe


def _rng(seed=0):
    return torch.Generator().manual_seed(seed)


def _numpy(fn, reads="labels", **fixed):
    options = {"higher_is_better": True, "inputs": "numpy", "order": "targets_first", "name": "unknown"}
    return mg.as_metric(lambda targets, read: fn(targets, read, **fixed), reads=reads, **options)


def _torch(fn, reads="scores"):
    return mg.as_metric(fn, higher_is_better=True, reads=reads, name="unknown")


def _binary(n=60, share=0.3):
    return torch.zeros(n), (torch.rand(n, generator=_rng(1)) < share).long()


def _classes(n=60, c=5):
    return torch.zeros(n, c), torch.randint(c, (n,), generator=_rng(2))


MACRO_F1 = _numpy(sk.f1_score, average="macro")
AP = _numpy(sk.average_precision_score, reads="probabilities")


def test_a_constant_metric_is_no_evidence():
    with pytest.raises(mg.MetricgradError, match=r"no evidence: it is 0\.5 on every score set"):
        infer_refactoring(_torch(lambda scores, targets: torch.tensor(0.5)), *_binary())


def test_recall_of_everything_is_no_evidence():
    metric = _numpy(sk.top_k_accuracy_score, reads="scores", k=5, labels=range(5))
    with pytest.raises(mg.MetricgradError, match="no evidence: it is 1 on every score set"):
        infer_refactoring(metric, *_classes())


def test_a_metric_that_raises_is_quoted():
    def broken(scores, targets):
        raise RuntimeError("expected targets of weekday")

    with pytest.raises(mg.MetricgradError, match="expected targets of weekday"):
        infer_refactoring(_torch(broken), *_binary())


def test_the_scores_of_an_untrained_network_do_not_matter():
    scores, targets = _classes()
    untrained = scores + torch.tensor([5.0, 0, 0, 0, 0])
    finding = probe(MACRO_F1, untrained, targets)
    assert finding == probe(MACRO_F1, torch.randn(scores.shape), targets)
    assert finding.structure == Structure("labels", "all")


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize(("metric", "kind"), [(AP, "positives_over_negatives"), (_numpy(sk.f1_score), "labels")])
def test_targets_of_one_class_are_replaced_and_noted(metric, kind, share):
    finding = probe(metric, *_binary(share=share))
    assert finding.structure is not None
    assert finding.structure.kind == kind
    assert f"every target is {share:g}" in finding.report()


def test_a_tiny_batch_is_replaced():
    finding = probe(MACRO_F1, *_classes(n=3))
    assert finding.structure == Structure("labels", "all")
    assert "3 rows are too few" in finding.report()


def test_a_missing_class_is_replaced_where_the_metric_raises():
    metric = _numpy(sk.roc_auc_score, reads="probabilities", multi_class="ovr")
    scores, targets = _classes()
    finding = probe(metric, scores, targets.clamp(max=3))
    assert finding.structure == Structure("positives_over_negatives", "none", {"within": "column"})
    assert "on the given ones the metric raised" in finding.report()


def test_exact_match_of_many_labels():
    targets = (torch.rand(40, 30, generator=_rng()) < 0.2).long()
    assert probe_once(_numpy(sk.accuracy_score), torch.zeros(40, 30), targets) == Structure("labels", "row")


@pytest.mark.parametrize(("classes", "k"), [(20, 5), (7, 6), (3, 2), (200, 10)])
def test_k_is_found(classes, k):
    metric = _numpy(sk.top_k_accuracy_score, reads="scores", k=k, labels=range(classes))
    assert probe_once(metric, *_classes(64, classes)) == Structure("top_k", "all", {"k": k})


def test_top_1_is_labels():
    metric = _numpy(sk.top_k_accuracy_score, reads="scores", k=1, labels=range(5))
    assert probe_once(metric, *_classes()).kind == "labels"


def test_rank_metrics_of_a_class_are_not_top_k():
    def mrr(scores, targets):
        return (1 / (1 + (scores > scores.gather(1, targets[:, None])).sum(1).double())).mean()

    assert probe_once(_torch(mrr), *_classes()) == Structure("positives_over_negatives", "all", {"within": "row"})


def test_weights_of_rows_forbid_exchange():
    weight = torch.rand(60, generator=_rng())

    def weighted(labels, targets):
        return ((labels == targets) * weight).sum() / weight.sum()

    assert probe_once(_torch(weighted, "labels"), *_classes()) == Structure("labels", "none")


def test_weights_of_rows_forbid_top_k():
    weight = torch.rand(60, generator=_rng())

    def weighted(scores, targets):
        return ((scores > scores.gather(1, targets[:, None])).sum(1) < 2).float() @ weight

    assert probe_once(_torch(weighted), *_classes()) == Structure("positives_over_negatives", "none", {"within": "row"})


def test_weights_of_classes_allow_top_k():
    weight = torch.rand(5, generator=_rng())

    def weighted(scores, targets):
        return ((scores > scores.gather(1, targets[:, None])).sum(1) < 2).float() @ weight[targets]

    assert probe_once(_torch(weighted), *_classes()) == Structure("top_k", "all", {"k": 2})


def _by_query(scores, targets, groups):
    values = [sk.average_precision_score(targets[groups == g], scores[groups == g]) for g in groups.unique()]
    return float(np.mean(values))


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_queries_are_found_in_groups(share):
    scores, targets = _binary(64, share)
    targets[:40:8] = int(share > 0)
    groups = torch.arange(64) // 8
    structure = probe_once(_torch(_by_query), scores, targets, groups=groups)
    assert structure == Structure("positives_over_negatives", "all", {"within": "group"})


def test_groups_that_a_metric_takes_and_ignores():
    def ap(scores, targets, groups):
        return sk.average_precision_score(targets, scores)

    structure = probe_once(_torch(ap), *_binary(64), groups=torch.arange(64) // 8)
    assert structure == Structure("positives_over_negatives", "all", {"within": "all"})


def test_a_threshold_elsewhere_is_refused():
    def f1(p, targets):
        return sk.f1_score(targets, p > 0.3)

    with pytest.raises(mg.MetricgradError, match="a threshold other than"):
        infer_refactoring(_torch(f1, "probabilities"), *_binary())


def test_labels_of_real_targets_are_refused():
    def same_sign(scores, targets):
        return ((scores > 0) == (targets > 0)).double().mean()

    with pytest.raises(mg.MetricgradError, match="only looked for with targets of 0 and 1"):
        infer_refactoring(_torch(same_sign), torch.zeros(60), torch.randn(60, generator=_rng()))


def test_a_metric_that_draws_random_numbers_is_refused():
    draws = np.random.default_rng(0)
    with pytest.raises(mg.MetricgradError, match="another value when called again"):
        infer_refactoring(_numpy(lambda targets, labels: draws.random()), *_binary())


def test_the_best_of_all_thresholds_is_an_order():
    def best_f1(targets, scores):
        return max(sk.f1_score(targets, scores >= threshold) for threshold in scores)

    structure = probe_once(_numpy(best_f1, "scores"), *_binary(40))
    assert structure == Structure("positives_over_negatives", "all", {"within": "all"})


def test_an_empty_batch_is_replaced():
    assert probe_once(AP, torch.zeros(0), torch.zeros(0, dtype=torch.long)).kind == "positives_over_negatives"
    assert probe_once(MACRO_F1, torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)).kind == "labels"


def test_a_softmax_inside_the_metric_is_pointed_out():
    def auroc(scores, targets):
        return sk.roc_auc_score(targets, scores.softmax(1), multi_class="ovr")

    with pytest.raises(mg.MetricgradError, match="say reads='probabilities'"):
        infer_refactoring(_torch(auroc), *_classes())


def test_a_gradient_that_is_blind_to_jumps_is_refused():
    def calibration_error(p, targets):
        bins = (p.detach() * 10).long()
        gaps = [(p[bins == b].sum() - targets[bins == b].sum()).abs() for b in range(11)]
        return torch.stack(gaps).sum() / len(p)

    p = torch.rand(60, requires_grad=True)
    calibration_error(p, _binary()[1]).backward()
    assert p.grad is not None
    assert bool(p.grad.any())
    with pytest.raises(mg.MetricgradError, match="its gradient is off by"):
        infer_refactoring(_torch(calibration_error, "probabilities"), *_binary())


def test_a_straight_through_gradient_does_not_hide_a_threshold():
    def accuracy(scores, targets):
        hard = (scores > 0).to(scores) + scores.sigmoid() - scores.sigmoid().detach()
        return 1 - (hard - targets).abs().mean()

    assert probe_once(_torch(accuracy), *_binary()) == Structure("labels", "all")


def test_differentiable_metrics_are_handed_back():
    def dice(p, targets):
        return 2 * (p * targets).sum() / (p.sum() + targets.sum())

    refactoring = infer_refactoring(_torch(dice, "probabilities"), *_binary())
    assert refactoring.name == "differentiable"
    assert "gradient accounts for the value" in refactoring.report()


class Counting:
    def __init__(self, fn):
        self.fn, self.calls = fn, 0

    def __call__(self, targets, read):
        self.calls += 1
        return self.fn(targets, read)


@pytest.mark.parametrize(
    ("fn", "reads"),
    [
        (sk.f1_score, "labels"),
        (sk.average_precision_score, "probabilities"),
        (sk.log_loss, "probabilities"),
        (lambda targets, p: zlib.crc32(p.tobytes()) / 2**32, "probabilities"),
        (lambda targets, p: float(p.argmax() == 0), "probabilities"),
        (lambda targets, p: 1.0, "probabilities"),
    ],
)
def test_the_budget_is_kept_and_calls_are_counted(fn, reads):
    counting = Counting(fn)
    metric = mg.as_metric(
        counting, higher_is_better=True, reads=reads, inputs="numpy", order="targets_first", name="counted"
    )
    finding = probe(metric, *_binary())
    # the call for a gradient is counted, and refused before it reaches a metric that takes arrays
    assert counting.calls <= finding.calls <= min(BUDGET, counting.calls + 1)


def test_probing_is_deterministic_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    first = probe(AP, *_binary())
    before = torch.get_rng_state()
    assert probe(AP, *_binary()) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_scores_stay_as_they_were():
    scores, targets = torch.randn(60, requires_grad=True), _binary()[1]
    copies = scores.detach().clone(), targets.clone()
    probe(AP, scores, targets)
    assert torch.equal(scores, copies[0])
    assert torch.equal(targets, copies[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_dtype(dtype):
    scores, targets = _binary()
    assert probe_once(AP, scores.to(dtype), targets).kind == "positives_over_negatives"


def test_many_items_do_not_become_ties():
    finding = probe_once(AP, *_binary(20_000))
    assert finding == Structure("positives_over_negatives", "all", {"within": "all"})


def test_many_rows_of_softmaxes_do_not_become_ties():
    metric = _numpy(sk.roc_auc_score, reads="probabilities", multi_class="ovr")
    assert probe_once(metric, *_classes(2000)) == Structure("positives_over_negatives", "none", {"within": "column"})


def test_a_metric_that_takes_only_float32():
    def accuracy(scores, targets):
        return ((scores @ torch.eye(5)).argmax(1) == targets).float().mean()

    assert probe_once(_torch(accuracy), *_classes()) == Structure("labels", "all")


def test_token_scores_and_masks():
    scores, targets = torch.zeros(8, 10, 4), torch.randint(4, (8, 10), generator=_rng())
    mask = torch.rand(8, 10, generator=_rng()) < 0.8

    def macro_f1(targets, labels, mask):
        return sk.f1_score(targets[mask], labels[mask], average="macro")

    metric = mg.as_metric(macro_f1, higher_is_better=True, reads="labels", inputs="numpy", order="targets_first")
    assert infer_refactoring(metric, scores, torch.where(mask, targets, -100), mask=mask).name == "argmax"
    with pytest.raises(mg.MetricgradError, match="has no argument 'mask'"):
        infer_refactoring(MACRO_F1, scores, targets, mask=mask)


def test_a_described_metric_is_not_probed():
    counting = Counting(sk.f1_score)
    metric = mg.as_metric("f1")
    metric._fn = counting
    refactoring = infer_refactoring(metric, *_binary())
    assert (refactoring.name, counting.calls) == ("threshold", 0)
    assert "described" in refactoring.report()


@pytest.mark.parametrize(
    ("metric", "data", "name"),
    [
        ("f1", _binary, "threshold"),
        ("macro_f1", _classes, "argmax"),
        ("top_k_accuracy", _classes, "top_k"),
        ("average_precision", _binary, "positives_over_negatives"),
        ("auroc", _classes, "positives_over_negatives"),
        ("log_loss", _binary, "differentiable"),
    ],
)
def test_built_in_metrics_are_found_without_their_description(metric, data, name):
    known = mg.as_metric(metric)
    found = infer_refactoring(known.undescribed(), *data())
    described = infer_refactoring(known, *data())
    assert found.name == described.name == name
    assert vars(found).get("within") == vars(described).get("within")
