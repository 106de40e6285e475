"""The learned loss of embeddings: what it reads, what cannot matter to it, and its second derivatives."""

import pytest
import torch

import metricgrad as mg
from metricgrad.functional.cosines import same_class
from metricgrad.losses.distances import to_others
from metricgrad.losses.networks.embeddings import EmbeddingNetwork, of_distances


def _batch(rows=14, classes=4, size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(rows) % classes
    return torch.randn(rows, size, generator=generator, dtype=torch.float64), targets


def test_turning_embeddings_stretching_rows_and_renaming_classes_change_nothing():
    loss, (embeddings, targets) = mg.Loss(EmbeddingNetwork()), _batch()
    expected = loss(embeddings, targets)
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(loss(embeddings @ turn, targets), expected)
    torch.testing.assert_close(loss(embeddings * torch.arange(1, 15)[:, None], targets), expected)
    torch.testing.assert_close(loss(embeddings, 900 - 7 * targets), expected)
    torch.testing.assert_close(loss(embeddings[order], targets[order]), expected)
    torch.testing.assert_close(loss(torch.nn.functional.pad(embeddings, (0, 60)), targets), expected)
    assert abs(float(loss(embeddings, targets.roll(1) // 2)) - float(expected)) > 1e-3


def test_no_reading_falls_where_the_own_class_moves_away_or_another_comes_nearer():
    generator = torch.Generator().manual_seed(0)
    distances = (2 * torch.rand(6, 9, generator=generator, dtype=torch.float64)).requires_grad_()
    same = torch.rand(6, 9, generator=generator) < 0.4
    same[:, 0], same[:, 1] = True, False
    for reading in of_distances(distances, same).unbind(-1):
        (slope,) = torch.autograd.grad(reading.sum(), distances, retain_graph=True)
        assert float(torch.where(same, slope, -slope).min()) > -1e-12
        assert float(slope.abs().sum()) > 0.1


def test_rows_alone_in_their_class_ask_nothing_but_stand_in_the_way():
    form = EmbeddingNetwork()
    embeddings = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1], [0.0, 1.0]])
    targets = torch.tensor([3, 3, 5, 5, 8])
    far, near = (
        float(form.over(torch.cat([embeddings[:4], row])[None], targets[None])[0])
        for row in (embeddings[4:], torch.tensor([[1.0, 0.0]]))
    )
    asking = form.network.mlp(of_distances(to_others(embeddings), same_class(targets))[:4])
    assert far == pytest.approx(float(torch.nn.functional.softplus(asking).mean()))
    assert near > far
    alone = torch.arange(5)
    scores = embeddings.clone().requires_grad_()
    mg.Loss(form)(scores, alone).backward()
    assert scores.grad is not None
    assert float(scores.grad.abs().sum()) == 0


def test_blocks_of_other_classes_are_valued_at_once():
    form, blocks = EmbeddingNetwork(), [_batch(12, classes, seed=classes) for classes in (2, 3, 6)]
    together = form.over(*(torch.stack(side) for side in zip(*blocks, strict=True)))
    for value, (embeddings, targets) in zip(together, blocks, strict=True):
        torch.testing.assert_close(value, form.over(embeddings[None], targets[None])[0])


def test_it_can_be_differentiated_twice():
    form, (embeddings, targets) = EmbeddingNetwork(), _batch(8, 3, 3)
    embeddings.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda e: form.over(e[None], targets[None]), (embeddings,), atol=1e-4)


def test_nearer_to_the_mean_of_its_class_is_towards_its_target():
    form, (embeddings, targets) = EmbeddingNetwork(), _batch()
    slope = torch.randn(embeddings.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    units = torch.nn.functional.normalize(embeddings, dim=1)
    others = (targets == targets[3]) & (torch.arange(len(targets)) != 3)
    expected = slope[3] @ (units[others].mean(0) - units[3])
    torch.testing.assert_close(form.reader.target_direction(slope, embeddings, targets)[3], expected)


def test_other_input_is_refused():
    loss, (embeddings, targets) = mg.Loss(EmbeddingNetwork()), _batch()
    with pytest.raises(mg.MetricgradError, match="integer class numbers"):
        loss(embeddings, targets.double())
    with pytest.raises(mg.MetricgradError, match="takes no 'groups'"):
        loss(embeddings, targets, groups=targets)
