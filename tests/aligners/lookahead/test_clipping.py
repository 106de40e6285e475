"""What is done to gradients between backward and step, recognised and pulled back as autograd would."""

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.lookahead.clipping import clipping_vjp


def _gradients(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator).to(dtype) for size in ((3, 4), (5,), (1,))]


def _both(change, clipping="auto"):
    """Ours, and autograd's product through the differentiable change."""
    parameters = [torch.zeros_like(g) for g in _gradients()]
    leaves = [g.requires_grad_() for g in _gradients()]
    changed = change(leaves)
    along = [torch.cos(torch.arange(g.numel(), dtype=g.dtype)).reshape(g.shape) for g in leaves]
    expected = torch.autograd.grad(changed, leaves, along)
    raw, seen, direction = (
        {p: t.detach() for p, t in zip(parameters, tensors, strict=True)} for tensors in (leaves, changed, along)
    )
    found, _ = clipping_vjp(raw, seen, direction, clipping)
    return [found[p] for p in parameters], expected


def _norm(gradients, bound):
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    return [g * (bound / (norm + 1e-6)).clamp(max=1) for g in gradients]


CHANGES = {
    "nothing": lambda g: [part * 1 for part in g],
    "a norm above": lambda g: _norm(g, 100.0),
    "a round norm": lambda g: _norm(g, 0.5),
    "an odd norm": lambda g: _norm(g, 0.5123456789),
    "two groups": lambda g: [*_norm(g[:1], 0.5), *_norm(g[1:], 0.25)],
    "one group of two": lambda g: [*_norm(g[:1], 0.5), *(part * 1 for part in g[1:])],
    "values": lambda g: [part.clamp(-0.3, 0.3) for part in g],
    "a quarter": lambda g: [part / 4 for part in g],
    "unscaled by the scaler": lambda g: [part / 65536 for part in g],
    "a factor above one": lambda g: [part * 3.3 for part in g],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_it_is_autograds_product(change):
    for a, b in zip(*_both(change), strict=True):
        torch.testing.assert_close(a, b)


def test_a_common_factor_can_be_named():
    for a, b in zip(*_both(lambda g: [part * 0.777123456 for part in g], "scale"), strict=True):
        torch.testing.assert_close(a, b)
    norm = float(torch.stack([g.norm() for g in _gradients()]).norm())
    for a, b in zip(*_both(lambda g: _norm(g, norm / 2 + 5e-7), "norm"), strict=True):
        torch.testing.assert_close(a, b)


def test_another_change_is_refused():
    with pytest.raises(mg.MetricgradError, match="changed between backward and step"):
        _both(lambda g: [part.sign() for part in g])


def test_a_look_ahead_beside_an_attached_one_disturbs_nothing():
    torch.manual_seed(0)
    model = nn.Linear(6, 3).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    loss = mg.AdaLFL(num_outputs=3).double()
    batch, valid = ((torch.randn(8, 6, dtype=torch.float64), torch.randint(3, (8,))) for _ in range(2))
    loss.attach(model, optimizer, valid=[valid])
    for _ in range(2):
        optimizer.zero_grad()
        loss(model(batch[0]), batch[1]).backward()
        gradient = model.weight.grad.clone()
        found = loss.aligner.hypergradient(model, optimizer, batch, valid)
        assert torch.equal(gradient, model.weight.grad)
        optimizer.step()
        for a, b in zip(found, loss.aligner.last_hypergradient, strict=True):
            torch.testing.assert_close(a, b)
    assert int(loss.aligner.updates) == 2


def _changed_through_data(model):
    for p in model.parameters():
        p.grad.data.mul_(0.25)


FIRST = {
    "clipped": lambda model: nn.utils.clip_grad_norm_(model.parameters(), 1e-3),
    "not clipped": lambda model: nn.utils.clip_grad_norm_(model.parameters(), 1e3),
    "clamped": lambda model: nn.utils.clip_grad_value_(model.parameters(), 1e-3),
    "one layer": lambda model: nn.utils.clip_grad_norm_(model[1].parameters(), 1e-3),
    "through .data": _changed_through_data,
}


@pytest.mark.parametrize("change", FIRST.values(), ids=FIRST)
def test_the_first_changed_gradients_are_found_again_and_the_next_are_copied(change):
    """Nothing was copied before the first change; what is found is what copies from the start give."""
    found = []
    for copies in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loss = mg.AdaLFL(num_outputs=3).double()
        batch, valid = ((torch.randn(8, 6, dtype=torch.float64), torch.randint(3, (8,))) for _ in range(2))
        loss.attach(model, optimizer, valid=[valid])
        recorder = loss.aligner._attachment.step.recorder.gradients
        recorder.copies = copies
        for step in range(3):
            optimizer.zero_grad()
            loss(model(batch[0]), batch[1]).backward()
            assert bool(recorder.raw) == (copies or step > 1)
            if step > 0:
                change(model)
            optimizer.step()
            found.append(torch.cat([g.flatten() for g in loss.aligner.last_hypergradient]))
    for a, b in zip(found[:3], found[3:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-15)


def test_gradients_of_another_loss_make_the_first_changed_step_pass():
    torch.manual_seed(0)
    model = nn.Linear(6, 3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = mg.AdaLFL(num_outputs=3).double()
    x, y = torch.randn(8, 6, dtype=torch.float64), torch.randint(3, (8,))
    loss.attach(model, optimizer, valid=[(x, y)])
    for step in range(2):
        optimizer.zero_grad()
        (loss(model(x), y) + model.weight.square().sum()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
        if step:
            optimizer.step()
        else:
            with pytest.warns(UserWarning, match="passes over this step"):
                optimizer.step()
        assert int(loss.aligner.updates) == step


def test_rounding_under_autocast_is_not_said_to_be_a_change_that_is_not_known():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 5))
    optimizer, loss = torch.optim.AdamW(model.parameters(), lr=1e-3), mg.AdaLFL(num_outputs=5)
    x, y = torch.randn(32, 20), torch.randint(5, (32,))
    loss.attach(model, optimizer, valid=[(x, y)])
    for step in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(x)
        loss(scores, y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        if step:
            optimizer.step()
        else:
            with pytest.warns(UserWarning, match=r"by rounding, as under autocast to half.* From the next step on"):
                optimizer.step()
        assert int(loss.aligner.updates) == step


@pytest.mark.parametrize("outputs", [3, 4])
def test_gradients_that_are_views_or_not_finite_are_not_taken_for_changed(outputs):
    parameters = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(outputs))]
    flat = torch.randn(3 + outputs)
    flat[-1] = torch.nan
    raw = dict(zip(parameters, (flat[:3].clone(), flat[3:].clone()), strict=True))
    seen = dict(zip(parameters, (flat[:3], flat[3:]), strict=True))
    direction = {p: torch.ones_like(p) for p in parameters}
    assert clipping_vjp(raw, seen, direction, "auto")[0] is direction
