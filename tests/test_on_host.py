"""A number in a module's state is read from its device once, and again where somebody else wrote it."""

import copy

import torch

from metricgrad.on_host import OnHost


def test_it_is_read_again_only_where_somebody_else_wrote():
    asked = []
    count, steps = OnHost(lambda tensor: asked.append(1) or int(tensor)), torch.tensor(3)
    assert [count.of(steps), count.of(steps), len(asked)] == [3, 3, 1]
    count.wrote(steps.add_(1), 4)
    assert [count.of(steps), len(asked)] == [4, 1]
    steps.fill_(7)
    assert [count.of(steps), len(asked)] == [7, 2]
    assert [count.of(torch.tensor(5)), len(asked)] == [5, 3]


def test_a_copy_of_what_it_reads_is_told_apart():
    module = torch.nn.Module()
    module.register_buffer("steps", torch.tensor(2))
    module.known = OnHost(int)
    module.known.of(module.steps)
    other = copy.deepcopy(module)
    other.steps.add_(1)
    assert [module.known.of(module.steps), other.known.of(other.steps)] == [2, 3]
    other.load_state_dict(module.state_dict())
    assert other.known.of(other.steps) == 2


def test_a_copy_reads_for_itself():
    module = torch.nn.Module()
    module.register_buffer("steps", torch.tensor(2))
    module.known = OnHost(int)
    module.known.of(module.steps)
    module.steps.add_(1)  # and not read again, while the copy's tensor counts its writes from zero
    other = copy.deepcopy(module)
    assert other.known.of(other.steps) == 3


def test_of_inference_tensors_nothing_is_kept():
    with torch.inference_mode():
        steps, count = torch.tensor(1), OnHost(int)
        assert count.of(steps) == 1
        steps.add_(1)
        assert count.of(steps) == 2
