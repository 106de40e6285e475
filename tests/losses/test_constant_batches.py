"""A loss is 0 only where the metric is ideal; what teaches nothing, or the wrong way, is said."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, roc_auc_score
from torch import nn
from torchmetrics.classification import MulticlassNegativePredictiveValue, MulticlassSpecificity

import metricgrad as mg


def error_rate(labels, targets):
    return (labels != targets).double().mean()


def squared_error(scores, targets):
    return (scores - targets).square().mean()


def _classes(n=32, c=4):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, c, generator=g), torch.arange(n) % c


def _raises_without_class_two(labels, targets):
    if not bool((targets == 2).any()):
        raise ValueError("class 2 is not there")
    return (labels == targets).double().mean()


def _nan_without_class_two(labels, targets):
    return (labels == targets).double().mean() if bool((targets == 2).any()) else float("nan")


def _apart(n=12):
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(0)), torch.arange(n)


def _without_class_two():
    scores, targets = _classes()
    return scores, torch.where(targets == 2, 1, targets)


UNDEFINED = {
    "map_at_r of classes that come once": ("map_at_r", _apart),
    "auroc of a class that never comes": (mg.as_metric(roc_auc_score, multi_class="ovr"), _without_class_two),
    "a callable that returns NaN": (
        mg.as_metric(_nan_without_class_two, higher_is_better=True, reads="labels"),
        _without_class_two,
    ),
    "a callable that raises": (
        mg.as_metric(_raises_without_class_two, higher_is_better=True, reads="labels"),
        _without_class_two,
    ),
}


@pytest.mark.parametrize("anchored", [None, False])
@pytest.mark.parametrize("case", UNDEFINED)
def test_a_metric_that_is_undefined_on_every_batch_warns_once_then_raises(case, anchored):
    metric, data = UNDEFINED[case]
    scores, targets = data()
    scores.requires_grad_()
    loss = mg.UniLoss(metric, anchored=anchored)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(19):
            value = loss(scores, targets)
            value.backward()
            assert float(value.detach()) == 0
            if anchored is False:
                assert scores.grad.abs().sum() == 0
    assert len([w for w in said if "is undefined on this batch" in str(w.message)]) == 1
    with pytest.raises(mg.MetricgradError, match=r"undefined on this batch.*20th time in a row.*every class"):
        loss(scores, targets)


def test_a_batch_on_which_it_is_defined_breaks_the_row():
    loss = mg.UniLoss("map_at_r")
    scores, targets = _apart()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(60):
            loss(scores, targets // 2 if step % 15 == 14 else targets)
    assert int(loss.form.constant_batches) == 0


def test_a_metric_that_never_works_is_an_error_at_once():
    def broken(labels, targets):
        raise ZeroDivisionError("no")

    metric = mg.as_metric(broken, higher_is_better=True, reads="labels")
    with pytest.raises(mg.MetricgradError, match="no"):
        mg.UniLoss(metric)(*_classes())


def test_a_value_of_scores_alone_that_is_undefined_still_trains():
    def precision(labels, targets):
        said = labels == 1
        return (targets[said] == 1).double().mean()  # NaN where nothing is said

    scores, targets = torch.full((24,), -2.0, requires_grad=True), torch.arange(24) % 2
    mg.UniLoss(mg.as_metric(precision, higher_is_better=True, reads="labels"))(scores, targets).backward()
    assert scores.grad[targets == 1].sum() < 0


def test_during_a_warm_up_an_undefined_batch_has_the_standard_loss():
    scores, targets = torch.randn(8, requires_grad=True), torch.zeros(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = mg.UniLoss("average_precision", warm_up=10)(scores, targets)
    torch.testing.assert_close(value, nn.functional.binary_cross_entropy_with_logits(scores, targets))


WRONG = {
    "an error rate to be raised": (lambda: mg.as_metric(error_rate, higher_is_better=True, reads="labels"), _classes),
    "accuracy to be lowered": (lambda: mg.as_metric("accuracy", higher_is_better=False), _classes),
    "scikit-learn's accuracy to be lowered": (
        lambda: mg.as_metric(accuracy_score, higher_is_better=False),
        _classes,
    ),
    "a differentiable error to be raised": (
        lambda: mg.as_metric(squared_error, higher_is_better=True, reads="scores"),
        lambda: (torch.randn(32, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 32)),
    ),
    "mse to be raised": (
        lambda: mg.as_metric("mse", higher_is_better=True),
        lambda: (torch.randn(32, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 32)),
    ),
    "auroc to be lowered": (
        lambda: mg.as_metric("auroc", higher_is_better=False),
        lambda: (torch.randn(32, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 2),
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("interpolation", ["local", "inverse_distance"])
def test_a_direction_that_the_values_contradict_is_refused(case, interpolation):
    make, data = WRONG[case]
    with pytest.raises(mg.MetricgradError, match=r"was given higher_is_better=\w+, but it is .* corrupted, random"):
        mg.UniLoss(make(), interpolation=interpolation)(*data())


WITHOUT_IDEAL = [MulticlassSpecificity, MulticlassNegativePredictiveValue]


@pytest.mark.parametrize("kind", WITHOUT_IDEAL)
@pytest.mark.parametrize("options", [{}, {"anchored": False}, {"interpolation": "inverse_distance"}], ids=str)
def test_a_batch_of_one_class_whose_ideal_is_worst_is_undefined(kind, options):
    """Its only class has no true negatives, and others count only once one is predicted: a mistake is worth more."""
    loss, generator = mg.UniLoss(kind(3), **options), torch.Generator().manual_seed(0)
    for step in range(6):
        scores, one_class = torch.randn(12, 3, generator=generator, requires_grad=True), step % 3 < 2
        targets = torch.full((12,), step % 3) if one_class else torch.arange(12) % 3
        undefined = one_class and (options or step == 0)  # later there is the memory
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            value = loss(scores, targets)
            value.backward()
        assert any("undefined on this batch" in str(w.message) for w in said) == (step == 0)  # and once
        assert float(value.detach()) == 0 if undefined else float(value.detach()) > 0
        assert (scores.grad.abs().sum() == 0) == bool(options and undefined)


@pytest.mark.parametrize("kind", WITHOUT_IDEAL)
def test_a_memory_of_one_class_does_not_teach_mistakes(kind):
    targets, scores = torch.zeros(2000, dtype=torch.long), torch.tensor([[3.0, 0.0, -1.0]]).repeat(2000, 1)
    loss = mg.UniLoss(kind(3), base_weight=0.0, weight=1.0)
    _check_no_mistakes(loss, scores, targets)
    loss(torch.randn(30, 3, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3)
    _check_no_mistakes(loss, scores, targets)
    worse = torch.where(torch.arange(2000)[:, None] % 2 == 0, scores, -scores)
    assert float(loss(worse, targets)) == 0


def _check_no_mistakes(loss, scores, targets):
    leaf = scores.clone().requires_grad_()
    loss(leaf, targets).backward()
    assert (leaf.grad[:, 0] <= 0).all()


@pytest.mark.parametrize("options", [{}, {"anchored": False}], ids=str)
def test_a_wrong_direction_is_found_on_the_first_batch_of_several_classes(options):
    loss, (scores, targets) = mg.UniLoss(mg.as_metric(accuracy_score, higher_is_better=False), **options), _classes()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*undefined on this batch")
        assert float(loss(scores, torch.zeros_like(targets))) == 0
    with pytest.raises(mg.MetricgradError, match="pass higher_is_better=True"):
        loss(scores, targets)


@pytest.mark.parametrize("options", [{}, {"anchored": False}], ids=str)
def test_scores_better_than_the_presumed_ideal_of_one_class_are_below_zero(options):
    loss = mg.UniLoss(mg.as_metric(gain, higher_is_better=True, reads="labels"), **options)
    best, targets = 40.0 * nn.functional.one_hot(torch.ones(30, dtype=torch.long), 3).float(), torch.zeros(30).long()
    with pytest.warns(UserWarning, match="presumed to be ideal"):
        assert float(loss(best, targets)) == pytest.approx(-0.5, abs=1e-5)


def test_probing_refuses_a_wrong_direction():
    metric = mg.as_metric(error_rate, higher_is_better=True, reads="labels")
    with pytest.raises(mg.MetricgradError, match="higher_is_better=False"):
        mg.infer_refactoring(metric, *_classes())


def test_no_loss_is_fitted_to_a_direction_that_the_values_contradict():
    metric = mg.as_metric(error_rate, higher_is_better=True, reads="labels")
    with pytest.raises(mg.MetricgradError, match="higher_is_better=False"):
        mg.ReLoss.fit(metric, *_classes(400))


@pytest.mark.parametrize("metric", ["accuracy", "f1", "auroc", "mse", "spearman", "pck", "span_f1", "bleu", "map_at_r"])
def test_every_described_direction_is_believed(metric):
    from tests.contract import registry

    kind = {"accuracy": "multiclass", "mse": "regression", "spearman": "gains", "pck": "heat_maps"}
    kind |= {"span_f1": "spans", "bleu": "sentences", "map_at_r": "embeddings"}
    batch = getattr(registry, kind.get(metric, "binary"))(24, torch.float32)
    mg.UniLoss(metric)(*batch)
    with pytest.raises(mg.MetricgradError, match="higher_is_better"):
        mg.UniLoss(mg.as_metric(metric, higher_is_better=not mg.as_metric(metric).higher_is_better))(*batch)


#: gains of predicting each class where another is true: of class 0 it is best to say 1
GAIN = torch.tensor([[0.5, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.2, 1.0]], dtype=torch.float64)


def gain(labels, targets):
    return GAIN[targets, labels].mean()


def test_a_metric_that_prefers_other_decisions_than_the_targets_trains_beyond_the_presumed_ideal():
    metric = mg.as_metric(gain, higher_is_better=True, reads="labels")
    targets = torch.arange(30) % 3
    best = 40.0 * nn.functional.one_hot(GAIN[targets].argmax(1), 3).float()
    loss = mg.UniLoss(metric, softness=1.0)
    with pytest.warns(UserWarning, match="presumed to be ideal"):
        value = loss(best, targets)
    assert float(value) == pytest.approx(2.5 / 3 - 1.0, abs=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(best, targets)  # said once
    scores = torch.zeros(30, 3, requires_grad=True)
    optimizer = torch.optim.SGD([scores], lr=30.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(60):
            optimizer.zero_grad()
            loss(scores, targets).backward()
            optimizer.step()
    assert float(metric(scores.detach(), targets)) > 0.95


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "quadratic_kappa", "top_k_accuracy:k=2", "auroc"])
@pytest.mark.parametrize("interpolation", ["local", "inverse_distance"])
def test_a_loss_is_zero_only_where_the_metric_is_ideal(metric, interpolation):
    targets, judge = torch.arange(24) % 4, mg.as_metric(metric)
    ideal = 300.0 * nn.functional.one_hot(targets, 4)
    best = float(judge(ideal, targets))
    assert float(mg.UniLoss(metric, interpolation=interpolation)(ideal, targets)) == pytest.approx(0, abs=1e-6)
    for wrong in range(1, 24, 5):
        scores = ideal.clone()
        scores[:wrong] = -scores[:wrong]
        assert float(judge(scores, targets)) < best
        assert float(mg.UniLoss(metric, interpolation=interpolation)(scores, targets)) > 0


def test_a_saturated_differentiable_metric_keeps_the_gradient_of_its_stated_composite():
    def dice(probabilities, targets):
        return 2 * (probabilities * targets).sum() / (probabilities.sum() + targets.sum())

    metric = mg.as_metric(dice, higher_is_better=True, reads="probabilities")
    targets = (torch.arange(16) % 3 == 0).double()
    scores = ((1 - 2 * targets) * torch.linspace(150, 200, 16).double()).requires_grad_()
    value = mg.UniLoss(metric)(scores, targets)
    assert float(value.detach()) == pytest.approx(1 - float(dice(scores.detach().sigmoid(), targets)))
    (found,) = torch.autograd.grad(value, scores)

    def composite(s):
        temperature = float(scores.detach().abs().max()) / 4
        return -dice(s.sigmoid(), targets) - 0.05 * temperature * dice((s / temperature).sigmoid(), targets)

    central = [composite(scores.detach() + 1e-4 * e) - composite(scores.detach() - 1e-4 * e) for e in torch.eye(16)]
    torch.testing.assert_close(found, torch.stack(central) / 2e-4, rtol=1e-5, atol=1e-10)
    assert ((found * (2 * targets - 1)) < 0).all()


def test_numpy_metrics_that_raise_on_one_batch_are_named():
    def strict(targets, labels):
        if len(np.unique(targets)) < 3:
            raise ValueError("needs three classes")
        return float(np.mean(targets == labels))

    metric = mg.as_metric(strict, higher_is_better=True, reads="labels", inputs="numpy", order="targets_first")
    loss = mg.UniLoss(metric)
    scores, targets = _classes(32, 3)
    loss(scores, targets)
    with pytest.warns(UserWarning, match=r"undefined on this batch.*needs three classes"):
        assert float(loss(scores, targets.clamp(max=1))) == 0


@pytest.mark.parametrize("anchored", [None, False])
def test_rare_batches_of_one_class_are_said_once_and_not_each(anchored):
    scores = torch.randn(16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    some, none = (torch.arange(16) < 3).long(), torch.zeros(16, dtype=torch.long)
    loss = mg.UniLoss("average_precision", anchored=anchored)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")  # as an optimiser's own filters make Python forget what it has shown
        for targets in (some, none, some, none, none, some, none):
            loss(scores, targets).backward()
    assert len([w for w in said if "is undefined on this batch" in str(w.message)]) == 1
