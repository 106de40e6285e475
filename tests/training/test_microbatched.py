"""A loss of a large batch, chunk by chunk: its value and gradients are those of the whole batch at once."""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import metricgrad as mg

N = 60
PAGE = (Path(__file__).parents[2] / "docs" / "large-batches.md").read_text(encoding="utf-8")


def _data(outputs: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(outputs, (N,), generator=g) if outputs > 1 else (torch.arange(N) % 5 == 0).long()
    return torch.randn(N, 6, generator=g, dtype=dtype), targets


def _model(outputs: int, *, dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(1)
    last = [nn.Flatten(0)] if outputs == 1 else []
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, outputs), *last).to(dtype)


def _gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


LOSSES = {
    "labels": (lambda: mg.UniLoss("macro_f1"), 4, ()),
    "list": (lambda: mg.UniLoss("average_precision"), 1, ()),
    "alone": (lambda: mg.UniLoss("auroc", anchored=False), 1, ()),
    "queries": (lambda: mg.UniLoss("ndcg"), 1, ("groups",)),
    "masked": (lambda: mg.UniLoss("accuracy"), 4, ("mask", "sample_weight")),
    "torch's": (nn.CrossEntropyLoss, 4, ()),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize("size", [1, 17, 60, 100])
def test_as_the_whole_batch(name, dtype, near, size):
    make, outputs, wanted = LOSSES[name]
    x, y = _data(outputs, dtype)
    context = {
        "groups": torch.arange(N) // 6,
        "mask": torch.arange(N) % 7 != 0,
        "sample_weight": torch.rand(N, dtype=dtype, generator=torch.Generator().manual_seed(2)) + 0.5,
    }
    context = {key: context[key] for key in wanted}
    whole, parts, expected, loss = _model(outputs, dtype=dtype), _model(outputs, dtype=dtype), make(), make()
    for _ in range(2):  # gradients accumulate, and the second step has what the loss remembers of the first
        value = expected(whole(x), y, **context)
        value.backward()
        found = mg.microbatched(loss, parts, x, y, size=size, **context)
        torch.testing.assert_close(found, value.detach(), rtol=near, atol=near)
        torch.testing.assert_close(_gradients(parts), _gradients(whole), rtol=near, atol=near)
    assert not found.requires_grad
    if isinstance(loss, mg.Loss):
        assert int(loss.steps) == 2


def test_another_s_loss_is_handed_classes_where_it_takes_them():
    x = torch.randn(12, 5, 5)  # as many classes as places
    model, targets = nn.Conv1d(5, 5, 1), x.argmax(1)
    expected = nn.functional.cross_entropy(model(x), targets)
    torch.testing.assert_close(mg.microbatched(nn.CrossEntropyLoss(), model, x, targets, size=5), expected.detach())


def test_dropout_drops_the_same_units_and_random_states_move_on_once():
    x, y = _data(4)
    model, loss = _model(4, dropout=0.5), mg.UniLoss("accuracy")
    torch.manual_seed(3)
    mg.microbatched(loss, model, x, y, size=20)
    after = torch.rand(1)
    torch.manual_seed(3)
    again = copy.deepcopy(model)
    again.zero_grad()
    mg.UniLoss("accuracy")(torch.cat([again(part) for part in x.split(20)]), y).backward()
    torch.testing.assert_close(_gradients(model), _gradients(again), rtol=1e-10, atol=1e-12)
    assert torch.equal(after, torch.rand(1))


def test_batch_normalisation_is_updated_once_and_spoken_of():
    x, y = _data(4)
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 4)).double()
    other = copy.deepcopy(model)
    with pytest.warns(UserWarning, match="statistics are those of a chunk"):
        mg.microbatched(mg.UniLoss("accuracy"), model, x, y, size=20)
    mg.UniLoss("accuracy")(torch.cat([other(part) for part in x.split(20)]), y).backward()
    torch.testing.assert_close(dict(model.named_buffers()), dict(other.named_buffers()), rtol=0, atol=0)
    torch.testing.assert_close(_gradients(model), _gradients(other), rtol=1e-10, atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mg.microbatched(mg.UniLoss("accuracy"), model.eval(), x, y, size=20)
        mg.microbatched(mg.UniLoss("accuracy"), other.train(), x, y, size=N)


def test_buffers_that_a_pass_reads_are_those_of_the_first_pass():
    x, y = _data(4)
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 8)), nn.Linear(8, 4)).double()
    other = copy.deepcopy(model)
    mg.microbatched(mg.UniLoss("accuracy"), model, x, y, size=20)
    mg.UniLoss("accuracy")(torch.cat([other(part) for part in x.split(20)]), y).backward()
    torch.testing.assert_close(_gradients(model), _gradients(other), rtol=1e-10, atol=1e-12)


def test_autocast_and_gradient_scaler():
    x, y = _data(4, torch.float32)
    model, other = _model(4, dtype=torch.float32), _model(4, dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = mg.microbatched(mg.UniLoss("accuracy"), model, x, y, size=20, scaler=scaler)
        scores = other(x)
        assert scores.dtype == torch.bfloat16
        value = mg.UniLoss("accuracy")(scores, y)
    value.backward()
    torch.testing.assert_close(found, value.detach(), rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(_gradients(model), [1024 * g for g in _gradients(other)], rtol=5e-2, atol=2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler.step(optimizer)
    scaler.update()


def _of_dict(model: nn.Module, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    kept = batch["labels"] >= 0  # rows that do not count, as many as there are
    assert batch["name"] == "a batch"
    return model(batch["x"]["inputs"])[kept], batch["labels"][kept]


def test_dicts_through_a_handle():
    x, y = _data(4)
    y = torch.where(torch.arange(N) % 3 == 0, -100, y)
    model, other = _model(4), _model(4)
    batch = {"x": {"inputs": x}, "labels": y, "name": "a batch"}
    found = mg.microbatched(mg.UniLoss("accuracy"), model, batch, size=16, forward=_of_dict)
    value = mg.UniLoss("accuracy")(*_of_dict(other, batch))
    value.backward()
    torch.testing.assert_close(found, value.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(_gradients(model), _gradients(other), rtol=1e-10, atol=1e-12)


def test_attached_alignment_sees_one_step():
    x, y = _data(4)
    model = _model(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = mg.ALA("accuracy", num_outputs=4, every=1, warm_up=0)
    loss.attach(model, optimizer, valid=[(x, y)])
    for _ in range(3):
        optimizer.zero_grad()
        mg.microbatched(loss, model, x, y, size=16)
        optimizer.step()
    assert int(loss.steps) == loss.aligner.periods == 3


class _Counting(nn.Linear):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).calls += 1
        return super().forward(x) * self.calls


def test_what_is_refused():
    x, y = _data(4)
    loss, model = mg.UniLoss("accuracy"), _model(4)
    with torch.no_grad(), pytest.raises(mg.MetricgradError, match="gradients are off"):
        mg.microbatched(loss, model, x, y)
    with pytest.raises(mg.MetricgradError, match="50, 60 rows"):
        mg.microbatched(loss, model, x, y[:50])
    with pytest.raises(mg.MetricgradError, match="no tensor"):
        mg.microbatched(loss, model, ["a", "b"])
    with pytest.raises(mg.MetricgradError, match="size is 0"):
        mg.microbatched(loss, model, x, y, size=0)
    with pytest.raises(mg.MetricgradError, match="loss is 'accuracy'"):
        mg.microbatched("accuracy", model, x, y)
    with pytest.raises(mg.MetricgradError, match="reduction='mean'"):
        mg.microbatched(torch.nn.CrossEntropyLoss(reduction="none"), model, x, y)
    with pytest.raises(mg.MetricgradError, match="other scores"):
        mg.microbatched(loss, _Counting(6, 4).double(), x, y)
    with pytest.raises(mg.MetricgradError, match="unfreeze"):
        mg.microbatched(loss, _model(4).requires_grad_(False), x, y)
    learned = mg.AdaLFL(num_outputs=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    learned.attach(model, optimizer, valid=[(x, y)])
    with pytest.raises(mg.MetricgradError, match="do not come from"):
        mg.microbatched(learned, model, x, y)


def test_the_page_runs():
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    found: dict[str, Any] = {}
    exec(block, found)
    assert int(found["loss"].steps) == 5


def test_the_graph_of_one_chunk_at_a_time():
    """What is saved for backward, at most, grows with the size and not with the batch."""
    alive, most = 0, 0

    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal alive, most
            self.tensor, self.bytes = tensor, tensor.untyped_storage().nbytes()
            alive += self.bytes
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= self.bytes

    model = nn.Sequential(*[layer for _ in range(20) for layer in (nn.Linear(32, 32), nn.Tanh())], nn.Linear(32, 1))

    def peak(rows: int, size: int) -> int:
        nonlocal most
        most = 0
        x = torch.randn(rows, 32)
        parts = [part.clone() for part in x.split(size)]  # the storage of a slice is that of the whole
        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
            mg.microbatched(
                nn.BCEWithLogitsLoss(), model, torch.arange(rows), torch.ones(rows), size=size,
                forward=lambda model, batch: (model(parts[int(batch[0][0]) // size])[:, 0], batch[1]),
            )  # fmt: skip
        return most

    small, large = peak(128, 128), peak(2048, 128)
    assert peak(2048, 2048) > 10 * small
    assert large < small + 2048 * 4 * 8  # the scores, their targets and what the loss keeps of them


def test_features_carry_the_gradient_on_to_what_made_them():
    torch.manual_seed(0)
    backbone, head = nn.Linear(4, 4), nn.Linear(4, 1)
    x, y = torch.randn(40, 4), torch.arange(40) % 5 == 0
    parameters = [*backbone.parameters(), *head.parameters()]
    mg.microbatched(mg.UniLoss("average_precision"), head, backbone(x), y, size=10)
    found = [p.grad.clone() for p in parameters]
    for p in parameters:
        p.grad = None
    mg.UniLoss("average_precision")(head(backbone(x)), y).backward()
    torch.testing.assert_close(found, [p.grad for p in parameters])


def test_a_model_that_gives_more_than_scores_is_refused():
    x, y = torch.randn(20, 3, 4), torch.randint(0, 2, (20, 3))
    with pytest.raises(mg.MetricgradError, match=r"the model gives tuple and Tensor.*forward="):
        mg.microbatched(mg.UniLoss("macro_f1"), nn.GRU(4, 2, batch_first=True), x, y, size=5)


@pytest.mark.filterwarnings("ignore:the model has batch normalisation")
def test_no_chunk_of_one_row_is_left():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    mg.microbatched(mg.UniLoss("average_precision"), model, torch.randn(31, 4), torch.arange(31) % 5 == 0, size=10)
    assert int(model[1].num_batches_tracked) == 4
