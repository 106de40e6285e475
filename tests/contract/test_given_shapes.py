"""A callable gets batches as its author wrote it for: images stay images and sentences sentences, down to the moves."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torchmetrics.functional.classification as tc
from torch import Tensor, nn

import metricgrad as mg
from metricgrad.refactoring.labels import Argmax, Threshold
from metricgrad.refactoring.ranking.rankings import PositivesOverNegatives, Ranking
from metricgrad.refactoring.top_k import TopK
from tests.metrics.tester import labels, sigmoid, softmax

SHAPES = [  # of scores and of targets, as passed and as handed over
    ((6,), (6,), (6,), (6,)),
    ((6, 1), (6,), (6,), (6,)),
    ((6, 1), (6, 1), (6,), (6,)),
    ((6, 4), (6, 4), (6, 4), (6, 4)),
    ((6, 4), (6,), (6, 4), (6,)),
    ((6, 3, 4), (6, 3, 4), (6, 3, 4), (6, 3, 4)),
    ((6, 1, 3, 4), (6, 1, 3, 4), (6, 1, 3, 4), (6, 1, 3, 4)),
    ((6, 3, 4), (6, 3), (6, 3, 4), (6, 3)),
    ((6, 3, 1), (6, 3), (6, 3), (6, 3)),
    ((6, 3, 5, 4), (6, 3, 5), (6, 3, 5, 4), (6, 3, 5)),
]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(shape: tuple[int, ...], of_targets: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    classes = shape[-1] if len(shape) > len(of_targets) and shape[-1] > 1 else 2
    return torch.randn(shape, generator=rng()), torch.randint(classes, of_targets, generator=rng(1))


def image_dice(labels: Tensor, targets: Tensor) -> Tensor:
    """The mean over images."""
    labels, targets = labels.flatten(1).double(), targets.flatten(1).double()
    return ((2 * (labels * targets).sum(1) + 1e-9) / (labels.sum(1) + targets.sum(1) + 1e-9)).mean()


def entities(row: np.ndarray) -> set[tuple[int, int]]:
    """Spans of 1 followed by 2s."""
    found, start = set(), None
    for place, tag in enumerate([*row, 0]):
        if start is not None and tag != 2:
            found.add((start, place))
            start = None
        start = place if tag == 1 else start
    return found


def entity_f1(targets: np.ndarray, labels: np.ndarray) -> float:
    """The mean over sentences."""
    pairs = [(entities(a), entities(b)) for a, b in zip(targets, labels, strict=True)]
    return float(np.mean([2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0 for a, b in pairs]))


def image_auroc(scores: Tensor, targets: Tensor) -> Tensor:
    """The mean over images."""
    pairs = [(s[t > 0], s[t == 0]) for s, t in zip(scores, targets, strict=True)]
    return torch.stack([(a[:, None] > b).double().mean() for a, b in pairs if len(a) and len(b)]).mean()


DICE = mg.as_metric(image_dice, higher_is_better=True, reads="labels")
ENTITY_F1 = mg.as_metric(entity_f1, higher_is_better=True, reads="labels", inputs="numpy", order="targets_first")
IMAGE_AUROC = mg.as_metric(image_auroc, higher_is_better=True, reads="scores")


def images(n: int = 8) -> tuple[Tensor, Tensor]:
    """Scores, and targets of which each image has another share."""
    cuts = torch.linspace(-1.0, 1.0, n)[:, None, None]
    return torch.randn(n, 5, 6, generator=rng()), (torch.randn(n, 5, 6, generator=rng(1)) > cuts).long()


def sentences(n: int = 16) -> tuple[Tensor, Tensor]:
    targets = torch.randint(3, (n, 7), generator=rng(2))
    return torch.randn(n, 7, 3, generator=rng(3)), targets


@pytest.mark.parametrize("inputs", ["torch", "numpy"])
@pytest.mark.parametrize("order", ["scores_first", "targets_first"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_what_a_callable_is_handed(inputs, order, shapes):
    scores, targets = batch(*shapes[:2])
    wide = scores.reshape(shapes[2]).double().numpy()
    kept = targets.reshape(shapes[3]).numpy()
    odds = sigmoid if wide.shape == kept.shape else softmax
    expected = {"scores": wide, "probabilities": odds(wide), "labels": labels(wide, kept)}
    for reads, wanted in expected.items():
        seen = []

        def keep(*pair, factor, seen=seen):
            seen.append(pair if order == "scores_first" else pair[::-1])
            return factor * np.asarray(seen[-1][0], dtype=float).sum()

        metric = mg.as_metric(keep, higher_is_better=True, reads=reads, inputs=inputs, order=order, factor=2)
        values = metric.over(torch.stack([scores, scores]), targets)
        assert values.tolist() == pytest.approx([2 * wanted.sum()] * 2, rel=1e-5)
        for read, truth in seen:
            assert isinstance(read, np.ndarray if inputs == "numpy" else Tensor)
            np.testing.assert_allclose(np.asarray(read), wanted, rtol=1e-5)
            np.testing.assert_array_equal(np.asarray(truth), kept)


def test_scores_of_images_and_sentences_are_what_their_author_wrote():
    targets = torch.tensor([[[1, 1], [1, 1]], [[0, 1], [0, 0]]])
    found = torch.tensor([[[1.0, 1.0], [1.0, -1.0]], [[1.0, 1.0], [-1.0, -1.0]]])
    assert float(DICE(found, targets)) == pytest.approx((6 / 7 + 2 / 3) / 2, abs=1e-6)
    assert DICE.over(torch.stack([found, 2.0 * targets - 1]), targets).tolist() == pytest.approx([16 / 21, 1], abs=1e-6)
    tags = torch.tensor([[1, 2, 0, 1], [0, 1, 0, 0]])
    said = nn.functional.one_hot(torch.tensor([[1, 2, 0, 0], [0, 1, 2, 0]]), 3).float()
    assert float(ENTITY_F1(said, tags)) == pytest.approx((2 / 3 + 0) / 2, abs=1e-6)


def test_metrics_of_other_libraries_get_what_they_document():
    scores, targets = sentences()
    flat = labels(scores.numpy(), targets.numpy()).reshape(-1), targets.numpy().reshape(-1)
    expected = sk.f1_score(flat[1], flat[0], average="macro")
    assert float(mg.as_metric(sk.f1_score, average="macro")(scores, targets)) == pytest.approx(expected)
    exact = mg.as_metric(tc.multiclass_exact_match, num_classes=3)
    targets[:4] = scores[:4].argmax(-1)
    assert float(exact(scores, targets)) == pytest.approx(4 / 16)
    assert mg.infer_refactoring(exact, scores, targets).exchangeable == "sample"
    assert float(mg.UniLoss(exact)(scores, targets)) > 0


@pytest.mark.parametrize(
    ("metric", "made", "name", "tells"),
    [
        (DICE, images, "threshold", {"exchangeable": "sample"}),
        (mg.as_metric(lambda p, t: (p == t).double().mean(), higher_is_better=True, reads="labels", name="accuracy"),
         images, "threshold", {"exchangeable": "all"}),
        (mg.as_metric(lambda p, t: ((p == t).double().mean((0, 1)).square()).mean(), higher_is_better=True,
         reads="labels", name="by last axis"), images, "threshold", {"exchangeable": "column"}),
        (ENTITY_F1, sentences, "argmax", {"exchangeable": "none"}),
        (mg.as_metric(lambda p, t: (p == t).double().mean(1).square().mean(), higher_is_better=True, reads="labels",
         name="by sentence"), sentences, "argmax", {"exchangeable": "sample"}),
        (IMAGE_AUROC, images, "positives_over_negatives", {"within": "sample"}),
        (mg.as_metric(lambda s, t: sk.roc_auc_score(t.flatten(), s.flatten()), higher_is_better=True, name="pooled"),
         images, "positives_over_negatives", {"within": "all"}),
    ],
    ids=lambda x: getattr(x, "name", None),
)  # fmt: skip
def test_probing_tells_which_entries_stand_for_each_other(metric, made, name, tells):
    refactoring = mg.infer_refactoring(metric, *made())
    assert refactoring.name == name, refactoring.report()
    assert {key: getattr(refactoring, key) for key in tells} == tells, refactoring.report()


@pytest.mark.parametrize(
    ("refactoring", "made"),
    [
        (Threshold(), images),
        (Argmax(), sentences),
        (TopK(k=2), sentences),
        (PositivesOverNegatives(within="sample"), images),
        (PositivesOverNegatives(within="row"), sentences),
        (Ranking(within="sample"), images),
    ],
    ids=lambda x: getattr(x, "name", getattr(x, "__name__", None)),
)
def test_refactorings_read_these_shapes(refactoring, made):
    scores, targets = made()
    bits = refactoring.binaries(scores, targets)
    assert bits.shape == refactoring.comparisons(scores, targets).shape
    again = refactoring.scores_from(bits, scores, targets)
    assert again.shape == scores.shape
    assert torch.equal(refactoring.binaries(again, targets), bits)
    best = refactoring.ideal(scores, targets, 3, rng())
    assert best.shape == (3, *scores.shape)
    assert all(bool(refactoring.binaries(one, targets).all()) for one in best)
    moved = refactoring.perturbed(best, targets, 2, rng())
    assert moved.shape == best.shape
    assert bool((moved != best).flatten(1).any(1).all())


def test_lists_of_samples_are_images_and_those_of_rows_lie_along_the_last_axis():
    scores, targets = images(3)
    pairs = {w: len(PositivesOverNegatives(within=w).comparisons(scores, targets)) for w in ("sample", "row", "column")}
    of = {"sample": targets.flatten(1), "row": targets.flatten(0, 1), "column": targets.flatten(0, 1).T}
    assert pairs == {w: int((t.sum(1) * (1 - t).sum(1)).sum()) for w, t in of.items()}


def test_a_refactoring_refuses_shapes_that_would_broadcast():
    with pytest.raises(mg.MetricgradError, match="one shape"):
        Threshold().comparisons(torch.randn(4, 1), torch.ones(4))
    with pytest.raises(mg.MetricgradError, match="last axis for the classes"):
        Argmax().comparisons(torch.randn(4, 3), torch.ones(4, 3).long())


@pytest.mark.parametrize("exchangeable", ["sample", "none"])
def test_the_gradient_is_the_metric_s_own_change_by_each_pixel(exchangeable):
    """At q = 1 and with decisions made, dl / ds is minus the change of the metric by that entry times sigmoid'."""
    _, targets = images(3)
    scores = 9 * torch.sign(torch.randn(targets.shape, generator=rng(4), dtype=torch.float64)).requires_grad_()
    loss = mg.UniLoss(DICE, Threshold(exchangeable=exchangeable), softness=1.0, q=1.0, calls=200)
    (gradient,) = torch.autograd.grad(loss(scores, targets), scores)
    expected = torch.zeros_like(gradient)
    for place in np.ndindex(*targets.shape):
        up, down = scores.detach().clone(), scores.detach().clone()
        up[place], down[place] = 9.0, -9.0
        soft = float(scores[place].detach().sigmoid())
        expected[place] = -float(DICE(up, targets) - DICE(down, targets)) * soft * (1 - soft)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-11)


def test_the_gradient_of_a_sentence_metric_is_its_own_change_by_each_word():
    scores, targets = sentences(3)
    scores = (12.0 * nn.functional.one_hot(scores.argmax(-1), 3)).double().requires_grad_()
    loss = mg.UniLoss(ENTITY_F1, Argmax(exchangeable="none"), softness=1.0, q=1.0, calls=200)
    (gradient,) = torch.autograd.grad(loss(scores, targets), scores)
    p = scores.detach().softmax(-1)
    expected = torch.zeros_like(gradient)
    for n, t in np.ndindex(*targets.shape):
        value = torch.zeros(3, dtype=torch.float64)
        for c in range(3):
            moved = scores.detach().clone()
            moved[n, t] = 12.0 * nn.functional.one_hot(torch.tensor(c), 3)
            value[c] = ENTITY_F1(moved, targets)
        expected[n, t] = -p[n, t] * (value - (p[n, t] * value).sum())
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-11)


@pytest.mark.parametrize("refactoring", [None, Threshold(exchangeable="sample")], ids=["probed", "by hand"])
def test_a_convolution_learns_dice_by_image(refactoring):
    torch.manual_seed(0)
    inputs = torch.randn(8, 1, 8, 8)
    targets = (nn.functional.avg_pool2d(inputs, 3, 1, 1)[:, 0] > torch.linspace(-0.2, 0.5, 8)[:, None, None]).long()
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    optimizer, loss = torch.optim.Adam(net.parameters(), lr=0.03), mg.UniLoss(DICE, refactoring)
    before = float(DICE(net(inputs)[:, 0].detach(), targets))
    for _ in range(50):
        optimizer.zero_grad()
        loss(net(inputs)[:, 0], targets).backward()
        optimizer.step()
    assert float(DICE(net(inputs)[:, 0].detach(), targets)) > before + 0.5


def test_a_tagger_learns_entity_f1_by_sentence():
    torch.manual_seed(0)
    words = torch.randint(9, (12, 7))
    targets = (words >= 6).long()
    for place in range(1, 7):
        inside = (words[:, place] < 3) & (targets[:, place - 1] > 0)
        targets[:, place] = torch.where(inside, 2, targets[:, place])
    embed, mix = nn.Embedding(9, 12), nn.Conv1d(12, 3, 3, padding=1)
    optimizer = torch.optim.Adam([*embed.parameters(), *mix.parameters()], lr=0.03)
    loss = mg.UniLoss(ENTITY_F1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(mix(embed(words).mT).mT, targets).backward()
        optimizer.step()
    assert float(ENTITY_F1(mix(embed(words).mT).mT.detach(), targets)) > 0.8


@pytest.mark.parametrize("interpolation", ["local", "inverse_distance"])
@pytest.mark.parametrize(("metric", "made"), [(DICE, images), (ENTITY_F1, sentences), (IMAGE_AUROC, images)],
                         ids=lambda x: getattr(x, "name", None))  # fmt: skip
def test_uniloss_has_a_gradient_that_helps(metric, made, interpolation):
    scores, targets = made()
    scores = (0.5 * scores).requires_grad_()
    loss = mg.UniLoss(metric, interpolation=interpolation)
    value = loss(scores, targets)
    (gradient,) = torch.autograd.grad(value, scores)
    assert gradient.shape == scores.shape
    step = scores.detach() - 20 * gradient / gradient.norm()
    assert float(metric(step, targets)) > float(metric(scores.detach(), targets))
    best = mg.infer_refactoring(metric, scores, targets).ideal(scores.detach(), targets, 1, rng())[0]
    assert float(loss(40 * best, targets)) == pytest.approx(0, abs=1e-4)
