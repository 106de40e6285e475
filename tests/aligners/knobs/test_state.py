"""States and rewards against numbers worked out by hand."""

import math

import pytest
import torch

from metricgrad.aligners.knobs.bandit import Bandit
from metricgrad.aligners.knobs.reward import Reward
from metricgrad.aligners.knobs.state import FEATURES, PAST, ROLES, Child, coded, confusion
from metricgrad.aligners.knobs.state_buffers import Slot, StateBuffers
from tests.aligners.lookahead.toys import OneKnob


def test_confusion_is_the_mean_over_a_class():
    logs = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]).log()
    found = confusion(logs, torch.tensor([0, 0, 1]))
    assert found[0, 1].item() == pytest.approx(-(math.log(0.2) + math.log(0.3)) / 2, rel=1e-6)
    assert found[1, 1].item() == pytest.approx(-math.log(0.8), rel=1e-6)
    assert found[2].tolist() == pytest.approx([math.log(3)] * 3)  # no item: an even guess
    again = confusion(logs, torch.tensor([2, 2, 2]), found)
    assert again[:2].equal(found[:2])


def test_confusion_of_one_score_has_two_classes():
    found = confusion(torch.tensor([0.0, 2.0]), torch.tensor([0, 1]))
    low, high = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    torch.testing.assert_close(found, torch.tensor([[math.log(2)] * 2, [high, low]], dtype=torch.float64))


def _remembered(form, values, scores, targets):
    child = Child()
    for value in values:
        child.remember(form, list(form.knobs().values()), scores, targets, value)
    return child


def test_the_state_of_a_plain_knob():
    form = OneKnob(high=4.0)
    form.values[0] = 2.0
    scores, targets = torch.full((3,), 2.0), torch.zeros(3)
    child = _remembered(form, [0.1, 0.2, 0.4], scores, targets)
    knobs = list(form.knobs().values())
    raw = child.state(knobs, 0.25, scaled=False)
    assert raw.shape == (1, FEATURES)
    past = [0.1] * (PAST - 2) + [0.2, 0.4]  # the first value stands for those before it
    assert raw[0, :PAST].tolist() == pytest.approx(past)
    assert raw[0, PAST : 2 * PAST].tolist() == pytest.approx([4.0] * PAST)  # the toy's loss: the mean square
    mean = sum(past) / PAST
    assert raw[0, 2 * PAST :].tolist() == pytest.approx([(0.4 - mean) / mean, 0.0, 2.0, 0.25])
    scaled = child.state(knobs, 0.25, scaled=True)
    assert scaled[0, :PAST].tolist() == pytest.approx([v / 0.4 for v in past])
    assert scaled[0, 2 * PAST :].tolist() == pytest.approx([1.0, 0.0, 0.5, 0.25])
    assert scaled.abs().max() <= 1


def test_the_state_of_a_pair_of_classes_sees_both_directions():
    form = OneKnob(classes=(0, 1))
    scores, targets = torch.tensor([[3.0, 0.0], [2.0, 1.0]]), torch.tensor([0, 1])
    child = _remembered(form, [0.5], scores, targets)
    c = confusion(scores, targets)
    raw = child.state(list(form.knobs().values()), 0.0, scaled=False)[0]
    assert raw[0].item() == pytest.approx(c[0, 1].item())
    assert raw[PAST].item() == pytest.approx(c[1, 0].item())
    wild = _remembered(form, [0.5], scores * 100, targets).state(list(form.knobs().values()), 0.0, scaled=True)
    assert wild.abs().max() < 4  # C is 300 here


def test_roles_are_told_apart_and_shared_within_a_name():
    codes = coded(["weight[0]", "weight[1]", "focus"])
    assert codes.shape == (3, ROLES)
    assert codes.argmax(1).tolist() == [0, 0, 1]


def test_rewards_by_hand():
    # the usual size of a change after the first one is its own size, after (1, 0.25) sqrt((.09 + .1 / 16) / .19)
    usual = math.sqrt((0.09 * 1 + 0.1 * 0.0625) / 0.19)
    expected = {"sign": 1.0, "dead_zone": 0.0, "soft": math.tanh(0.25 / usual)}
    for kind, value in expected.items():
        reward = Reward(kind, centred=False)
        assert reward.of([1.0])[0] == [1.0 if kind != "soft" else math.tanh(1.0)]
        rewards, advantages = reward.of([0.25])
        assert rewards == [pytest.approx(value)]
        assert advantages == rewards


def test_one_child_is_centred_on_its_past_and_several_on_their_median():
    alone = Reward("sign", centred=True)
    assert alone.of([1.0])[1] == [0.0]
    assert alone.of([1.0])[1] == [0.0]
    assert alone.of([-1.0])[1] == [pytest.approx(-2.0)]
    several = Reward("sign", centred=True)
    assert several.of([1.0, -1.0, 1.0, 2.0])[1] == [0.0, -2.0, 0.0, 0.0]


def test_no_change_at_all_has_no_reward():
    assert Reward("soft", centred=True).of([0.0])[0] == [0.0]


def test_a_reward_goes_on_from_its_state():
    first, second = Reward("soft", centred=True), Reward("soft", centred=True)
    first.of([0.5])
    second.restore(first.state())
    assert first.of([0.2]) == second.of([0.2])


def test_state_buffers_keep_the_last_rows_and_travel_whatever_their_shapes():
    own, other = (StateBuffers({"rows": Slot(torch.float32, ("rows", 2))}) for _ in range(2))
    for n in range(5):
        own.push("rows", torch.full((1, 2), float(n)), 3)
    assert own["rows"][:, 0].tolist() == [2, 3, 4]
    other.load_state_dict(own.state_dict())
    assert torch.equal(other["rows"], own["rows"])
    own.push("rows", torch.zeros(1, 2), 3)
    assert other["rows"][-1, 0] == 4  # a copy


def test_states_of_an_older_version_load_under_todays_names():
    bandit = {"shelf.rows": torch.zeros(2, 4, dtype=torch.float64), "shelf.gains": torch.ones(2, 2).double()}
    found = Bandit()
    found.load_state_dict(bandit)
    assert {f"shelf.{name}": value.shape for name, value in found.state.tensors.items()} == {
        name: value.shape for name, value in bandit.items()
    }
    child = Child()
    child.train_batches.add(torch.zeros(3, 2), torch.zeros(3), torch.tensor(0.5))
    child.memory["evaluations"] = torch.ones(1, dtype=torch.float64)
    child.memory["evaluated"] = torch.tensor(7)
    today = child.state_dict()
    names = {"train_batches.": "recent.", "memory.evaluations": "memory.looks", "memory.evaluated": "memory.looked"}
    before = dict(today)
    for new, old in names.items():
        before = {key.replace(new, old): value for key, value in before.items()}
    assert before.keys() != today.keys()
    again = Child()
    again.load_state_dict(before)
    assert again.state_dict().keys() == today.keys()
    assert all(torch.equal(value, today[name]) for name, value in again.state_dict().items())
