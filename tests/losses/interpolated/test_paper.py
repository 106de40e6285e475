"""The paper's anchors: how many bits they flip, which comparisons they see, and that they are made all at once."""

import time

import pytest
import torch
from torch import Tensor

import metricgrad as mg
from metricgrad.refactoring.anchors import bit_anchors, nearest
from metricgrad.refactoring.labels import Argmax


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_one_bit_is_flipped():
    assert mg.UniLoss("accuracy", paper=True).form.flips == 1
    assert mg.UniLoss("accuracy", paper="released").form.flips == 1


def test_a_released_nearby_anchor_flips_a_bit_of_the_best_where_none_is_wrong():
    current = torch.ones(6, dtype=torch.bool)
    bits = bit_anchors(current, each=64, flips=1, released=True, generator=_generator())
    nearby = bits[1 + 2 * 64 :]
    assert ((~nearby).sum(1) == 1).all()
    assert (~nearby).any(0).all(), "each bit has its turn"


@pytest.mark.parametrize("paper", ["published", "released"])
def test_a_batch_that_is_all_right_is_still_pulled_up(paper):
    """With 16 copies of the best among the anchors the gradient would be some three times as small."""
    scores = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.5, 0.0]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 1])
    form = mg.UniLoss("accuracy", paper=paper, anchors=8000, seed=1)
    form(scores, targets).backward()
    # expected anchors: 1 best, good and nearby each with one of four bits flipped, bad ones with a coin for each bit
    comparisons = (scores.gather(1, targets[:, None]) - scores)[torch.tensor([[0, 1, 1], [1, 0, 1]]) > 0]
    soft, one = comparisons.sigmoid(), torch.eye(4, dtype=torch.float64)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)
    anchors = torch.cat([torch.ones(1, 4).double(), 1 - one, 1 - one, every])
    count = torch.cat([torch.ones(1), torch.full((8,), 2000.0), torch.full((16,), 500.0)]).double()
    value = anchors.reshape(-1, 2, 2).prod(2).mean(1)
    weight = count / (soft - anchors).square().sum(1).sqrt()
    (expected,) = torch.autograd.grad(1 - (weight * value).sum() / weight.sum(), scores)
    torch.testing.assert_close(scores.grad, expected, rtol=0.05, atol=1e-3)


def test_a_share_is_of_the_rivals_of_each_row():
    comparisons = torch.tensor([3.0, -1.0, 2.0, 0.5, 9.0, 8.0, 7.0, 6.0])
    owners = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    assert nearest(comparisons, owners, 0.5).tolist() == [1, 3, 6, 7]
    assert nearest(comparisons, owners, 0.01).tolist() == [1, 7]
    assert nearest(comparisons, owners, 1.0).tolist() == list(range(8))


def test_a_row_that_is_far_from_its_rivals_is_looked_at_like_any_other():
    """Over the whole batch the half nearest to being violated would be the first row's alone."""
    scores = torch.tensor([[0.0, 3.0, 2.0, -1.0, -2.0], [0.0, 2.0, 1.0, 0.0, -1.0]])
    scores = (scores + torch.tensor([[0.0], [2.0]]) * torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])).requires_grad_()
    mg.UniLoss("accuracy", paper=True, share=0.5)(scores, torch.tensor([0, 0])).backward()
    looked_at = torch.tensor([[True, True, True, False, False]] * 2)
    assert torch.equal(scores.grad != 0, looked_at)


def test_what_a_share_leaves_out_counts_as_decided_right():
    """A row is right when its target beats the best rivals: the value of the anchors is that of these comparisons."""
    seen: list[Tensor] = []

    def accuracy(scores, targets):
        seen.append(scores)
        return (scores.argmax(-1) == targets).double().mean()

    metric = mg.as_metric(accuracy, higher_is_better=True)
    scores, targets = torch.randn(3, 11, generator=_generator()).requires_grad_(), torch.tensor([0, 4, 9])
    mg.UniLoss(metric, Argmax(), paper=True, share=0.2)(scores, targets).backward()
    rivals = scores.detach().scatter(1, targets[:, None], -torch.inf).topk(2).indices
    others = torch.ones(3, 11, dtype=torch.bool).scatter(1, rivals, False).scatter(1, targets[:, None], False)
    anchors = torch.stack(seen[-49:])
    right = anchors.gather(2, targets.expand(49, -1)[..., None]) > anchors
    assert right[:, others].all()
    assert not right[:, ~others].all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("metric", "classes"), [("average_precision", 0), ("auroc", 0), ("accuracy", 5)])
@pytest.mark.parametrize("targets", [[0, 0, 0], [1, 1, 1]])
def test_batches_of_one_class_and_a_share(metric, classes, targets):
    scores = torch.randn(3, *[classes] * bool(classes), generator=_generator()).requires_grad_()
    loss = mg.UniLoss(metric, paper=True, share=0.5)
    value = loss(scores, torch.tensor(targets))
    value.backward()
    assert torch.isfinite(scores.grad).all()
    assert torch.isfinite(value)


def test_anchors_are_realised_all_at_once():
    """128 rows of 62 classes: one after the other the 49 anchors took some thirty times as long."""
    scores, targets = torch.randn(128, 62, generator=_generator()), torch.arange(128) % 62
    refactoring = Argmax()
    bits = torch.rand(49, 128 * 61, generator=_generator(1)) > 0.5

    def seconds(run):
        run()
        times = []
        for _ in range(3):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return min(times)

    at_once = seconds(lambda: refactoring.score_sets(bits, scores, targets))
    each = seconds(lambda: [refactoring.scores_from(row, scores, targets) for row in bits])
    assert at_once < each / 2
