"""Calls that once ended in a raw error of torch, or in silence: each is answered by one sentence."""

import random
import re

import numpy as np
import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.fitting.rank_correlation import RankCorrelation
from metricgrad.systems.by_name import list_losses, make_loss
from tests.contract.registry import binary, embeddings, multiclass, multilabel, regression

SCORES, TARGETS = multiclass(40, torch.float32)
READERS = {
    "UniLoss": lambda s, t: mg.UniLoss("accuracy")(s, t),
    "AdaLFL": lambda s, t: mg.AdaLFL(num_outputs=5)(s, t),
    "cross_entropy": lambda s, t: make_loss("cross_entropy", "accuracy")(s, t),
    "metric": lambda s, t: mg.as_metric("accuracy")(s, t),
    "metric.over": lambda s, t: mg.as_metric("accuracy").over(s[None], t),
    "infer_refactoring": lambda s, t: mg.infer_refactoring("accuracy", s, t),
    "mismatch": lambda s, t: mg.mismatch(nn.functional.cross_entropy, "accuracy", s, t),
    "prepare": lambda s, t: mg.Loss(mg.ReLoss.pretrained("accuracy").form, RankCorrelation("accuracy")).prepare(s, t),
    "observe": lambda s, t: mg.ALA("accuracy", num_outputs=5).observe(s, t),
    "ReLoss.fit": lambda s, t: mg.ReLoss.fit("accuracy", s, t),
}
UNSOUND = {
    "to_dense": lambda x: x.to_sparse(),
    "real numbers": lambda x: x.to(torch.complex64),
    "meta": lambda x: x.to("meta"),
    "computes nothing": lambda x: x.to(torch.float8_e5m2 if x.is_floating_point() else torch.uint16),
}


@pytest.mark.parametrize("remedy", UNSOUND)
@pytest.mark.parametrize("reader", READERS)
def test_tensors_nobody_can_read_are_refused_by_name(reader, remedy):
    for pair, name in (
        ((UNSOUND[remedy](SCORES), TARGETS), "scores"),
        ((SCORES, UNSOUND[remedy](TARGETS)), "targets"),
    ):
        with pytest.raises(mg.MetricgradError, match=f"{name} .*{remedy}"):
            READERS[reader](*pair)


@pytest.mark.parametrize("remedy", UNSOUND)
def test_weights_nobody_can_read_are_refused_by_name(remedy):
    scores, targets = binary(40, torch.float32)
    weight = UNSOUND[remedy](torch.linspace(0, 1, 40))
    with pytest.raises(mg.MetricgradError, match=f"sample_weight .*{remedy}"):
        mg.UniLoss("average_precision")(scores, targets, sample_weight=weight)


def test_targets_without_values_are_refused_before_a_run_is_described():
    data = torch.zeros(40, 4), TARGETS.to("meta")
    with pytest.raises(mg.MetricgradError, match="meta device"):
        mg.fit(nn.Linear(4, 5), data, data, metric="accuracy", loss="focal", progress=False)


@pytest.mark.parametrize(
    ("metric", "batch"),
    [("accuracy", multiclass), ("mean_iou", multiclass), ("top_k_accuracy:k=2", multiclass),
     ("average_precision", binary), ("ndcg", binary)],
)  # fmt: skip
def test_a_refactoring_realises_bits_of_no_rows(metric, batch):
    scores, targets = batch(8, torch.float32)
    read = mg.infer_refactoring(metric, scores, targets)
    bits = read.comparisons(scores[:0], targets[:0]) > 0
    assert read.scores_from(bits, scores[:0], targets[:0]).shape == scores[:0].shape


@pytest.mark.parametrize("form", [mg.UniLoss("f1").form, nn.Linear(2, 2), "set_network"])
def test_reloss_is_fitted_with_a_network_form_alone(form):
    with pytest.raises(mg.MetricgradError, match=r"form|network"):
        mg.ReLoss.fit("accuracy", SCORES, TARGETS, form=form)


@pytest.mark.parametrize("make", [lambda: mg.UniLoss("accuracy"), mg.AdaLFL, lambda: mg.ALA("accuracy", num_outputs=5)])
def test_prepare_says_where_nothing_is_fitted(make):
    with pytest.warns(UserWarning, match=r"fits nothing before training.*not used"):
        make().prepare(SCORES, TARGETS)


@pytest.mark.parametrize("name", mg.functional.__all__)
@pytest.mark.parametrize(
    "x", [[3.0, 1.0], torch.tensor(1.0), SCORES.to(torch.complex64), SCORES.to_sparse(), "x", None]
)
def test_pure_functions_name_the_argument_they_cannot_read(name, x):
    function = getattr(mg.functional, name)
    with pytest.raises(mg.MetricgradError, match=r"\b[xab]\b"):
        function(x, x) if name in ("spearman", "kendall") else function(x)


@pytest.mark.parametrize("name", ["spearman", "kendall"])
def test_correlations_refuse_leading_axes_that_do_not_broadcast(name):
    with pytest.raises(mg.MetricgradError, match=r"do not broadcast: \(2, 5\) and \(3, 5\)"):
        getattr(mg.functional, name)(torch.randn(2, 5), torch.randn(3, 5))


def test_a_loss_by_name_refuses_what_it_does_not_take():
    with pytest.raises(mg.MetricgradError, match=r"loss .margin. takes .*not .sigma."):
        make_loss("margin", "accuracy", sigma=1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.int64])
@pytest.mark.parametrize("metric", ["f1", "accuracy", "average_precision"])
def test_weights_of_any_dtype_weigh_as_those_of_float32(metric, dtype):
    scores, targets = binary(24, torch.float32)
    weight = (torch.arange(24) % 3 + 1).to(dtype)
    expected = mg.UniLoss(metric)(scores, targets, sample_weight=weight.float())
    assert torch.allclose(mg.UniLoss(metric)(scores, targets, sample_weight=weight), expected, atol=1e-6)


@pytest.mark.parametrize("metric", ["accuracy", "top_k_accuracy:k=2", "ndcg", "map"])
def test_a_refactoring_compares_words_of_sentences_as_it_compares_them_in_rows(metric):
    scores, targets = torch.randn(4, 3, 5), torch.randint(5, (4, 3))
    found = mg.infer_refactoring(metric, scores, targets)
    flat = found.comparisons(scores.flatten(0, 1), targets.flatten())
    assert torch.equal(found.comparisons(scores, targets), flat)
    again = found.scores_from(flat > 0, scores, targets)
    assert again.shape == scores.shape
    assert torch.equal(found.binaries(again, targets), flat > 0)


@pytest.mark.parametrize("shape", [(6,), (4, 3)])
@pytest.mark.parametrize("metric", ["accuracy", "f1", "auroc", "average_precision", "kendall", "ndcg", "brier"])
def test_a_refactoring_takes_no_column_of_one_for_classes(metric, shape):
    scores, targets = torch.randn(*shape, 1), torch.arange(6 if shape == (6,) else 12).reshape(shape) % 2
    found = mg.infer_refactoring(metric, scores, targets)
    generator = torch.Generator()
    for call in (
        lambda s: found.comparisons(s, targets),
        lambda s: found.ideal(s, targets, 2, generator),
        lambda s: found.spread(s, targets),
    ):
        with pytest.raises(mg.MetricgradError, match=r"scores\.squeeze\(-1\)"):
            call(scores)
    assert found.ideal(scores.squeeze(-1), targets, 2, generator).shape == (2, *shape)


X, Y = torch.randn(40, 5), torch.arange(40) % 2
SETTINGS = {"epochs": 1, "progress": False, "device": "cpu", "metric": "accuracy", "loss": "cross_entropy"}
REFUSED = {
    "make_model made a str": lambda: mg.AdaLFL(num_outputs=2).offline_start(lambda: "m", torch.optim.SGD, [(X, Y)]),
    "lr is -1": lambda: mg.AdaLFL(num_outputs=2).offline_start(
        lambda: nn.Linear(5, 2), lambda p: torch.optim.SGD(p, lr=0.1), [(X, Y)], steps=1, lr=-1.0
    ),
    "inner is 2.5": lambda: mg.AdaLFL(num_outputs=2).offline_start(
        lambda: nn.Linear(5, 2), lambda p: torch.optim.SGD(p, lr=0.1), [(X, Y)], steps=1, inner=2.5
    ),
    "seed is 'x'": lambda: mg.UniLoss("f1", seed="x"),
    "seed is 'y'": lambda: mg.AdaLFL(seed="y"),
    "seed is 'z'": lambda: mg.ReLoss.fit("accuracy", SCORES, TARGETS, seed="z"),
    "block is 3.5": lambda: mg.mismatch(nn.functional.cross_entropy, "accuracy", SCORES, TARGETS, block=3.5),
    "blocks is 1": lambda: mg.mismatch(nn.functional.cross_entropy, "accuracy", SCORES, TARGETS, blocks=1),
    "loss gives a tensor of shape (20,)": lambda: mg.mismatch(
        nn.CrossEntropyLoss(reduction="none"), "accuracy", SCORES, TARGETS
    ),
    "one class for each": lambda: mg.mismatch(nn.MSELoss(), "nmi", SCORES, torch.ones(40, 5).long()),
    "as many rows of both": lambda: mg.record_scores(nn.Linear(5, 2), _sgd(), [(X, Y[:30])]).__enter__(),
    "every is 'x'": lambda: mg.record_scores(nn.Linear(5, 2), _sgd(), [(X, Y)], every="x"),
    "batches is a NoneType": lambda: mg.record_scores(nn.Linear(5, 2), _sgd(), None),
    "per_class is 0": lambda: mg.fit(nn.Linear(5, 2), (X, Y), (X, Y), **{**SETTINGS, "per_class": 0}),
    "device='tpu'": lambda: mg.fit(nn.Linear(5, 2), (X, Y), (X, Y), **{**SETTINGS, "device": "tpu"}),
    "no batch axis": lambda: mg.AdaLFL(kind="binary")(torch.tensor(1.0), torch.tensor(1)),
}


def _sgd():
    return torch.optim.SGD(nn.Linear(5, 2).parameters(), lr=0.1)


@pytest.mark.parametrize("message", REFUSED)
def test_options_out_of_range_are_named(message):
    with pytest.raises(mg.MetricgradError, match=re.escape(message)):
        REFUSED[message]()


def test_a_fit_that_fails_leaves_the_random_states_as_they_were():
    model = nn.Linear(5, 2)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    with pytest.raises(mg.MetricgradError, match="one shape"):
        mg.fit(model, (X, Y), (X, Y), **{**SETTINGS, "loss": "mae"})
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


BATCHES = {"map_at_r": embeddings, "accuracy": multiclass, "f1": binary, "macro_f1": multilabel, "mse": regression}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", list_losses())
def test_a_loss_by_name_is_in_float32_at_least_and_takes_booleans_for_0_and_1(name, dtype):
    for metric, data in BATCHES.items():
        scores, targets = data(16, dtype)
        for given in (targets, *([targets.bool()] if data in (binary, multilabel) else [])):
            try:
                loss = make_loss(name, metric)
                leaf = scores.clone().requires_grad_()
                value = loss(leaf, given)
            except mg.MetricgradError:
                continue
            (slope,) = torch.autograd.grad(value, leaf)
            assert value.dtype == torch.promote_types(dtype, torch.float32), (metric, given.dtype)
            assert slope.dtype == dtype


@pytest.mark.parametrize("metric", ["mrr", "map", "ndcg", "auroc", "hit_rate:k=2"])
@pytest.mark.parametrize("rows", [5, 8])
def test_lists_that_stand_for_each_other_are_not_chosen_by_the_order_of_the_rows(metric, rows):
    scores, targets = multiclass(rows, torch.float32)
    scores.requires_grad_()
    value = mg.UniLoss(metric)(scores, targets)
    (slope,) = torch.autograd.grad(value, scores)
    for seed in range(4):
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
        again = mg.UniLoss(metric)(scores[order], targets[order])
        assert torch.allclose(again, value, atol=1e-6)
        assert torch.allclose(torch.autograd.grad(again, scores)[0], slope, atol=1e-6)


def test_nested_tensors_are_refused_with_what_to_pass():
    nested = torch.nested.nested_tensor([SCORES[:1], SCORES[1:]])
    with pytest.raises(mg.MetricgradError, match=r"scores is a nested tensor; .*to_padded_tensor"):
        mg.UniLoss("accuracy")(nested, TARGETS)
