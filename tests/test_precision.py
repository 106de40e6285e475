"""Buffers that stay wide: what a loss remembers does not follow the network's dtype."""

import pytest
import torch

import metricgrad as mg
from metricgrad.precision import wide, wide_dtype
from tests.contract.registry import LOSSES


def stepped(loss, classes, weights=None):
    g = torch.Generator().manual_seed(0)
    values = []
    for _ in range(3):
        targets = torch.randint(classes, (64,), generator=g)
        scores = torch.randn(64, classes, generator=g) + 2 * torch.nn.functional.one_hot(targets, classes)
        leaf = scores.requires_grad_()
        context = {} if weights is None else {"sample_weight": (1 + targets % 3).to(weights)}
        loss(leaf, targets, **context).backward()
        values.append(leaf.grad)
    return torch.stack(values)


@pytest.mark.parametrize("cast", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy"])
def test_a_cast_of_the_module_changes_no_number(metric, cast):
    """``Trainer(precision="bf16-true")`` casts all modules; 600 classes do not fit into bfloat16."""
    assert torch.equal(stepped(mg.UniLoss(metric).to(cast), 600), stepped(mg.UniLoss(metric), 600))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_weights_in_another_dtype_leave_the_classes_as_they_are(dtype):
    there, here = (stepped(mg.UniLoss("balanced_accuracy"), 600, weights) for weights in (dtype, torch.float32))
    assert torch.equal(there, here)


@pytest.mark.parametrize("name", ["adalfl", "set network macro_f1", "distance mixture", "uniloss map_at_r"])
def test_nor_does_it_change_what_is_learned(name):
    make, data = LOSSES[name]
    scores, targets = data(16, torch.float32)
    assert torch.equal(make().to(torch.bfloat16)(scores, targets), make()(scores, targets))


def test_a_decision_keeps_its_cut():
    cut = mg.decisions.Threshold(0.123456789)
    assert float(cut.half().threshold) == float(cut.to(torch.bfloat16).threshold) == 0.123456789


def test_float32_where_there_is_no_float64():
    assert wide_dtype(torch.device("mps")) == torch.float32
    assert wide(torch.ones(2, dtype=torch.int32)).dtype == torch.float64


def test_a_buffer_goes_where_the_module_goes():
    loss = mg.UniLoss("macro_f1").to("meta")
    assert {buffer.device.type for buffer in loss.buffers()} == {"meta"}
