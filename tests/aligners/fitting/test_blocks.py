"""Blocks of embeddings and of whole queries, and what is done to them."""

import pytest
import torch

import metricgrad as mg
from metricgrad.aligners.fitting.blocks import Block, ScoreStore
from metricgrad.aligners.fitting.labeled_blocks import LabeledBlocks
from metricgrad.losses.networks.lists import ListNetwork


def _g(seed=0):
    return torch.Generator().manual_seed(seed)


def _embeddings(rows=400, classes=50):
    """Each class round a direction of its own; class numbers are of any size."""
    targets = torch.randint(classes, (rows,), generator=_g())
    aims = torch.randn(classes, 16, generator=_g(1))
    return aims[targets] + 0.7 * torch.randn(rows, 16, generator=_g(2)), 7 * targets - 90


def test_a_block_of_embeddings_has_several_rows_of_a_few_classes():
    store = ScoreStore.of(*_embeddings(), per_class=4)
    for seed in range(5):
        block = store.draw(32, "real", _g(seed))
        counts = block.targets.unique(return_counts=True)[1]
        assert len(block.targets) == 32
        assert int(counts.max()) == 4
        assert len(counts) <= 16
        assert len(block.scores.unique(dim=0)) == 32  # no row twice


def test_rows_of_more_classes_than_there_are_come_from_the_same_ones():
    embeddings, targets = _embeddings(classes=3)
    block = ScoreStore.of(embeddings, targets, per_class=4).draw(60, "real", _g())
    assert len(block.scores.unique(dim=0)) == 60
    assert int(block.targets.unique(return_counts=True)[1].min()) >= 4


def test_a_block_holds_embeddings_of_one_model():
    embeddings, targets = _embeddings()
    moments = torch.arange(400) % 3
    embeddings[:, 0] = 100.0 * moments
    store = ScoreStore.of(embeddings, targets, groups=moments, per_class=4)
    parts = store.split([0.5, 0.5], _g())
    assert sum(len(part) for part in parts) == 400
    seen = [part.draw(part.fits(32), "real", _g(seed)).scores[:, 0].unique() for part in parts for seed in range(8)]
    assert all(len(one) == 1 for one in seen)
    assert len({float(one) for one in seen}) == 3
    assert store.draw(16, "real", _g()).groups is None  # the metric is asked of one model's rows, not of groups


@pytest.mark.parametrize("kind", ["real", "tempered", "shifted", "flipped", "random"])
def test_kinds_of_embeddings_spoil_them_or_leave_them(kind):
    store, recall = ScoreStore.of(*_embeddings(), per_class=8), mg.as_metric("retrieval_recall")
    blocks = [store.draw(64, kind, _g(seed)) for seed in range(12)]
    values = torch.stack([recall(block.scores, block.targets) for block in blocks])
    chance = 7 / 63
    if kind == "real":
        assert float(values.mean()) > 0.9
    elif kind == "random":
        assert abs(float(values.mean()) - chance) < 0.1
    elif kind == "shifted":  # a direction for all hides differences, and hides them from no cosine but the largest
        cosines = [torch.nn.functional.normalize(b.scores, dim=1).mean(0).norm() for b in blocks]
        assert max(cosines) > 0.9
    else:
        assert float(values.min()) < 0.5 < float(values.max())


def _queries(count=20):
    sizes = torch.randint(3, 9, (count,), generator=_g())
    groups = torch.repeat_interleave(torch.arange(count) * 11, sizes)[torch.randperm(int(sizes.sum()), generator=_g(1))]
    rows = torch.arange(len(groups))
    return rows.double(), rows % 3, groups


def test_blocks_and_splits_of_queries_are_whole():
    scores, targets, groups = _queries()
    store = ScoreStore.of(scores, targets, groups=groups)
    parts = store.split([0.7, 0.3], _g())
    whole = {int(g): set(scores[groups == g].tolist()) for g in groups.unique()}
    assert set(parts[0].groups.tolist()).isdisjoint(parts[1].groups.tolist())
    assert sum(len(part) for part in parts) == len(store)
    for kind in ("real", "flipped"):
        block = store.draw(25, kind, _g(3))
        assert 1 < len(block.groups.unique()) < 20
        assert len(block.targets) <= 25
        if kind == "real":
            for g in block.groups.unique():
                assert set(block.scores[block.groups == g].tolist()) == whole[int(g)]


def test_stacked_blocks_of_queries_are_valued_as_each_is():
    store = ScoreStore.of(*_queries()[:2], groups=_queries()[2])
    blocks = [store.draw(25, "shifted", _g(seed)) for seed in range(4)]
    assert len({len(block.targets) for block in blocks}) > 1
    form = ListNetwork()
    drawn = LabeledBlocks.of([Block(b.scores, b.targets.double(), b.groups) for b in blocks], torch.arange(4.0))
    expected = torch.stack([form.unscaled(b.scores, b.targets.double(), b.groups) for b in blocks])
    torch.testing.assert_close(drawn.values(form), expected)
    torch.testing.assert_close(drawn.some(torch.tensor([2, 0])).values(form), expected[[2, 0]])


def test_too_little_to_draw_from_is_refused():
    scores, targets, groups = _queries()
    with pytest.raises(mg.MetricgradError, match="of 2 groups"):
        ScoreStore.of(scores, targets, groups=groups % 2)
    with pytest.raises(mg.MetricgradError, match="no two have one class"):
        ScoreStore.of(torch.randn(40, 3), torch.arange(40), per_class=4).draw(8, "real", _g())
