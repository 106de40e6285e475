"""Callables that return odd things, write, draw, keep, raise, or want masks and weights of images and sentences."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from torch import Tensor, nn

import metricgrad as mg
from metricgrad.refactoring.labels import Argmax, Threshold
from metricgrad.refactoring.ranking.rankings import PositivesOverNegatives


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 8) -> tuple[Tensor, Tensor]:
    cuts = torch.linspace(-1.0, 1.0, n)[:, None, None]
    return torch.randn(n, 4, 5, generator=rng()), (torch.randn(n, 4, 5, generator=rng(1)) > cuts).long()


def sentences(n: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, padded targets, and the mask of what is no padding."""
    mask = torch.arange(6) < torch.randint(2, 7, (n, 1), generator=rng(2))
    targets = torch.randint(3, (n, 6), generator=rng(3))
    return torch.randn(n, 6, 3, generator=rng(4)), torch.where(mask, targets, -100), mask


def image_dice(labels: Tensor, targets: Tensor) -> Tensor:
    labels, targets = labels.flatten(1).double(), targets.flatten(1).double()
    return ((2 * (labels * targets).sum(1) + 1e-9) / (labels.sum(1) + targets.sum(1) + 1e-9)).mean()


def sentence_accuracy(targets: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> float:
    """The mean over sentences of the share of words that are right."""
    return float(np.mean([(t[m] == p[m]).mean() for t, p, m in zip(targets, labels, mask, strict=True)]))


def of(fn, reads="labels", **options) -> mg.Metric:
    return mg.as_metric(fn, higher_is_better=True, reads=reads, **options)


SENTENCES = of(sentence_accuracy, inputs="numpy", order="targets_first")


@pytest.mark.parametrize(
    "value",
    [0.5, Fraction(1, 2), Decimal("0.5"), np.float32(0.5), np.float16(0.5), np.array(0.5), np.array([0.5]),
     torch.tensor(0.5, dtype=torch.bfloat16), torch.tensor([0.5]), torch.tensor([[0.5]], requires_grad=True)],
    ids=repr,
)  # fmt: skip
def test_whatever_is_one_number(value):
    assert float(of(lambda *_: value)(torch.randn(4), torch.ones(4))) == 0.5


@pytest.mark.parametrize(
    ("value", "named"),
    [(None, "NoneType"), ("0.5", "str"), (np.array("0.5"), "str"), (1j, "complex"), (torch.tensor(1j), "complex"),
     ({"f1": 0.5}, "dict of 1"), (np.ones(3), "ndarray of 3"), (np.ones(0), "ndarray of 0"), ((1, 2), "tuple of 2")],
    ids=repr,
)  # fmt: skip
def test_what_is_no_number_is_refused_in_one_sentence(value, named):
    with pytest.raises(mg.MetricgradError, match=f"returned {named}.*one number"):
        of(lambda *_: value)(torch.randn(4), torch.ones(4))


def test_undefined_values_stay_undefined():
    for value in (float("nan"), np.ma.masked, torch.tensor(torch.nan)):
        assert of(lambda *_, value=value: value)(torch.randn(4), torch.ones(4)).isnan()


@pytest.mark.parametrize("inputs", ["torch", "numpy"])
@pytest.mark.parametrize("reads", ["scores", "probabilities", "labels"])
def test_a_callable_that_writes_into_its_inputs_gets_copies(inputs, reads):
    scores, targets = images()
    weight, mask = torch.rand(8, generator=rng()), torch.arange(8) < 7
    before = [x.clone() for x in (scores, targets, weight, mask)]
    values = []

    def writes(read, truth, sample_weight=None, mask=None):
        values.append(
            float(((read > (0.5 if reads == "probabilities" else 0)) == (truth > 0))[mask].sum())
            + float(sample_weight.sum())
        )
        for x in (read, truth, sample_weight, mask):
            x[...] = 0
        return values[-1]

    metric = of(writes, reads, inputs=inputs)
    found = metric.over(torch.stack([scores] * 3), targets, sample_weight=weight, mask=mask)
    assert len({*found.tolist()}) == 1
    assert all(torch.equal(a, b) for a, b in zip((scores, targets, weight, mask), before, strict=True))
    loss = mg.UniLoss(metric, Threshold(exchangeable="none"), calls=8)
    loss(scores.requires_grad_(), targets, sample_weight=weight, mask=mask).backward()
    assert all(torch.equal(a, b) for a, b in zip((scores, targets, weight, mask), before, strict=True))


def test_a_smooth_torch_metric_that_writes_has_the_gradient_of_what_it_returned():
    def writes(scores, targets):
        value = (scores - targets).square().mean()
        targets.zero_()
        scores.mul_(3.0)
        return value

    def reads(scores, targets):
        return (scores - targets).square().mean()

    scores, targets = torch.randn(20, generator=rng()), torch.randn(20, generator=rng(1))
    found = []
    for fn in (writes, reads):
        metric = mg.as_metric(fn, higher_is_better=False, reads="scores")
        leaf = scores.clone().requires_grad_()
        if fn is reads:
            metric.differentiable(leaf * 1.0, targets).backward()
            found.append(leaf.grad)
        else:
            assert float(metric.differentiable(leaf.detach(), targets)) == pytest.approx(float(reads(scores, targets)))
            mg.as_metric(fn, higher_is_better=False)(leaf, targets)
    assert found[0].abs().sum() > 0
    assert torch.equal(targets, torch.randn(20, generator=rng(1)))


def test_what_a_callable_keeps_does_not_change_any_more():
    kept = []
    metric = of(lambda s, t: kept.append((s, t, s.clone(), t.clone())) or float((s == t).double().mean()))
    scores, targets = torch.randn(12, generator=rng(), requires_grad=True), torch.arange(12) % 2
    mg.UniLoss(metric, Threshold(), calls=6)(scores, targets).backward()
    targets += 5
    with torch.no_grad():
        scores += 5
    assert len(kept) > 3
    assert all(torch.equal(s, again) and torch.equal(t, truth) for s, t, again, truth in kept)


def test_random_numbers_and_seeds_of_a_callable_are_its_own():
    def draws(labels, targets):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        return float((labels == targets).double().mean()) + 0.0 * (torch.rand(()).item() + np.random.rand())

    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    expected = torch.rand(2), np.random.rand(2), random.random()
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    scores, targets = torch.randn(20, generator=rng(), requires_grad=True), torch.arange(20) % 2
    mg.UniLoss(of(draws))(scores, targets).backward()
    assert torch.equal(torch.rand(2), expected[0])
    assert np.array_equal(np.random.rand(2), expected[1])
    assert random.random() == expected[2]


def test_what_a_callable_raises_names_the_shapes_it_was_called_with():
    def broken(labels, targets):
        raise IndexError("too many indices")

    with pytest.raises(mg.MetricgradError, match=r"broken.*IndexError: too many indices.*\(8, 4, 5\)"):
        of(broken)(*images())
    with pytest.raises(mg.MetricgradError, match="IndexError"):
        mg.UniLoss(of(broken), Threshold())(*images())


def test_a_metric_of_the_order_of_items_moves_each_by_itself():
    """The value depends on neighbours, as an edit distance does; swapping two items of one kind changes it."""

    def runs(labels, targets):
        return -(float((labels[1:] != labels[:-1]).sum() - (targets[1:] != targets[:-1]).sum()) ** 2)

    targets = (torch.arange(40) // 7) % 2
    refactoring = mg.infer_refactoring(of(runs), torch.randn(40), targets)
    assert (refactoring.name, refactoring.exchangeable) == ("threshold", "none")


def test_a_mask_over_rows_leaves_images_out_and_one_over_entries_is_refused():
    scores, targets = images()
    metric, rows = of(image_dice), torch.arange(8) % 3 > 0
    assert metric(scores, targets, mask=rows) == metric(scores[rows], targets[rows])
    loss = mg.UniLoss(metric, Threshold(exchangeable="sample"))
    leaf = scores.clone().requires_grad_()
    loss(leaf, targets, mask=rows).backward()
    assert (leaf.grad.flatten(1).abs().sum(1) > 0).tolist() == rows.tolist()
    for call in (metric, loss):
        with pytest.raises(mg.MetricgradError, match=r"no argument 'mask'.*give the function one.*\(8,\)"):
            call(scores, targets, mask=targets > 0)
    with pytest.raises(mg.MetricgradError, match="boolean"):
        metric(scores, targets, mask=rows.long())


def test_a_callable_that_takes_a_mask_gets_it_with_the_whole_batch():
    scores, padded, mask = sentences()
    right = torch.where(mask, scores.argmax(-1) == padded, False)
    expected = (right.sum(1) / mask.sum(1)).double().mean()
    assert float(SENTENCES(scores, padded, mask=mask)) == pytest.approx(float(expected))
    spoiled = torch.where(mask[..., None], scores, torch.nan)
    assert SENTENCES(spoiled, padded, mask=mask) == SENTENCES(scores, padded, mask=mask)
    assert SENTENCES(scores, padded, mask=torch.zeros_like(mask)).isnan()


@pytest.mark.parametrize("refactoring", [None, Argmax(exchangeable="none")], ids=["probed", "by hand"])
@pytest.mark.parametrize("interpolation", ["local", "inverse_distance"])
def test_padding_gets_no_gradient(refactoring, interpolation):
    scores, padded, mask = sentences()
    leaf = scores.clone().requires_grad_()
    loss = mg.UniLoss(SENTENCES, refactoring, interpolation=interpolation, calls=200)
    value = loss(leaf, padded, mask=mask)
    value.backward()
    assert bool((leaf.grad[~mask] == 0).all())
    step = scores - 5 * leaf.grad / leaf.grad.norm()
    assert float(SENTENCES(step, padded, mask=mask)) > float(SENTENCES(scores, padded, mask=mask))
    other = torch.where(mask[..., None], scores, 100.0)
    again = mg.UniLoss(SENTENCES, refactoring, interpolation=interpolation, calls=200)
    assert float(again(other, padded, mask=mask)) == pytest.approx(float(value.detach()))


def test_masked_words_move_as_the_metric_says():
    """At q = 1, and with the same decisions, each kept word's gradient is the change of the metric by that word."""
    scores, padded, mask = sentences(3)
    leaf = (12.0 * nn.functional.one_hot(scores.argmax(-1), 3)).double().requires_grad_()
    loss = mg.UniLoss(SENTENCES, Argmax(exchangeable="none"), softness=1.0, q=1.0, calls=200)
    (gradient,) = torch.autograd.grad(loss(leaf, padded, mask=mask), leaf)
    p, expected = leaf.detach().softmax(-1), torch.zeros_like(gradient)
    for n, t in mask.nonzero().tolist():
        value = nn.functional.one_hot(padded[n, t], 3).double() / mask[n].sum() / len(mask)
        expected[n, t] = -p[n, t] * (value - (p[n, t] * value).sum())
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-11)


def image_auroc(scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    pairs = [(s[m & (t > 0)], s[m & (t == 0)]) for s, t, m in zip(scores, targets, mask, strict=True)]
    return torch.stack([(a[:, None] > b).double().mean() for a, b in pairs if len(a) and len(b)]).mean()


def test_masked_lists_are_those_of_their_images():
    scores, targets = images()
    mask = torch.rand(targets.shape, generator=rng(5)) < 0.7
    metric = of(image_auroc, "scores")
    refactoring = mg.infer_refactoring(metric, scores, targets, mask=mask)
    assert (refactoring.name, refactoring.within) == ("positives_over_negatives", "sample"), refactoring.report()
    for chosen in (None, refactoring):
        leaf = scores.clone().requires_grad_()
        mg.UniLoss(metric, chosen)(leaf, targets, mask=mask).backward()
        assert bool((leaf.grad[~mask] == 0).all())
        step = scores - 20 * leaf.grad / leaf.grad.norm()
        assert float(metric(step, targets, mask=mask)) > float(metric(scores, targets, mask=mask)) + 0.02
    with pytest.raises(mg.MetricgradError, match="takes apart"):
        mg.UniLoss(metric, PositivesOverNegatives(within="row"))(scores, targets, mask=mask)


def test_weights_and_groups_come_in_their_own_shape_or_are_refused():
    scores, targets = images()
    weight, groups = torch.rand(8, generator=rng()), torch.arange(8) // 2
    shapes = []

    def weighted(labels, targets, sample_weight=None, groups=None):
        shapes.append((sample_weight.shape, groups.shape))
        right = (labels == targets).double().flatten(1).mean(1)
        sample_weight = sample_weight.reshape(len(labels), -1).mean(1)
        return float((right * sample_weight).sum() / sample_weight.sum())

    metric = of(weighted)
    found = metric(scores, targets, sample_weight=weight, groups=groups)
    right = ((scores > 0) == targets).double().flatten(1).mean(1)
    assert float(found) == pytest.approx(float((right * weight).sum() / weight.sum()))
    assert shapes == [((8,), (8,))]
    rows = torch.arange(8) < 5
    assert metric(scores, targets, sample_weight=weight, groups=groups, mask=rows) == metric(
        scores[:5], targets[:5], sample_weight=weight[:5], groups=groups[:5]
    )
    metric(scores, targets, sample_weight=weight[:, None, None].expand(targets.shape)[:, :, 0], groups=groups)
    assert shapes[-1] == ((8, 4), (8,))
    with pytest.raises(mg.MetricgradError, match="takes no 'sample_weight'"):
        of(image_dice)(scores, targets, sample_weight=weight)
    with pytest.raises(mg.MetricgradError, match="sample_weight has 3 values"):
        metric(scores, targets, sample_weight=weight[:3], groups=groups)
    loss = mg.UniLoss(metric)(scores.requires_grad_(), targets, sample_weight=weight, groups=groups)
    loss.backward()
    assert float(scores.grad.abs().sum()) > 0


def test_few_large_images_are_probed_on_made_up_ones_and_many_on_some():
    metric = of(image_dice)
    scores, targets = images(2)
    found = mg.infer_refactoring(metric, scores, targets)
    assert found.exchangeable == "sample"
    assert "2 samples are too few" in found.report()
    many = torch.zeros(40, 128, 128)
    found = mg.infer_refactoring(metric, many, (torch.rand(many.shape, generator=rng()) < 0.2).long())
    assert found.exchangeable == "sample"
    assert "the first 16 of 40 samples" in found.report()


def test_a_callable_for_one_list_works_on_one_list():
    def pooled(labels, targets):
        assert labels.ndim == targets.ndim == 1
        return sk.f1_score(targets, labels)

    metric = of(pooled, inputs="numpy")
    scores, targets = torch.randn(40, generator=rng(), requires_grad=True), torch.arange(40) % 2
    assert float(metric(scores.detach(), targets)) == pytest.approx(sk.f1_score(targets, scores.detach() > 0))
    mg.UniLoss(metric)(scores, targets).backward()
    with pytest.raises(mg.MetricgradError, match=r"(?s)AssertionError.*\(8, 4, 5\)"):
        metric(*images())


def by_sentence(labels: Tensor, targets: Tensor) -> Tensor:
    """Right words weigh more together: not the accuracy over all words."""
    assert labels.ndim == targets.ndim == 2
    return (labels == targets).double().mean(1).square().mean()


@pytest.fixture(scope="module")
def stored() -> dict[str, tuple[mg.Metric, Tensor, Tensor]]:
    """Scores of images and of sentences of which each is of another quality."""
    g = rng(9)
    share, quality = torch.rand(90, 1, 1, generator=g), 2 * torch.rand(90, 1, 1, generator=g)
    pixels = (torch.rand(90, 4, 4, generator=g) < 0.1 + 0.8 * share).long()
    words = torch.randint(3, (90, 5), generator=g)
    return {
        "images": (of(image_dice), torch.randn(90, 4, 4, generator=g) + quality * (2 * pixels - 1), pixels),
        "sentences": (
            of(by_sentence),
            torch.randn(90, 5, 3, generator=g) + 2 * quality * nn.functional.one_hot(words, 3),
            words,
        ),
    }


@pytest.mark.parametrize("kind", ["images", "sentences"])
def test_blocks_of_stored_pairs_are_of_whole_images_and_sentences(kind, stored):
    metric, scores, targets = stored[kind]
    loss = mg.ReLoss.fit(metric, scores, targets, block=8, steps=20)
    assert loss.report()["rows"] == 27  # three tenths of 90 images, not of their pixels
    assert loss.report()["correlation"]["value"] > 0.5
    leaf = scores.clone().requires_grad_()
    loss(leaf, targets).backward()
    assert leaf.grad.shape == scores.shape
    assert leaf.grad.abs().sum() > 0


def test_mismatch_hands_every_loss_whole_sentences(stored):
    metric, scores, targets = stored["sentences"]
    seen = []

    def cross_entropy(scores, targets):
        seen.append((tuple(scores.shape), tuple(targets.shape)))
        return nn.functional.cross_entropy(scores, targets)

    assert mg.mismatch(cross_entropy, metric, scores, targets, block=8, blocks=40).value > 0.4
    assert set(seen) == {((8, 3, 5), (8, 5))}  # torch wants the class axis second
    own = mg.UniLoss(metric, Argmax(exchangeable="sample"), calls=12).eval()
    assert mg.mismatch(own, metric, scores, targets, block=8, blocks=20).value > 0  # by_sentence takes sentences alone


def test_fit_judges_whole_images_and_sentences():
    inputs = torch.randint(9, (36, 6), generator=rng())
    parts = (inputs[:20], inputs[:20] % 3), (inputs[20:], inputs[20:] % 3)
    result = mg.fit(nn.Embedding(9, 3), *parts, metric=of(by_sentence), epochs=8, lr=0.2, batch_size=10, progress=False)
    assert result.valid > 0.9


def test_one_that_draws_sees_the_same_draw_for_every_score_set():
    def bootstrap(labels, targets):
        rows = torch.randint(len(targets), (len(targets),))
        return (labels == targets)[rows].double().mean()

    scores, targets = torch.randn(30, generator=rng()), torch.arange(30) % 2
    found = of(bootstrap).over(torch.stack([scores, scores, -scores, scores]), targets)
    assert found[0] == found[1] == found[3] != found[2]


def test_probabilities_where_logits_are_meant_are_noticed_for_a_callable_too():
    scores, targets = images(60)
    with pytest.warns(UserWarning, match="probabilit"):
        of(image_dice)(scores.sigmoid(), targets)
