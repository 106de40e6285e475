"""Decisions are fitted on rows that a mask keeps, with weights of queries, and for the yes that the metric names."""

import pytest
import torch

import metricgrad as mg

ROWS = 400
RECALL = "recall_at_precision:precision=0.8"


@pytest.fixture
def binary():
    g = torch.Generator().manual_seed(7)
    targets = (torch.rand(ROWS, generator=g) < 0.3).long()
    return torch.randn(ROWS, generator=g) + 1.5 * targets, targets


@pytest.fixture
def classes():
    g = torch.Generator().manual_seed(7)
    targets = torch.randint(4, (ROWS,), generator=g)
    return torch.randn(ROWS, 4, generator=g) + 2 * torch.nn.functional.one_hot(targets, 4), targets


EVERY_OTHER = torch.arange(ROWS) % 2 == 0


@pytest.mark.parametrize("method", ["auto", "at_precision", "at_recall"])
def test_masked_rows_have_no_say_in_an_operating_point(binary, method):
    scores, targets = binary
    wrong = torch.where(EVERY_OTHER, targets, 1 - targets)
    found = mg.fit_decision(RECALL, scores, wrong, mask=EVERY_OTHER, method=method)
    kept = mg.fit_decision(RECALL, scores[EVERY_OTHER], targets[EVERY_OTHER], method=method)
    assert found.config() == kept.config()
    assert found.report() == kept.report()


@pytest.mark.parametrize("method", ["auto", "plug_in", "ordinal_cuts", "offsets"])
@pytest.mark.parametrize("padding", [-100, 2])
def test_masked_rows_have_no_say_in_decisions_on_classes(classes, method, padding):
    scores, targets = classes
    padded = torch.where(EVERY_OTHER, targets, padding)
    found = mg.fit_decision("macro_f1", scores, padded, mask=EVERY_OTHER, method=method)
    kept = mg.fit_decision("macro_f1", scores[EVERY_OTHER], targets[EVERY_OTHER], method=method)
    assert found.config() == kept.config()


def test_weights_of_queries_are_those_of_their_rows(binary):
    groups, weight = torch.arange(ROWS) // 40, torch.arange(10) + 1.0
    found = mg.fit_decision("f1", *binary, groups=groups, sample_weight=weight)
    assert found.config() == mg.fit_decision("f1", *binary, groups=groups, sample_weight=weight[groups]).config()


def test_an_operating_point_is_that_of_the_yes(binary):
    scores, targets = binary
    plain = mg.fit_decision(RECALL, scores, targets)
    other = mg.fit_decision(mg.as_metric(RECALL, pos_label=2), scores, targets + 1)
    assert (other.config(), other.report()) == (plain.config(), plain.report())
    turned = mg.fit_decision(mg.as_metric(RECALL, pos_label=0), -scores, 1 - targets)
    assert turned.config()["threshold"] == -plain.config()["threshold"]
    assert torch.equal(turned(-scores) < 0, plain(scores) > 0)


@pytest.mark.parametrize("method", ["offsets", "plug_in", "auto"])
def test_decisions_on_two_classes_are_of_the_yes(binary, method):
    scores, targets = binary
    two = torch.stack([-scores / 2, scores / 2], 1)
    metric = mg.as_metric("f1", pos_label=0)
    found = mg.fit_decision(metric, two.flip(1), 1 - targets, method=method)
    plain = mg.fit_decision("f1", two, targets, method=method)
    assert metric(found(two.flip(1)), 1 - targets) == mg.as_metric("f1")(plain(two), targets)
    assert found.kind == plain.kind


def test_top_k_of_half_precision_counts_right():
    scores = torch.randn(3, 400).bfloat16()
    assert ((mg.decisions.TopK(257)(scores) > 0).sum(1) == 257).all()
