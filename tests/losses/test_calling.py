"""Losses that are not ours are handed what torch documents, and context that is theirs."""

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.comparison.study import compare
from metricgrad.losses.base import CallContext
from metricgrad.losses.calling import as_torch_takes, called
from metricgrad.losses.composite.hand_made import HandMade
from metricgrad.losses.composite.residual import LearnedRate
from metricgrad.tasks.split import split
from metricgrad.tasks.task import Task

G = torch.Generator().manual_seed(0)
ONE, COLUMNS = torch.randn(12, 1, generator=G), torch.randn(12, 4, generator=G)
YES, LABELS = (torch.arange(12) % 3 == 0).long(), (torch.rand(12, 4, generator=G) < 0.5).long()
CLASSES, VALUES = torch.arange(12) % 4, torch.randn(12, generator=G, dtype=torch.float64)
TOKENS, WORDS = torch.randn(5, 3, 4, generator=G), torch.arange(15).reshape(5, 3) % 4
F = nn.functional

#: loss, scores and targets as data and a model give them, and the value by torch's own function
CONVENTION = [
    (nn.BCEWithLogitsLoss(), ONE, YES, F.binary_cross_entropy_with_logits(ONE[:, 0], YES.float())),
    (nn.BCEWithLogitsLoss(), ONE[:, 0], YES[:, None], F.binary_cross_entropy_with_logits(ONE[:, 0], YES.float())),
    (nn.BCEWithLogitsLoss(), ONE, YES[:, None], F.binary_cross_entropy_with_logits(ONE[:, 0], YES.float())),
    (nn.BCEWithLogitsLoss(), ONE, YES.bool(), F.binary_cross_entropy_with_logits(ONE[:, 0], YES.float())),
    (nn.BCEWithLogitsLoss(), COLUMNS, LABELS, F.binary_cross_entropy_with_logits(COLUMNS, LABELS.float())),
    (nn.MultiLabelSoftMarginLoss(), COLUMNS, LABELS, F.multilabel_soft_margin_loss(COLUMNS, LABELS.float())),
    (nn.SoftMarginLoss(), ONE, YES, F.soft_margin_loss(ONE[:, 0], 2 * YES - 1.0)),
    (nn.CrossEntropyLoss(), COLUMNS, CLASSES, F.cross_entropy(COLUMNS, CLASSES)),
    (nn.CrossEntropyLoss(), COLUMNS, CLASSES.float(), F.cross_entropy(COLUMNS, CLASSES)),
    (nn.CrossEntropyLoss(), COLUMNS, CLASSES.int(), F.cross_entropy(COLUMNS, CLASSES)),
    (nn.CrossEntropyLoss(), TOKENS, WORDS, F.cross_entropy(TOKENS.flatten(0, 1), WORDS.flatten())),
    (nn.MultiMarginLoss(), COLUMNS, CLASSES, F.multi_margin_loss(COLUMNS, CLASSES)),
    (nn.MSELoss(), ONE, VALUES, F.mse_loss(ONE[:, 0], VALUES.float())),
    (nn.L1Loss(), ONE, CLASSES, F.l1_loss(ONE[:, 0], CLASSES.float())),
    (nn.HuberLoss(), COLUMNS, COLUMNS.double() + 1, F.huber_loss(COLUMNS, COLUMNS + 1)),
    (nn.SmoothL1Loss(), ONE[:, 0], VALUES, F.smooth_l1_loss(ONE[:, 0], VALUES.float())),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("loss", "scores", "targets", "expected"), CONVENTION)
def test_torch_losses_get_what_they_take(loss, scores, targets, expected):
    scores = scores.clone().requires_grad_()
    for value in (mg.Loss(HandMade(loss))(scores, targets), called(loss, scores, targets)):
        torch.testing.assert_close(value, expected)
        assert torch.autograd.grad(value, scores)[0].abs().sum() > 0
    mask = torch.arange(len(scores)) > 2
    kept = called(loss, scores[mask], targets[mask])
    torch.testing.assert_close(mg.Loss(HandMade(loss))(scores, targets, mask=mask), kept)
    for name, value in (("sample_weight", torch.ones(len(scores))), ("groups", CLASSES[: len(scores)])):
        with pytest.raises(mg.MetricgradError, match=f"{type(loss).__name__}.forward takes no '{name}', only mask"):
            mg.Loss(HandMade(loss))(scores, targets, **{name: value})


def test_heat_maps_and_torch_layouts_stay_as_they_are():
    maps, points = torch.randn(2, 3, 5, 6), torch.rand(2, 3, 2)
    found = as_torch_takes(maps, points)
    assert found[0] is maps
    assert found[1] is points
    images = as_torch_takes(torch.randn(2, 4, 5), torch.zeros(2, 4, 5, dtype=torch.bool))
    assert images[0].shape == images[1].shape == (2, 4, 5)


def test_a_loss_of_classes_refuses_one_score_an_item():
    for loss in (nn.CrossEntropyLoss(), nn.MultiMarginLoss()):
        with pytest.raises(mg.MetricgradError, match="BCEWithLogitsLoss"):
            called(loss, ONE, YES)


class Weighted(nn.Module):
    """A user's own loss, which knows what to do with weights and masks."""

    def forward(self, scores, targets, sample_weight=None, mask=None):
        assert scores.shape == targets.shape == (12,)
        weight = torch.ones(12) if sample_weight is None else sample_weight
        weight = weight if mask is None else weight * mask
        return ((scores - targets).square() * weight).sum()


def test_a_module_gets_the_context_that_its_signature_names():
    loss, weight, mask = mg.Loss(HandMade(Weighted())), torch.arange(12.0), torch.arange(12) % 2 > 0
    squared = (ONE[:, 0] - YES).square()
    torch.testing.assert_close(loss(ONE, YES, sample_weight=weight), squared @ weight)
    torch.testing.assert_close(loss(ONE, YES, sample_weight=weight, mask=mask), squared[mask] @ weight[mask])
    with pytest.raises(mg.MetricgradError, match="unknown context 'weights'"):
        loss(ONE, YES, weights=weight)
    with pytest.raises(mg.MetricgradError, match="finite"):
        loss(ONE, YES, sample_weight=weight / 0)

    def of_any(scores, targets, **context):
        return sum(value.sum() for value in context.values())

    assert called(of_any, ONE, YES, {"sample_weight": weight, "groups": None}) == 66


def test_entries_are_not_taken_out_for_a_module_that_does_not_say_how():
    with pytest.raises(mg.MetricgradError, match="only whole rows"):
        called(nn.BCEWithLogitsLoss(), COLUMNS, LABELS, {"mask": LABELS > 0})


def test_mismatch_hands_torch_losses_what_they_take():
    scores, targets = torch.randn(256, 1, generator=G), (torch.rand(256, generator=G) < 0.5).long()
    ours = mg.mismatch(mg.Loss(HandMade(nn.BCEWithLogitsLoss())), "auroc", scores, targets, blocks=20)
    assert mg.mismatch(nn.BCEWithLogitsLoss(), "auroc", scores, targets, blocks=20) == ours
    with pytest.raises(mg.MetricgradError, match="takes no 'groups'"):
        mg.mismatch(nn.MSELoss(), "ndcg", scores, targets, groups=torch.arange(256) // 8, blocks=20)


@pytest.mark.parametrize(
    ("loss", "metric", "columns"),
    [(nn.BCEWithLogitsLoss(), "f1", 1), (nn.CrossEntropyLoss(), "accuracy", 2), (nn.MSELoss(), "mse", 1)],
)
def test_fit_trains_on_torch_losses(loss, metric, columns):
    inputs = torch.randn(96, 3, generator=G)
    targets = inputs[:, 0] if metric == "mse" else (inputs[:, 0] > 0).long()
    torch.manual_seed(0)
    found = mg.fit(
        nn.Linear(3, columns), (inputs, targets), (inputs, targets), metric=metric, loss=loss, lr=0.1, epochs=20,
        progress=False, device="cpu", decision="none",
    )  # fmt: skip
    assert found.valid < 0.1 if metric == "mse" else found.valid > 0.9


@pytest.mark.parametrize("columns", [1, 4])
def test_compare_hands_a_binary_or_multilabel_loss_of_torch_what_it_takes(columns, tmp_path):
    def data(seed):
        inputs = torch.randn(60, 3, generator=torch.Generator().manual_seed(seed))
        targets = (inputs @ torch.ones(3, columns) > 0).long()
        return split(inputs, targets[:, 0] if columns == 1 else targets, seed)

    task = Task("tiny", model=lambda: nn.Linear(3, columns), load=data, metric="f1", epochs=2, batch_size=20)
    table = compare(
        task, losses=("cross_entropy", nn.BCEWithLogitsLoss), trials=1, seeds=2, out=tmp_path, progress=False,
        controls=False,
    )  # fmt: skip
    assert table["BCEWithLogitsLoss"]["difference"] == pytest.approx(0, abs=1e-6)


def test_look_ahead_judges_by_a_torch_loss_as_by_ours():
    inputs, found = torch.randn(16, 3, generator=G), []
    targets = (inputs[:, 0] > 0).long()
    for objective in (nn.BCEWithLogitsLoss(), "cross_entropy"):
        torch.manual_seed(0)
        model = nn.Linear(3, 1).double()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        loss = mg.Loss(LearnedRate("task"), LookAhead(objective=objective))
        batch = inputs.double(), targets
        found.append(loss.aligner.hypergradient(model, optimizer, batch, batch)[0])
    torch.testing.assert_close(*found)


def test_look_ahead_on_the_training_batch_sees_its_mask():
    def moved(rows, **context):
        torch.manual_seed(0)
        model = nn.Linear(3, 1).double()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        loss = mg.Loss(LearnedRate("task"), LookAhead())
        handle = loss.attach(model, optimizer)
        loss(model(inputs[rows]), targets[rows], **context).backward()
        optimizer.step()
        handle.detach()
        return loss.aligner.last_hypergradient[0]

    inputs = torch.randn(16, 3, generator=G).double()
    targets = (inputs[:, 0] > 0).long()
    mask, everything = torch.arange(16) < 9, slice(None)
    torch.testing.assert_close(moved(everything, mask=mask), moved(mask))
    weight = torch.arange(16) % 3
    torch.testing.assert_close(
        moved(everything, sample_weight=weight), moved(torch.arange(16).repeat_interleave(weight))
    )


def test_warm_up_counts_weights():
    weight = torch.arange(12) % 3
    found = mg.UniLoss("f1", warm_up=5)(ONE, YES, sample_weight=weight)
    copies = [x.repeat_interleave(weight, 0) for x in (ONE, YES)]
    torch.testing.assert_close(found, mg.UniLoss("f1", warm_up=5)(*copies))  # at the first step the standard loss alone


def test_a_form_of_a_module_is_called_as_the_module():
    form = HandMade(nn.MSELoss())
    assert torch.equal(form(ONE, YES, call=CallContext(0, 0)), called(nn.MSELoss(), ONE, YES))


def test_a_name_is_no_module():
    with pytest.raises(mg.MetricgradError, match=r"module is 'lovasz'; expected a module of scores and targets"):
        HandMade("lovasz")
