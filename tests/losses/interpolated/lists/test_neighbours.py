"""The loss of embeddings: each row's list of the others, moved as calls of the row's metric say."""

import pytest
import torch

import metricgrad as mg
from metricgrad.functional.cosines import same_class, similarities
from metricgrad.losses.interpolated.lists.neighbours import NeighbourLists
from metricgrad.losses.interpolated.lists.soft_lists import soft_lists
from metricgrad.metrics.families import counts
from metricgrad.metrics.families.neighbours import first_hit, precision_to_r
from metricgrad.metrics.of_counts import MeanOverPositives
from metricgrad.refactoring.batch import Batch

SOFTNESS = torch.tensor(0.3, dtype=torch.float64)


def draw(n=24, d=4, classes=5, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64), torch.randint(classes, (n,), generator=g) * 3


def test_of_a_metric_linear_in_the_comparisons_it_is_the_sigmoid_relaxation():
    """The mean over rows of each one's AUROC is linear in the soft counts, so slopes reproduce it exactly."""
    scores, targets = draw()
    similar, relevant = similarities(scores), same_class(targets)
    soft = torch.stack(
        [
            ((row[mine][:, None] - row[~mine]) / SOFTNESS).sigmoid().mean()
            for row, mine in zip(similar, relevant, strict=True)
            if mine.any()
        ]
    ).mean()
    auroc = MeanOverPositives(counts.auroc, "halves", by_place=False)
    found = soft_lists(auroc, {}, Batch(scores, targets, {}), NeighbourLists(targets), SOFTNESS, q=1.0)
    assert found.loss is not None
    torch.testing.assert_close(found.loss, 1 - soft)


def by_moves(row_metric, scores, targets):
    """The sum over moves of each positive: slope of the row's metric times how many stand softly above it."""
    similar, relevant = similarities(scores), same_class(targets)
    asking, total = relevant.any(1).sum(), 0.0
    for row, mine in zip(similar, relevant, strict=True):
        hard = row.detach()
        for item in mine.nonzero()[:, 0].tolist():
            away = (row[~mine] - row[item]) / SOFTNESS
            above, width = (
                int((hard[~mine] > hard[item]).sum()),
                round(float((2 * away.sigmoid() * (-away).sigmoid()).sum())),
            )
            ends = [max(above - max(width, 1), 0), min(above + max(width, 1), len(away))]
            edges = torch.cat([torch.tensor([9.0]), hard[~mine].sort(descending=True).values, torch.tensor([-9.0])])
            values = []
            for end in ends:
                moved = hard.clone()
                moved[item] = (edges[end] + edges[end + 1]) / 2
                values.append(float(row_metric(moved[None], mine[None])))
            slope = (values[0] - values[1]) / max(1, ends[1] - ends[0])
            total = total + slope * away.sigmoid().sum() / asking
    return total


@pytest.mark.parametrize(("name", "of_row"), [("retrieval_recall", first_hit), ("map_at_r", precision_to_r)])
def test_its_gradient_is_that_of_moves_by_the_metric_of_a_row(name, of_row):
    scores, targets = draw(20, 3, 4)
    leaf, again = (scores.clone().requires_grad_() for _ in range(2))
    mg.UniLoss(name, softness=float(SOFTNESS), q=1.0)(leaf, targets).backward()
    by_moves(of_row, again, targets).backward()
    torch.testing.assert_close(leaf.grad, again.grad, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["retrieval_recall", "map_at_r"])
def test_it_is_differentiable_twice(name):
    scores, targets = draw(10, 3, 3)
    loss = mg.UniLoss(name, softness=0.4).eval()
    assert torch.autograd.gradgradcheck(lambda s: loss(s, targets), (scores.requires_grad_(),), atol=1e-4)


def test_its_softness_has_a_gradient():
    scores, targets = draw(10, 3, 3)
    path, leaf = MeanOverPositives(counts.precision_to_r, "negatives_first"), SOFTNESS.clone().requires_grad_()

    def at(softness):
        return soft_lists(path, {}, Batch(scores, targets, {}), NeighbourLists(targets), softness, q=0.5).loss

    (slope,) = torch.autograd.grad(at(leaf), leaf)
    nearby = [at(SOFTNESS + step) for step in (-1e-6, 1e-6)]
    torch.testing.assert_close(slope, (nearby[1] - nearby[0]) / 2e-6, rtol=1e-4, atol=1e-6)


def test_a_share_of_the_pairs_are_the_most_similar_ones():
    scores, targets = draw(30, 4, 3)
    leaf = scores.requires_grad_()
    whole, half = (
        torch.autograd.grad(mg.UniLoss("map_at_r", softness=0.05, share=share)(leaf, targets), leaf)[0]
        for share in (1.0, 0.5)
    )
    assert not torch.equal(whole, half)
    assert torch.nn.functional.cosine_similarity(whole.flatten(), half.flatten(), dim=0) > 0.9


def test_surely_wrong_pairs_keep_a_slope():
    """Two rows of one class that face away from each other, at a softness of a two-hundredth of their distance."""
    angles = torch.tensor([0.0, 3.0, 0.1, 3.1], dtype=torch.float64)
    scores = torch.stack([angles.cos(), angles.sin()], 1).requires_grad_()
    loss = mg.UniLoss("map_at_r", softness=0.01, q=1.0)
    (gradient,) = torch.autograd.grad(loss(scores, torch.tensor([0, 0, 1, 1])), scores, create_graph=True)
    assert gradient.norm(dim=1).min() > 1e-3
    again = torch.autograd.grad(gradient.square().sum(), scores)[0]
    assert again.isfinite().all()


def test_a_first_batch_without_pairs_sets_no_softness():
    scores, targets = draw(12)
    fresh, late = mg.UniLoss("map_at_r"), mg.UniLoss("map_at_r")
    with pytest.warns(UserWarning, match="undefined"):
        late(scores, torch.arange(12))
    for loss in (fresh, late):
        loss(scores, targets)
    assert torch.equal(fresh.form.log_softness, late.form.log_softness)
