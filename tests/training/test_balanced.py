"""Batches of a chosen make-up: what each holds, and that every draw follows from (seed, number)."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import metricgrad as mg
from metricgrad.training.balanced import ClassBalanced, RankBatches, Stratified
from metricgrad.training.batches import epochs_of, loader

TARGETS = torch.repeat_interleave(torch.tensor([3, 8, 11, 40, 41]), torch.tensor([10, 9, 2, 1, 30]))


def test_a_batch_has_p_classes_with_k_items_each_and_no_item_twice():
    sampler = ClassBalanced(TARGETS, classes=3, per_class=4, seed=1)
    assert len(sampler) == 5
    seen = set()
    for batch in sampler:
        assert len(set(batch)) == len(batch)
        classes, counts = TARGETS[batch].unique(return_counts=True)
        assert len(classes) == 3
        assert 40 not in classes  # a class of one item has nothing to be compared with
        assert all(n == (2 if c == 11 else 4) for c, n in zip(classes.tolist(), counts.tolist(), strict=True))
        seen |= set(classes.tolist())
    assert seen == {3, 8, 11, 41}


def test_classes_come_equally_often():
    targets = torch.arange(70) % 7
    sampler = ClassBalanced(targets, classes=3, per_class=2, batches=7 * 20)
    counts = torch.bincount(targets[torch.tensor([i for batch in sampler for i in batch])])
    assert counts.sum() == 7 * 20 * 6
    assert counts.max() - counts.min() <= 12


def test_draws_follow_from_the_seed_and_the_number_alone():
    def epochs(seed, count=2):
        sampler = ClassBalanced(TARGETS, classes=2, per_class=3, seed=seed)
        return [list(sampler) for _ in range(count)]

    first = epochs(0)
    torch.manual_seed(99)
    assert epochs(0) == first
    assert epochs(1) != first
    assert first[0] != first[1]


def test_a_resumed_sampler_goes_on_in_the_middle_of_an_epoch():
    whole = ClassBalanced(TARGETS, classes=2, per_class=3)
    expected = [batch for _ in range(2) for batch in whole]
    broken, resumed = (ClassBalanced(TARGETS, classes=2, per_class=3) for _ in range(2))
    found = []
    for batch in broken:
        found.append(batch)
        if len(found) == 4:
            break
    state = {"next": 4}  # the fifth was not asked for
    assert broken.state_dict() == state
    resumed.load_state_dict(state)
    found += list(resumed)
    assert len(found) == len(whole)
    found += list(resumed)
    assert found == expected


def test_it_serves_a_dataloader():
    sampler = ClassBalanced(TARGETS, classes=2, per_class=3)
    data = DataLoader(TensorDataset(torch.arange(len(TARGETS)), TARGETS), batch_sampler=sampler)
    assert [len(y) for _, y in data] == [len(b) for b in ClassBalanced(TARGETS, classes=2, per_class=3)]


def test_fit_draws_the_same_batches_after_a_resumption():
    inputs = torch.arange(len(TARGETS)).float()[:, None]

    def batches(begun):
        every = epochs_of(loader((inputs, TARGETS), 8, shuffle=True, name="train", per_class=4, seed=5), 5, begun)
        found = []
        for epoch in range(begun, 3):
            every.epoch = epoch
            found.append([x.flatten().tolist() for x, _ in every])
        return found

    whole = batches(0)
    assert batches(2) == whole[2:]
    assert whole[0] != whole[1]
    assert all(len(batch) <= 8 for epoch in whole for batch in epoch)


def test_fit_takes_per_class_and_refuses_what_it_cannot_balance():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(60) % 6
    part = (x, y)
    options = {"metric": "retrieval_recall", "loss": "triplet", "epochs": 2, "progress": False, "batch_size": 12}
    result = mg.fit(torch.nn.Linear(4, 3), part, part, per_class=4, **options)
    assert 0 <= result.valid <= 1
    with pytest.raises(mg.MetricgradError, match=r"per_class=4 needs train as \(inputs, targets\)"):
        mg.fit(torch.nn.Linear(4, 3), [part], part, per_class=4, **options)
    with pytest.raises(mg.MetricgradError, match="classes is 1"):
        mg.fit(torch.nn.Linear(4, 3), part, part, per_class=12, **options)


@pytest.mark.parametrize(
    ("targets", "options", "match"),
    [
        (TARGETS.float(), {}, "targets are torch.float32"),
        (torch.zeros(8).long(), {}, "targets hold 1 classes"),
        (TARGETS, {"per_class": 1}, "per_class is 1"),
        (TARGETS, {"per_class": 2.5}, "per_class is 2.5"),
        (TARGETS, {"classes": 2.5}, "classes is 2.5"),
        (TARGETS, {"batches": 0}, "batches is 0"),
        (TARGETS, {"batches": 1.5}, "batches is 1.5"),
        (TARGETS, {"seed": 1.5}, "seed is 1.5"),
        (TARGETS + 0j, {}, "targets has dtype torch.complex64"),
        (["a", "b"], {}, "targets hold text"),
        ([0.5, 1.0], {}, "targets are torch.float64"),
        ([], {}, "targets are"),
    ],
)
def test_bad_arguments_are_named(targets, options, match):
    with pytest.raises(mg.MetricgradError, match=match):
        ClassBalanced(targets, **{"classes": 2, "per_class": 2, **options})


def test_stratified_batches_have_each_item_once_and_each_class_in_its_share():
    targets = (torch.arange(1000) % 50 == 0).long() + 2 * (torch.arange(1000) % 7 == 0).long()
    sampler = Stratified(targets, size=64, seed=3)
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(1000))
    for c, count in zip(*targets.unique(return_counts=True), strict=True):
        held = [int((targets[batch] == c).sum()) for batch in batches]
        share = int(count) / len(batches)
        assert share - 1 < min(held) <= max(held) < share + 1
    assert list(sampler) != batches  # the next epoch
    sampler.set_epoch(0)
    assert list(sampler) == batches
    assert list(Stratified(targets, size=64, seed=4)) != batches


@pytest.mark.parametrize(("classes", "size"), [(1000, 8), (7, 64), (500, 3), (2, 999)])
def test_stratified_batches_are_of_one_size(classes, size):
    targets = torch.arange(2000) % classes
    sizes = [len(batch) for seed in range(3) for batch in Stratified(targets, size=size, seed=seed)]
    assert min(sizes) >= 1
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_rare_classes_come_again_where_so_many_are_asked_for():
    targets = torch.zeros(600, dtype=torch.long)
    targets[:5], targets[5] = 1, 2
    batches = list(Stratified(targets, size=60, least=3))
    for batch in batches:
        held = torch.bincount(targets[batch], minlength=3).tolist()
        assert held[0] in (59, 60)
        assert held[1:] == [3, 1]
        assert len(set(batch)) == len(batch)
    drawn = torch.bincount(torch.tensor([row for batch in batches for row in batch if row < 5]))
    assert drawn.tolist() == [6] * 5


@pytest.mark.parametrize("make", [
    lambda: ClassBalanced(TARGETS, classes=2, per_class=3), lambda: Stratified(TARGETS, size=13, least=1),
])  # fmt: skip
def test_ranks_have_together_what_one_process_draws(make):
    whole, parts = make(), [RankBatches(make(), rank=rank, world_size=3) for rank in range(3)]
    for sampler in (whole, *parts):
        sampler.set_epoch(2)
        sampler.load_state_dict({"next": sampler.state_dict()["next"] + 1})
    shares = list(zip(*parts, strict=True))
    assert [sorted(itertools.chain(*share)) for share in shares] == [sorted(batch) for batch in whole]
    assert all(max(map(len, share)) - min(map(len, share)) <= 1 for share in shares)
    assert len(parts[0]) == len(whole)
    data = DataLoader(TensorDataset(torch.arange(len(TARGETS)), TARGETS), batch_sampler=parts[0])
    assert all(len(y) for _, y in data)


def test_what_stratified_and_rank_batches_refuse():
    with pytest.raises(mg.MetricgradError, match=r"targets are torch\.float32"):
        Stratified(TARGETS.float(), size=4)
    with pytest.raises(mg.MetricgradError, match="least is -1"):
        Stratified(TARGETS, size=4, least=-1)
    text: Any = "a"
    with pytest.raises(mg.MetricgradError, match="seed is 'a'"):
        Stratified(TARGETS, size=4, seed=text)
    with pytest.raises(mg.MetricgradError, match="epoch is 'a'"):
        Stratified(TARGETS, size=4).set_epoch(text)
    with pytest.raises(mg.MetricgradError, match="no process group"):
        RankBatches(Stratified(TARGETS, size=4))
    with pytest.raises(mg.MetricgradError, match="items for 40 ranks"):
        list(RankBatches(Stratified(TARGETS, size=8), rank=0, world_size=40))


@pytest.mark.parametrize(
    ("rank", "world_size", "match"),
    [
        (5, 2, "rank is 5 of 2 ranks; expected one from 0 to 1"),
        (2, 2, "rank is 2 of 2 ranks"),
        (-1, 2, "rank is -1"),
        (0.0, 2, "rank is 0.0"),
        (0, 0, "world_size is 0"),
        (0, "2", "world_size is '2'"),
    ],
)
def test_a_rank_that_there_is_not_is_refused(rank, world_size, match):
    with pytest.raises(mg.MetricgradError, match=match):
        RankBatches(Stratified(TARGETS, size=8), rank=rank, world_size=world_size)


@pytest.mark.parametrize(("state", "match"), [({}, "state holds nothing"), ({"next": "a"}, "next is 'a'")])
def test_a_state_that_is_none_of_a_samplers_is_refused(state, match):
    for sampler in (Stratified(TARGETS, size=8), RankBatches(Stratified(TARGETS, size=8), rank=0, world_size=2)):
        with pytest.raises(mg.MetricgradError, match=match):
            sampler.load_state_dict(state)


def test_targets_and_options_may_be_numpys():
    options: Any = {"size": np.int64(8), "seed": np.int64(3)}
    expected = list(Stratified(TARGETS, size=8, seed=3))
    for targets in (TARGETS.numpy(), TARGETS.tolist(), TARGETS.numpy().astype(np.uint16)[::-1][::-1]):
        assert list(Stratified(targets, **options)) == expected
    assert list(Stratified([False, True], size=2)) == list(Stratified(torch.tensor([0, 1]), size=2))
