"""Classes that a metric cannot tell apart share a column, and nothing that the loss is made of changes by it."""

import pytest
import torch

import metricgrad as mg
from metricgrad.refactoring.batch import checked
from metricgrad.refactoring.class_columns import ClassColumns
from metricgrad.refactoring.from_structure import for_batch
from metricgrad.refactoring.moves import MoveRequest


def test_columns_are_those_that_are_present_and_the_rest():
    present = torch.tensor([70, 3, 3, 0])
    alike = ClassColumns.over(100, present, "alike")
    assert alike.classes.tolist() == [0, 3, 70, 1]
    assert alike.of[[0, 3, 70, 1, 2, 50, 99]].tolist() == [0, 1, 2, 3, 3, 3, 3]
    ordered = ClassColumns.over(100, present, "ordered")
    assert ordered.classes.tolist() == [0, 1, 3, 4, 70, 71]
    assert ordered.of[[2, 69, 99]].tolist() == [1, 3, 5]
    assert ClassColumns.over(100, present, "kept").classes.tolist() == list(range(100))
    assert ClassColumns.over(64, present, "alike").classes.tolist() == list(range(64))


def test_a_column_is_as_likely_as_its_classes_together_however_unlikely():
    logits = torch.randn(5, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    columns = ClassColumns.over(100, torch.arange(90), "alike")
    found = columns.grouped(logits.log_softmax(1))
    torch.testing.assert_close(found[:, 90], logits.softmax(1)[:, 90:].sum(1).log())
    sure = torch.zeros(1, 100).index_fill(1, torch.tensor([0]), 1e4).log_softmax(1)
    assert float(columns.grouped(sure)[0, 90]) == pytest.approx(-1e4 + torch.tensor(10.0).log().item(), rel=1e-6)
    assert torch.autograd.gradcheck(lambda s: columns.grouped(s.log_softmax(1)), (logits,))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "name", ["accuracy", "macro_f1", "balanced_accuracy", "kappa", "mcc", "g_mean", "jaccard:average=macro",
             "quadratic_kappa"],
)  # fmt: skip
def test_the_expected_change_and_its_gradient_are_those_of_all_classes(name, weighted):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(9, 70, dtype=torch.float64, generator=generator)
    targets = torch.randint(3, (9,), generator=generator) * 30
    metric = mg.as_metric(name)
    context = {"sample_weight": torch.rand(9, generator=generator).double() + 0.1} if weighted else {}
    found = []
    for names in ("kept", metric.fast_path.names):
        scores = logits.clone().requires_grad_()
        batch = checked(metric, scores, targets, context, check_finite=True)
        request = MoveRequest(
            scores, targets, torch.tensor(1.0).double(), q=0.5, budget=10**6, share=1.0,
            generator=torch.Generator().manual_seed(2), names=names,
        )  # fmt: skip
        moves = for_batch(metric.structure, batch, metric).moves(request)
        start, values = moves.values(metric, batch)
        change = moves.change(moves.delta(start, values))
        found.append((start, change, torch.autograd.grad(change, scores)[0], len(values)))
    assert found[1][3] < found[0][3] / 3
    torch.testing.assert_close(found[1][:3], found[0][:3], rtol=1e-9, atol=1e-12)
