"""Shapes, masks, context, and what is refused: the metric whatever the callable."""

from __future__ import annotations

import functools
import sys
import textwrap

import pytest
import torch
from sklearn.metrics import accuracy_score

import metricgrad as mg
from metricgrad.metrics.decoding import canonical, decode


def mean_gap(scores, targets):
    return (scores - targets).abs().mean()


def test_decoder_goes_by_shape_alone():
    scores = torch.tensor([[0.2, 0.9], [0.8, 0.1]])
    assert torch.equal(decode(scores, True, "labels"), torch.ones(2, 2, dtype=torch.long))
    assert torch.equal(decode(scores, False, "labels"), torch.tensor([1, 0]))
    assert torch.equal(decode(scores, True, "probabilities"), scores.sigmoid())
    assert torch.equal(decode(scores, False, "probabilities"), scores.softmax(-1))
    assert decode(scores, True, "scores") is scores


@pytest.mark.parametrize(
    ("scores", "targets", "expected"),
    [
        ((6,), (6,), ((6,), (6,))),
        ((6, 1), (6,), ((6,), (6,))),
        ((6, 1), (6, 1), ((6,), (6,))),
        ((6, 3), (6,), ((6, 3), (6,))),
        ((6, 3), (6, 3), ((6, 3), (6, 3))),
        ((2, 3, 4), (2, 3), ((6, 4), (6,))),
        ((2, 3, 1), (2, 3), ((2, 3), (2, 3))),
        ((2, 3, 4), (2, 3, 4), ((24,), (24,))),  # masks of images: no axis is one of labels
        ((2, 1, 3, 4), (2, 1, 3, 4), ((24,), (24,))),
        ((2, 3, 5, 4), (2, 3, 5), ((30, 4), (30,))),
    ],
)
def test_canonical_shapes(scores, targets, expected):
    found = canonical(torch.zeros(scores), torch.zeros(targets))
    assert tuple(tuple(x.shape) for x in found) == expected


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (torch.randn(4), torch.zeros(4, 1), r"squeeze\(-1\)"),
        (torch.randn(4, 3, 8, 8), torch.zeros(4, 1, 8, 8), r"the second axis .* targets.squeeze\(1\)"),
        (torch.randn(4, 3), torch.zeros(5), "expected equal shapes"),
        (torch.randn(1, 4), torch.zeros(4), r"targets\[None\]"),
        (torch.tensor(1.0), torch.tensor(1.0), "no batch axis"),
        (torch.ones(4).long(), torch.ones(4), r"scores.float\(\)"),
        ([1.0, 2.0], torch.ones(2), r"torch.as_tensor\(scores\)"),
        (torch.ones(2), [1.0, 2.0], r"torch.as_tensor\(targets\)"),
    ],
)
def test_bad_shapes_and_types_name_the_remedy(scores, targets, message):
    with pytest.raises(mg.MetricgradError, match=message):
        mg.as_metric("f1")(scores, targets)


@pytest.mark.parametrize(
    ("spec", "targets", "message"),
    [
        ("accuracy", torch.tensor([0, 1, 3]), r"classes 0 to 2.*mask="),
        ("accuracy", torch.tensor([0, 1, -100]), "mask="),
        ("auroc", torch.tensor([0, 1, 7]), "classes 0 to 2"),
        ("top_k_accuracy", torch.tensor([0.0, 0.5, 1.0]), "whole labels"),
        ("macro_f1", torch.tensor([0.0, torch.nan, 1.0]), r"NaN in 1 of 3 rows \(row 1\)"),
    ],
)
def test_class_targets_out_of_range(spec, targets, message):
    with pytest.raises(mg.MetricgradError, match=message):
        mg.as_metric(spec)(torch.randn(3, 3), targets)


@pytest.mark.parametrize("targets", [torch.tensor([-1, 1, 1]), torch.tensor([0, 1, 2])])
def test_binary_targets_out_of_range(targets):
    for spec in ("f1", "auroc", "accuracy"):
        with pytest.raises(mg.MetricgradError, match=r"targets > 0"):
            mg.as_metric(spec)(torch.randn(3), targets)


def test_mask_leaves_out_rows_even_those_no_metric_could_read():
    scores, targets = torch.randn(2, 5, 3), torch.randint(0, 3, (2, 5))
    mask = torch.rand(2, 5) > 0.3
    mask[0, 0] = True
    padded = torch.where(mask, targets, -100)
    metric = mg.as_metric("macro_f1")
    assert metric(scores, padded, mask=mask) == metric(scores[mask], targets[mask])
    weight = torch.rand(2, 5)
    assert metric(scores, padded, mask=mask, sample_weight=weight) == metric(
        scores[mask], targets[mask], sample_weight=weight[mask]
    )
    assert metric(scores, targets, sample_weight=weight) == metric(
        scores.flatten(0, 1), targets.flatten(), sample_weight=weight.flatten()
    )
    assert metric(scores, targets, mask=torch.zeros(2, 5, dtype=torch.bool)).isnan()


def test_mask_over_entries_pools_them_where_the_metric_does():
    scores, targets = torch.randn(6, 3), torch.randint(0, 2, (6, 3))
    mask = torch.rand(6, 3) > 0.3
    assert mg.as_metric("f1")(scores, targets, mask=mask) == mg.as_metric("f1")(scores[mask], targets[mask])
    for spec in ("macro_f1", "auroc", "accuracy"):
        rows = torch.arange(6) < 4
        assert mg.as_metric(spec)(scores, targets, mask=rows) == mg.as_metric(spec)(scores[:4], targets[:4])
    with pytest.raises(mg.MetricgradError, match="boolean"):
        mg.as_metric("f1")(scores, targets, mask=mask.long())


def test_context_is_checked():
    scores, targets = torch.randn(4), torch.ones(4)
    with pytest.raises(mg.MetricgradError, match="takes no 'groups', only mask, sample_weight"):
        mg.as_metric("brier")(scores, targets, groups=torch.arange(4))
    with pytest.raises(mg.MetricgradError, match="unknown context 'group'"):
        mg.as_metric("mrr")(scores, targets, group=torch.arange(4))
    with pytest.raises(mg.MetricgradError, match="one value for each row"):
        mg.as_metric("mrr")(scores, targets, groups=torch.arange(3))
    assert mg.as_metric("mrr")(scores, targets, groups=None) == 1


def test_foreign_callable():
    metric = mg.as_metric(mean_gap, higher_is_better=False)
    stack = torch.randn(3, 5)
    assert metric.name == "mean_gap"
    assert metric.spec is None
    assert metric.structure is None
    assert torch.allclose(metric.over(stack, torch.zeros(5)), stack.abs().mean(1))
    grad = torch.randn(5, requires_grad=True)
    metric.differentiable(grad, torch.zeros(5)).backward()
    assert grad.grad is not None
    assert metric(stack[0][:0], torch.zeros(0)).isnan()
    assert metric.is_better(1.0, 2.0)
    assert not metric.is_better(float("nan"), metric.worst)
    flipped = mg.as_metric(lambda t, s: (t - s).mean(), higher_is_better=True, order="targets_first", name="lead")
    assert flipped(torch.zeros(2), torch.ones(2)) == 1


def test_direction_is_asked_for_and_options_are_checked():
    with pytest.raises(mg.MetricgradError, match="never guessed"):
        mg.as_metric(mean_gap)
    with pytest.raises(mg.MetricgradError, match="reads='logits'"):
        mg.as_metric(mean_gap, higher_is_better=True, reads="logits")
    with pytest.raises(mg.MetricgradError, match="name or a callable"):
        mg.as_metric(3)
    with pytest.raises(mg.MetricgradError, match="positional"):
        mg.as_metric(functools.partial(mean_gap, 1), higher_is_better=True)
    with pytest.raises(mg.MetricgradError, match="did you mean"):
        mg.as_metric("acuracy")
    with pytest.raises(mg.MetricgradError, match="takes k"):
        mg.as_metric("recall_at_k:n=3")


def test_a_finished_metric_passes_through_and_changes_only_name_and_direction():
    metric = mg.as_metric("f1")
    assert mg.as_metric(metric) is metric
    named = mg.as_metric("f1", name="mine")
    assert (named.name, named.spec) == ("mine", "f1")
    reversed_ = mg.as_metric("f1", higher_is_better=False)
    assert not reversed_.higher_is_better
    assert reversed_.spec is None
    for options in ({"reads": "scores"}, {"average": "macro"}):
        with pytest.raises(mg.MetricgradError, match="finished"):
            mg.as_metric(metric, **options)


def test_undescribed_drops_the_structure_and_the_string_that_builds_it_again():
    metric = mg.as_metric("macro_f1")
    bare = metric.undescribed()
    assert bare.structure is None
    assert metric.structure is not None
    scores, targets = torch.randn(9, 3), torch.arange(9) % 3
    assert bare(scores, targets) == metric(scores, targets)
    assert bare.spec is None
    assert metric.spec == "macro_f1"


def test_partials_are_unwrapped_with_the_outermost_winning():
    inner = functools.partial(accuracy_score, normalize=True)
    metric = mg.as_metric(functools.partial(inner, normalize=False))
    assert metric(torch.tensor([1.0, 1.0, -1.0]), torch.tensor([1, 1, 1])) == 2


def test_metrics_by_import(tmp_path, monkeypatch):
    scores, targets = torch.randn(20), torch.arange(20) % 2
    f1 = float(mg.as_metric("f1")(scores, targets))
    assert float(mg.as_metric("sklearn.metrics:f1_score")(scores, targets)) == pytest.approx(f1)
    assert float(mg.as_metric("sklearn.metrics:fbeta_score:beta=1.0")(scores, targets)) == pytest.approx(f1)
    assert float(mg.as_metric("torchmetrics:F1Score:task=binary")(scores, targets)) == pytest.approx(f1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_code_here.py").write_text(
        textwrap.dedent("""
            def fn(scores, targets):
                return (scores * targets).sum()

            class Box:
                fn = staticmethod(fn)
        """)
    )
    for spec in ("own_code_here:fn", "own_code_here:Box.fn", "own_code_here.py:fn", f"{tmp_path}/own_code_here.py:fn"):
        assert mg.as_metric(spec, higher_is_better=True)(torch.ones(2), torch.ones(2)) == 2
    for spec in ("own_code_here:gone", "no_such_package_here:fn", "no.such:", "gone.py:fn", "own_code_here.py:"):
        with pytest.raises(mg.MetricgradError, match="importable from where you stand"):
            mg.as_metric(spec, higher_is_better=True)


def test_a_broken_torchmetrics_is_explained(tmp_path, monkeypatch):
    (tmp_path / "torchmetrics_broken_here.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(mg.MetricgradError, match="nms does not exist"):
        mg.as_metric("torchmetrics_broken_here:fn")
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(mg.MetricgradError, match="torchvision that does not match"):
        mg.as_metric("torchmetrics:AUROC")


def test_options_in_the_spec():
    metric = mg.as_metric("tests.metrics.test_metric:mean_gap:higher_is_better=False,reads=probabilities,name=gap")
    assert (metric.higher_is_better, metric.reads, metric.name) == (False, "probabilities", "gap")
    with pytest.raises(mg.MetricgradError, match="fn:higher_is_better=True"):
        mg.as_metric("tests.metrics.test_metric:mean_gap")


def test_errors_inside_a_callable_say_how_it_was_called():
    def broken(scores, targets):
        raise KeyError("x")

    with pytest.raises(mg.MetricgradError, match=r"broken.*labels.*KeyError.*shape \(3,\)"):
        mg.as_metric(broken, higher_is_better=True, reads="labels")(torch.randn(3), torch.ones(3))
    for value in ({"f1": 1.0}, torch.ones(3), [1.0, 2.0]):
        with pytest.raises(mg.MetricgradError, match="one number"):
            mg.as_metric(lambda s, t, value=value: value, higher_is_better=True)(torch.randn(3), torch.ones(3))
    with pytest.raises(mg.MetricgradError, match="no autograd graph"):
        mg.as_metric(accuracy_score).differentiable(torch.randn(3), torch.ones(3))


def test_numpy_callables_take_half_precision_and_context():
    def weighted(scores, targets, sample_weight):
        return ((scores > 0) == targets) @ sample_weight

    metric = mg.as_metric(weighted, higher_is_better=True, inputs="numpy")
    assert metric.context == {"sample_weight"}
    found = metric(torch.tensor([1.0, -1.0]).bfloat16(), torch.ones(2), sample_weight=torch.tensor([3.0, 5.0]))
    assert found == 3


@pytest.mark.parametrize("said", ["no", "false", 0, 1])
def test_a_direction_is_a_bool(said):
    with pytest.raises(mg.MetricgradError, match="higher_is_better"):
        mg.as_metric(lambda scores, targets: 0.0, higher_is_better=said)
    if isinstance(said, str):
        with pytest.raises(mg.MetricgradError, match="higher_is_better"):
            mg.as_metric(f"tests.metrics.callables:share_right:higher_is_better={said}")
