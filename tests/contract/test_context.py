"""What comes along with a batch changes a value as it says, or is refused: nothing of it is ignored, anywhere."""

import numpy as np
import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad import Loss
from metricgrad.losses.baselines.task_loss import TaskLoss
from metricgrad.losses.composite.hand_made import HandMade
from metricgrad.losses.composite.mix import Mix
from metricgrad.losses.composite.residual import LearnedRate, Residual
from metricgrad.losses.composite.scaled import Scaled
from metricgrad.losses.families.classification import ClassificationFamily
from metricgrad.metrics.context import CONTEXT
from metricgrad.systems.by_name import REGISTRY, make_loss
from tests.contract import registry
from tests.contract.registry import LOSSES
from tests.metrics.test_contract import CASES, draw

_DATA = {
    "binary": registry.binary,
    "multiclass": registry.multiclass,
    "multilabel": registry.multilabel,
    "regression": registry.regression,
    "retrieval": registry.embeddings,
    "keypoints": registry.heat_maps,
    "tokens": registry.sentences,
    "spans": registry.spans,
}
_NEEDS_MORE = ("proxy_anchor", "retrieval_smooth_ap")  # numbers of classes, classes of one size


def _named():
    """Every loss of the catalogue on every kind of problem it serves."""
    metric = {"retrieval": "map_at_r", "keypoints": "pck", "tokens": "bleu", "spans": "span_f1", "regression": "mae"}
    for name, entry in REGISTRY.items():
        for kind in sorted(entry.kinds):
            if name not in _NEEDS_MORE and not (name == "reloss" and kind in ("tokens", "retrieval", "spans")):
                judged = metric.get(kind, "accuracy")
                yield f"{name} of {kind}", (lambda name=name, judged=judged: make_loss(name, judged)), _DATA[kind]


ALL = {
    **LOSSES,
    **{name: (make, data) for name, make, data in _named()},
    "cross_entropy balanced": (lambda: make_loss("cross_entropy:weighting=balanced", "accuracy"), registry.multilabel),
    "cross_entropy balanced classes": (
        lambda: make_loss("cross_entropy:weighting=balanced", "accuracy"),
        registry.multiclass,
    ),
    "task loss": (TaskLoss, registry.multiclass),
    "task loss of values": (TaskLoss, registry.regression),
    "hand-made torch loss": (lambda: Loss(HandMade(nn.CrossEntropyLoss())), registry.multiclass),
    "hand-made own loss": (lambda: Loss(HandMade(make_loss("focal", "f1"))), registry.binary),
    "scaled hand-made": (lambda: Loss(Scaled(HandMade(nn.BCEWithLogitsLoss()))), registry.multilabel),
    "mix of hand-made": (
        lambda: Loss(Mix([HandMade(make_loss("lovasz", "f1")), HandMade(make_loss("soft_f_beta", "f1"))])),
        registry.multiclass,
    ),
    "mix with a family": (
        lambda: Loss(Mix([ClassificationFamily(turns=()), HandMade(nn.CrossEntropyLoss())])),
        registry.multiclass,
    ),
    "residual on torch": (lambda: Loss(Residual(nn.CrossEntropyLoss())), registry.multiclass),
    "learned rate": (lambda: Loss(LearnedRate("task")), registry.multiclass),
}
_SEEN = 32


@pytest.fixture(params=ALL, name="loss_and_data")
def _loss_and_data(request):
    make, data = ALL[request.param]
    try:
        loss = make()
    except mg.MetricgradError as error:
        pytest.skip(str(error))  # an extra that is not installed
    return loss.eval(), data(_SEEN, torch.float64), make


def _context(name, targets):
    g = torch.Generator().manual_seed(2)
    return {
        "mask": torch.arange(len(targets)) % 4 > 0,
        "sample_weight": torch.randint(1, 4, (len(targets),), generator=g),
        "groups": torch.arange(len(targets)).sqrt().long(),  # of different sizes, whose mean is not that of all
        "head_sizes": 0.5 + torch.rand(len(targets), generator=g),
    }[name]


def _value_and_gradient(loss, scores, targets, **context):
    scores = scores.clone().requires_grad_()
    value = loss(scores, targets, **context)
    (gradient,) = torch.autograd.grad(value, scores, allow_unused=True)
    return value.detach(), torch.zeros_like(scores) if gradient is None else gradient


def test_a_mask_is_as_if_the_rows_were_not_there(loss_and_data):
    loss, (scores, targets), make = loss_and_data
    mask = _context("mask", targets)
    if scores.shape[1:] == (4, 7):  # sentences: what is masked is padding, and stays as an empty sentence
        pytest.skip("see test_token_cross_entropy and test_bleu")
    value, gradient = _value_and_gradient(loss, scores, targets, mask=mask)
    expected, of_rest = _value_and_gradient(make().eval(), scores[mask], targets[mask])
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[mask], of_rest)
    assert gradient[~mask].abs().sum() == 0


def test_a_mask_of_nothing_is_an_empty_batch(loss_and_data):
    loss, (scores, targets), _ = loss_and_data
    value, gradient = _value_and_gradient(loss, scores, targets, mask=torch.zeros(len(targets), dtype=torch.bool))
    if any(isinstance(part, HandMade) for part in loss.modules()):
        return  # torch's own mean over nothing
    assert value == 0
    assert gradient.abs().sum() == 0


@pytest.mark.parametrize("name", sorted({*CONTEXT} - {"mask"}))
def test_context_counts_or_is_refused(loss_and_data, name):
    loss, (scores, targets), make = loss_and_data
    context = {name: _context(name, targets)}
    said = _refusal(loss, scores, targets, **context)
    if said is not None:
        assert name in said or "weigh" in said
        return
    value, _ = _value_and_gradient(make().eval(), scores, targets, **context)
    assert value != _value_and_gradient(make().eval(), scores, targets)[0]
    if name == "sample_weight" and not any("Interpolated" in type(part).__name__ for part in loss.modules()):
        copies = context[name]
        repeated = scores.repeat_interleave(copies, 0), targets.repeat_interleave(copies, 0)
        torch.testing.assert_close(value, _value_and_gradient(make().eval(), *repeated)[0])
        everyone = _value_and_gradient(make().eval(), scores, targets, sample_weight=copies * (copies > 1))
        kept = copies > 1
        torch.testing.assert_close(
            everyone[0], _value_and_gradient(make().eval(), scores[kept], targets[kept], sample_weight=copies[kept])[0]
        )
        assert everyone[1][~kept].abs().sum() == 0


def _refusal(call, *args, **context):
    """What the MetricgradError says, or None where there is none; anything else is raised."""
    try:
        call(*args, **context)
    except mg.MetricgradError as error:
        return str(error)
    return None


_N = _SEEN
WRONG = {
    "an unknown name": {"weights": torch.ones(_N)},
    "a mask of floats": {"mask": torch.rand(_N)},
    "a mask of integers": {"mask": torch.ones(_N).long()},
    "a short mask": {"mask": torch.ones(_N - 1, dtype=torch.bool)},
    "a mask (N, 1)": {"mask": torch.ones(_N, 1, 1, 1, dtype=torch.bool)},
    "a mask with no axis": {"mask": torch.tensor(True)},
    "a mask that is a list": {"mask": [True] * _N},
    "a mask that is an array": {"mask": np.ones(_N, bool)},
    "NaN weights": {"sample_weight": torch.full((_N,), torch.nan)},
    "one NaN weight": {"sample_weight": torch.ones(_N).index_fill(0, torch.tensor([3]), torch.nan)},
    "infinite weights": {"sample_weight": torch.ones(_N).index_fill(0, torch.tensor([3]), torch.inf)},
    "negative weights": {"sample_weight": torch.ones(_N).index_fill(0, torch.tensor([3]), -1)},
    "no weight at all": {"sample_weight": torch.zeros(_N)},
    "huge weights": {"sample_weight": torch.full((_N,), 1e300, dtype=torch.float64)},
    "tiny weights": {"sample_weight": torch.full((_N,), 1e-300, dtype=torch.float64)},
    "complex weights": {"sample_weight": torch.ones(_N) + 1j},
    "weights (N, 1)": {"sample_weight": torch.ones(_N, 1, 1, 1)},
    "weights that are a list": {"sample_weight": [1.0] * _N},
    "float groups": {"groups": torch.zeros(_N)},
    "negative groups": {"groups": torch.arange(_N) - 1},
    "groups (N, 1)": {"groups": torch.zeros(_N, 1, 1, 1, dtype=torch.long)},
    "short groups": {"groups": torch.zeros(_N - 1, dtype=torch.long)},
    "named groups": {"groups": ["a"] * _N},
    "head sizes of 0": {"head_sizes": torch.zeros(_N)},
    "NaN head sizes": {"head_sizes": torch.full((_N,), torch.nan)},
    "short head sizes": {"head_sizes": torch.ones(_N - 1)},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_no_loss_takes_wrong_context(wrong):
    for name, (make, data) in ALL.items():
        if name.startswith(("proxy", "multi_similarity", "fast_ap", "reloss")):
            continue
        said = _refusal(make(), *data(_SEEN, torch.float32), **WRONG[wrong])
        assert next(iter(WRONG[wrong])) in str(said), name


@pytest.mark.parametrize(("spec", "kind"), CASES)
def test_no_metric_takes_wrong_context(spec, kind):
    scores, targets = draw(kind)
    metric, size = mg.as_metric(spec), len(targets)
    for wrong, context in WRONG.items():
        ((name, value),) = context.items()
        if isinstance(value, torch.Tensor) and value.ndim:
            value = value.repeat(2 + size // _SEEN, *[1] * (value.ndim - 1))[: size - (len(value) < _SEEN)]
        assert name in str(_refusal(metric, scores, targets, **{name: value})), wrong


def test_fits_and_comparisons_check_groups_and_take_nothing_else():
    scores, targets = registry.gains(64, torch.float32)
    calls = (
        lambda **context: mg.ReLoss.fit("ndcg", scores, targets, **context),
        lambda **context: mg.mismatch(nn.MSELoss(), "ndcg", scores, targets, **context),
    )
    for call in calls:
        for groups in (targets.float(), targets - 9, targets[:9], targets[:, None, None], ["a"] * 64):
            assert "groups" in str(_refusal(call, groups=groups))
        for name in ("mask", "sample_weight", "weights"):
            assert f"'{name}'" in str(_refusal(call, **{name: targets}))


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "soft_f_beta", "pairwise_logistic", "smooth_ap", "lovasz"])
def test_a_missing_label_costs_nothing_in_the_column_it_is_missing_from(name):
    scores, targets = registry.multilabel(20, torch.float64)
    loss, mask = make_loss(name, "f1"), torch.rand(20, 4, generator=torch.Generator().manual_seed(5)) < 0.7
    value, gradient = _value_and_gradient(loss, scores, targets, mask=mask)
    columns = [loss(scores[m, c], targets[m, c]) for c, m in enumerate(mask.unbind(1))]
    kept = mask.sum(0) if name in ("cross_entropy", "focal") else torch.ones(4)  # those are means over entries
    torch.testing.assert_close(value, (torch.stack(columns) * kept).sum() / kept.sum())
    assert gradient[~mask].abs().max() == 0
    assert gradient[mask].abs().min() > 0 or name == "lovasz"
    unknown = torch.where(mask, scores, torch.nan), torch.where(mask, targets.double(), torch.nan)
    torch.testing.assert_close(loss(*unknown, mask=mask), value)


def test_a_loss_that_reads_whole_columns_says_so_of_missing_labels():
    scores, targets = registry.multilabel(20, torch.float64)
    for make in (LOSSES["set network macro_f1 multilabel"][0], LOSSES["ala multilabel"][0]):
        with pytest.raises(mg.MetricgradError, match="mask whole rows"):
            make()(scores, targets, mask=scores > 0)
    for name in ("probability network multilabel", "adalfl multilabel"):
        loss, mask = LOSSES[name][0]().eval(), scores > 0
        torch.testing.assert_close(loss(scores, targets, mask=mask), loss(scores[mask], targets[mask]))


def test_groups_of_any_size_are_groups():
    g = torch.Generator().manual_seed(0)
    scores, gains, groups = torch.randn(24, generator=g), torch.randint(3, (24,), generator=g), torch.arange(24) // 6
    huge = groups * (2**61) + 5
    for loss in (mg.as_metric("ndcg"), mg.UniLoss("ndcg"), make_loss("smooth_ap", "map")):
        targets = gains if not hasattr(loss, "takes") else (gains > 0).long()
        assert torch.equal(loss(scores, targets, groups=groups), loss(scores, targets, groups=huge))
