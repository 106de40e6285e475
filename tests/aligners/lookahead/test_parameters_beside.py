"""Parameters of the model that the attached optimiser does not hold: clipped with its own, or moved by another."""

import functools
import gc

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks

import metricgrad as mg
from tests.aligners.lookahead.steps import VALID, Case, check, mlp, sgd

ODD = 1 / 777.77**0.5 / 31


def clipped(bound=1e-3, kind=2.0, of=lambda run: run.parameters):
    def step(run):
        run.model.zero_grad()
        run.value().backward()
        nn.utils.clip_grad_norm_(of(run), bound, kind)
        run.optimizer.step()

    return step


def beside_stale_gradients(run):
    """The first layer's gradients are those of another loss, and clipped with the others."""
    run.model.zero_grad()
    run.model(run.batch(1)[0]).square().mean().backward()
    run.value().backward(inputs=run.parameters[2:])
    nn.utils.clip_grad_norm_(run.parameters, 1e-3)
    run.optimizer.step()


def first_thrown_away(run):
    run.model.zero_grad()
    run.value().backward()
    nn.utils.clip_grad_norm_(run.parameters, ODD)
    run.model[0].zero_grad()
    run.optimizer.step()


def assigned(run):
    for p, g in zip(run.parameters, torch.autograd.grad(run.value(), run.parameters), strict=True):
        p.grad = g
    nn.utils.clip_grad_norm_(run.parameters, 1e-3)
    run.optimizer.step()


def kept(run):
    """The gradients of the first layer are never set to zero."""
    run.optimizer.zero_grad()
    run.value().backward()
    nn.utils.clip_grad_norm_(run.parameters, 1e-3)
    run.optimizer.step()


class Shifted(nn.Module):
    """What validation reads does not depend on all that is trained."""

    def __init__(self):
        super().__init__()
        self.inner, self.shift = mlp(), nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.inner(x) if x is VALID[0] else self.inner(x) + self.shift


def head(parameters, make=sgd):
    return make(list(parameters)[2:])


def inner(parameters):
    return sgd(list(parameters)[1:])


adam = functools.partial(head, make=functools.partial(torch.optim.Adam, lr=0.05))
named = {"clipping": "norm"}

CLIPPED = {
    "all": Case(clipped(), optimizer=head),
    "all, named": Case(clipped(), optimizer=head, options=named),
    "all, Adam": Case(clipped(), optimizer=adam, options=named),
    "all, the largest": Case(clipped(kind=float("inf")), optimizer=head),
    "all, the 1-norm, named": Case(clipped(kind=1.0), optimizer=head, options={"clipping": "norm_1"}),
    "the head": Case(clipped(of=lambda run: run.parameters[2:]), optimizer=head, options=named),
    "apart": Case(clipped(of=lambda run: run.parameters[:3]), optimizer=head, options=named),
    "an odd norm": Case(clipped(ODD), optimizer=head, options=named, learns="which of them"),
    "an odd norm, once": Case(clipped(ODD), optimizer=head, options=named, steps=1, says="further gradients"),
    "an odd norm, not named": Case(clipped(ODD), optimizer=head, learns="clipping='norm'"),
    "stale gradients": Case(beside_stale_gradients, optimizer=head, options=named, learns="another loss"),
    "thrown away": Case(first_thrown_away, optimizer=head, options=named, says="further gradients"),
    "assigned": Case(assigned, optimizer=head, options=named),
    "kept": Case(kept, optimizer=head, options=named),
    "no part of the objective": Case(clipped(), Shifted),
}


@pytest.mark.parametrize("case", CLIPPED.values(), ids=CLIPPED)
def test_a_norm_over_more_than_the_optimiser_holds_is_right_or_said(case):
    check(case)


def beside(run, **options):
    """Another optimiser, of the first layer."""
    return run.memory.setdefault("other", torch.optim.Adam(run.parameters[:2], lr=0.1, **options))


def last_step_of_ours(run, **options):
    """Both optimisers step, ours first; in the last step ours alone."""
    run.model.zero_grad()
    run.value().backward()
    run.optimizer.step()
    if run.number < 2:
        beside(run, **options).step()


def ours_second(run, **options):
    run.model.zero_grad()
    run.value().backward()
    beside(run, **options).step()
    run.optimizer.step()


def clipped_and_ours_second(run):
    run.model.zero_grad()
    run.value().backward()
    nn.utils.clip_grad_norm_(run.parameters, 1e-3)
    beside(run, fused=True).step()
    run.optimizer.step()


def another_head_first(run):
    """What moves before our step is no part of the scores."""
    run.model.zero_grad()
    run.value().backward()
    with torch.no_grad():
        run.model.unread.add_(1.0)
    run.optimizer.step()


class WithAnUnreadPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.unread = mlp(), nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.inner(x)


def outside(change):
    """A parameter outside the model, which the same optimiser steps, changes the scores."""

    def step(run):
        if "further" not in run.memory:
            run.memory["further"] = nn.Parameter(torch.full((3,), 1.5, dtype=torch.float64))
            run.optimizer.add_param_group({"params": [run.memory["further"]]})
        run.optimizer.zero_grad()
        x, y = run.batch()
        run.loss(change(run.model(x), run.memory["further"]), y).backward()
        run.optimizer.step()

    return step


MOVED = {
    "after our step": Case(last_step_of_ours, optimizer=head, learns="left out"),
    "after our step, without torch's counting it": Case(
        functools.partial(last_step_of_ours, fused=True), optimizer=head, learns="left out"
    ),
    "before it": Case(ours_second, optimizer=head, says="step the attached optimiser first"),
    "before it, without torch's counting it": Case(
        functools.partial(ours_second, fused=True), optimizer=head, says="step the attached optimiser first"
    ),
    "before it, and clipped": Case(clipped_and_ours_second, optimizer=head, says="step the attached optimiser first"),
    "a temperature": Case(outside(torch.mul), says="outside the model's call"),
    "a shift": Case(outside(torch.add), says="outside the model's call"),
    "a part that the loss does not read": Case(another_head_first, WithAnUnreadPart, optimizer=inner),
}


@pytest.mark.parametrize("case", MOVED.values(), ids=MOVED)
def test_parameters_that_are_moved_beside_the_step_are_said(case):
    check(case)


def test_a_loss_that_is_let_go_of_leaves_no_hook_on_other_optimisers():
    gc.collect()
    before = len(_global_optimizer_post_hooks)
    model = mlp()
    optimizer = sgd(model.parameters())
    loss = mg.AdaLFL(num_outputs=3)
    loss.attach(model, optimizer, valid=[VALID]).detach()
    assert len(_global_optimizer_post_hooks) == before
    loss.attach(model, optimizer, valid=[VALID])
    assert len(_global_optimizer_post_hooks) == before + 1
    del loss, model, optimizer
    gc.collect()
    assert len(_global_optimizer_post_hooks) == before
