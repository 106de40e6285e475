"""Loops as people write them: the training is theirs to the last bit, and the hypergradient right or declared."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from metricgrad.losses.families.classification import ClassificationFamily
from tests.aligners.lookahead.steps import Case, Run, check, mlp

clip_norm, clip_value = nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_


def after_backward(change, value=Run.value):
    """The usual step, with the gradients changed between backward and step."""

    def step(run):
        run.optimizer.zero_grad()
        value(run).backward()
        change(run)
        run.optimizer.step()

    return step


plain = after_backward(lambda run: None)


def each(change):
    def apply(run):
        with torch.no_grad():
            for p in run.parameters:
                change(p)

    return after_backward(apply)


def divided_by_norm(run):
    total = torch.stack([p.grad.norm() for p in run.parameters]).norm()
    for p in run.parameters:
        p.grad.div_(total)


def assigned(run):
    run.optimizer.zero_grad()
    for p, g in zip(run.parameters, torch.autograd.grad(run.value(), run.parameters), strict=True):
        p.grad = g
    run.optimizer.step()


def assigned_from_two(run):
    run.optimizer.zero_grad()
    parts = [torch.autograd.grad(run.value(n) / 2, run.parameters) for n in range(2)]
    for p, *gs in zip(run.parameters, *parts, strict=True):
        p.grad = sum(gs)
    run.optimizer.step()


def logged(run):
    run.optimizer.zero_grad()
    value = run.value()
    torch.autograd.grad(value, run.parameters, retain_graph=True)
    value.backward()
    run.optimizer.step()


def logged_afterwards(run):
    run.optimizer.zero_grad()
    value = run.value()
    value.backward(retain_graph=True)
    torch.autograd.grad(value, run.parameters)
    run.optimizer.step()


def penalised(run):
    run.optimizer.zero_grad()
    value = run.value()
    gradients = torch.autograd.grad(value, run.parameters, create_graph=True)
    (value + 0.1 * sum(g.square().sum() for g in gradients)).backward()
    run.optimizer.step()


def penalised_input(run):
    run.optimizer.zero_grad()
    x, y = run.batch()
    x.requires_grad_()
    scores = run.model(x)
    (slope,) = torch.autograd.grad(scores.square().sum(), x, create_graph=True)
    (run.loss(scores, y) + 0.1 * slope.square().sum()).backward()
    run.optimizer.step()


def used(how, count=1):
    def step(run):
        run.optimizer.zero_grad()
        how(*(run.value(n) for n in range(count))).backward()
        run.optimizer.step()

    return step


def micro(run):
    run.optimizer.zero_grad()
    for n, weight in enumerate((0.5, 0.3, 0.2)):
        (weight * run.value(n)).backward()
    run.optimizer.step()


def mixed_up(run):
    """Mixup: two calls on the same scores."""
    run.optimizer.zero_grad()
    (x, y), (_, z) = run.batch(0), run.batch(1)
    scores = run.model(x)
    (0.7 * run.loss(scores, y) + 0.3 * run.loss(scores, z)).backward()
    run.optimizer.step()


def regularised_value(run):
    return run.value() + 0.01 * sum(p.square().sum() for p in run.parameters)


def twice_through_the_model(run):
    run.optimizer.zero_grad()
    (x, y), (other, _) = run.batch(0), run.batch(1)
    scores = run.model(x)
    (run.loss(scores, y) + 0.1 * run.model(other).square().mean()).backward()
    run.optimizer.step()


def part_of_the_scores(run):
    run.optimizer.zero_grad()
    x, y = run.batch()
    run.loss(run.model(x)[::2] * 2.0, y[::2]).backward()
    run.optimizer.step()


def with_closure(run):
    def closure():
        run.optimizer.zero_grad()
        value = run.value()
        value.backward()
        return value

    run.optimizer.step(closure)


def skipped(run):
    """As GradScaler does: a step is left out, and the next iteration's zero_grad comes after its loss."""
    for n in range(2):
        value = run.value(n)
        run.optimizer.zero_grad(set_to_none=run.number % 2 == 0)
        value.backward()
    run.optimizer.step()


def stepped_twice(run):
    plain(run)
    if run.number < 2:
        run.optimizer.step()


def kept_gradients(run):
    run.value().backward()
    run.optimizer.step()


def zeroed(run):
    run.optimizer.zero_grad(set_to_none=False)
    run.value().backward()
    run.optimizer.step()


def retained(run):
    run.optimizer.zero_grad()
    value = run.value()
    value.backward(retain_graph=True)
    (0.5 * value).backward()
    run.optimizer.step()


def some_inputs(run):
    run.optimizer.zero_grad()
    value = run.value()
    value.backward(inputs=run.parameters[:2], retain_graph=True)
    (0.25 * value).backward(inputs=run.parameters[2:])
    run.optimizer.step()


def sharpness_aware(run):
    run.optimizer.zero_grad()
    run.value().backward()
    with torch.no_grad():
        moves = [0.05 * p.grad for p in run.parameters]
        for p, move in zip(run.parameters, moves, strict=True):
            p.add_(move)
    run.optimizer.zero_grad()
    run.value().backward()
    with torch.no_grad():
        for p, move in zip(run.parameters, moves, strict=True):
            p.sub_(move)
    run.optimizer.step()


def unscaled(scale, then=None):
    def step(run):
        run.optimizer.zero_grad()
        (run.value() * scale).backward()
        with torch.no_grad():
            for p in run.parameters:
                p.grad.div_(scale)
        if then is not None:
            then(run)
        run.optimizer.step()

    return step


def averaged(run):
    """The parameters are edited between two steps."""
    with torch.no_grad():
        for p in run.parameters:
            p.lerp_(run.memory.setdefault(p, p.detach().clone()), 0.05)
    plain(run)


def clipped_between(run):
    run.optimizer.zero_grad()
    for n in range(2):
        run.value(n).backward()
        clip_norm(run.parameters, 1e-3)
    run.optimizer.step()


def clipped_between_through_data(run):
    run.optimizer.zero_grad()
    for n in range(2):
        run.value(n).backward()
        for p in run.parameters:
            p.grad.data.mul_(0.5)
    run.optimizer.step()


def targets_overwritten(run):
    run.optimizer.zero_grad()
    x, y = run.batch()
    run.loss(run.model(x), y).backward()
    y.copy_(y.flip(0))
    run.optimizer.step()


def hooked_scores(run):
    run.optimizer.zero_grad()
    x, y = run.batch()
    scores = run.model(x)
    scores.register_hook(lambda g: g * 0.1)
    run.loss(scores, y).backward()
    run.optimizer.step()


def watched_scores(run):
    run.optimizer.zero_grad()
    x, y = run.batch()
    scores = run.model(x)
    scores.register_hook(lambda g: None)
    run.loss(scores, y).backward()
    run.optimizer.step()


def hooked_value(run):
    run.optimizer.zero_grad()
    value = run.value()
    value.register_hook(lambda g: g * 0.1)
    value.backward()
    run.optimizer.step()


def on_parameters(hook, after=False):
    def prepare(run):
        for p in run.parameters:
            (p.register_post_accumulate_grad_hook if after else p.register_hook)(hook)

    return prepare


def scale_after(p):
    p.grad.mul_(0.3)


def clip_in_hook(run):
    def hook(*_):
        clip_norm(run.parameters, 1e-3)

    run.optimizer.register_step_pre_hook(hook)


def late_hook(run):
    run.optimizer.zero_grad()
    run.value().backward()
    clip_in_hook(run)
    run.optimizer.step()


def bias_again(run):
    run.optimizer.zero_grad()
    x, y = run.batch()
    run.loss(run.model(x) + run.model[2].bias, y).backward()
    run.optimizer.step()


def another_optimizer_between(run):
    other = run.memory.setdefault("other", torch.optim.SGD(run.parameters, lr=0.05))
    run.optimizer.zero_grad()
    run.value().backward()
    other.step()
    run.optimizer.step()


def by_the_scaler(run):
    scaler = run.memory.setdefault("scaler", torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2))
    run.optimizer.zero_grad()
    scaler.scale(run.value() / 3).backward()
    scaler.unscale_(run.optimizer)
    clip_norm(run.parameters, 1e-3)
    scaler.step(run.optimizer)
    scaler.update()


def copied_meanwhile(run):
    plain(run)
    copy.deepcopy(run.model)
    torch.optim.swa_utils.AveragedModel(run.model)


def two_calls_in_one(run):
    run.optimizer.zero_grad()
    x, y = run.batch()
    run.loss(run.model(x) + run.model(x.flip(0)), y).backward()
    run.optimizer.step()


def redirected(run, step, *args):
    """Lightning under DDP calls the module in order to call its training step."""
    model, forward = run.model, run.model.forward

    def within(*args):
        model.forward = forward
        return step(*args)

    model.forward = within
    return model(*args)


def step_as_a_call(of=lambda model: model):
    def value(run):
        return redirected(run, lambda x, y: run.loss(of(run.model)(x), y), *run.batch())

    return after_backward(lambda run: None, value)


def manual_step_as_a_call(run):
    redirected(run, lambda *batch: plain(run), *run.batch())


class Checkpointed(nn.Module):
    def __init__(self, reentrant, whole=False):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.reentrant, self.whole = reentrant, whole

    def _inner(self, x):
        return self.second(self.first(x).tanh()).tanh()

    def forward(self, x):
        x = x.clone().requires_grad_(x.requires_grad or self.reentrant)
        return self.out(checkpoint(self._inner, x, use_reentrant=self.reentrant))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.out(self.b(self.a(x).tanh()).tanh())


class Registered(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = mlp()
        self.head = self.backbone[2]

    def forward(self, x):
        return self.head(self.backbone[:2](x))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.layer = nn.Linear(2, 4), nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.layer(self.embed(x.reshape(len(x), 3, 2))).mean(1))


class Counting(nn.Module):
    """Its output depends on how often it was called."""

    def __init__(self):
        super().__init__()
        self.inner = mlp()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.calls += 1
        return self.inner(x) * (1 + 0.1 * self.calls)


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round(decimals=1)

    @staticmethod
    def backward(ctx, grad):
        return grad


class StraightThrough(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(Rounded.apply(self.inner(x).tanh()))


class NoTangent(torch.autograd.Function):
    """Has no forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        return 3 * ctx.saved_tensors[0] ** 2 * grad


class CheckpointedBackwards(Checkpointed):
    def _inner(self, x):
        return NoTangent.apply(super()._inner(x))


def norm_net():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def cnn():
    layers = [nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(48, 3))


def frozen():
    model = mlp()
    model[0].weight.requires_grad_(False)
    return model


def family():
    form = ClassificationFamily(3)
    with torch.no_grad():
        for name, value in (("balance", 0.4), ("exponent", 0.3), ("focus", 1.0), ("adjustment", 0.5)):
            getattr(form, name).fill_(value)
    return form


def groups(parameters):
    some = list(parameters)
    return torch.optim.Adam([{"params": some[:2], "lr": 0.1}, {"params": some[2:], "lr": 0.01}])


OPTIMIZERS = {
    "sgd": functools.partial(torch.optim.SGD, lr=0.3),
    "nesterov": functools.partial(torch.optim.SGD, lr=0.3, momentum=0.9, nesterov=True, weight_decay=0.01),
    "dampening": functools.partial(torch.optim.SGD, lr=0.3, momentum=0.9, dampening=0.2, maximize=True),
    "adam": functools.partial(torch.optim.Adam, lr=0.05, weight_decay=0.01),
    "adamw": functools.partial(torch.optim.AdamW, lr=0.05, amsgrad=True),
    "foreach": functools.partial(torch.optim.AdamW, lr=0.05, foreach=True),
    "fused": functools.partial(torch.optim.AdamW, lr=0.05, fused=True),
    "groups": groups,
}
MODELS = {
    "mlp": mlp, "tied": Tied, "registered twice": Registered, "batch norm and dropout": norm_net, "cnn": cnn,
    "checkpoint": functools.partial(Checkpointed, False), "reentrant checkpoint": functools.partial(Checkpointed, True),
    "checkpoint without forward mode": functools.partial(CheckpointedBackwards, False),
    "attention": Attention, "frozen": frozen, "counting": Counting,
}  # fmt: skip

CASES = {
    **{f"model: {name}": Case(plain, model) for name, model in MODELS.items()},
    **{f"micro-batches, {name}": Case(micro, model) for name, model in MODELS.items() if name != "mlp"},
    **{f"optimiser: {name}": Case(plain, optimizer=make) for name, make in OPTIMIZERS.items()},
    **{f"clipped, {name}": Case(after_backward(lambda run: clip_norm(run.parameters, 1e-3)), optimizer=make)
       for name, make in OPTIMIZERS.items()},
    "clipped to 1": Case(after_backward(lambda run: clip_norm(run.parameters, 1.0))),
    "clipped by the 1-norm": Case(after_backward(lambda run: clip_norm(run.parameters, 0.01, norm_type=1))),
    "clipped by the largest": Case(after_backward(lambda run: clip_norm(run.parameters, 1e-3, norm_type=float("inf")))),
    "clipped to an odd norm": Case(after_backward(lambda run: clip_norm(run.parameters, 1 / 777.77**0.5 / 31)),
                                   learns="clipping='norm'"),
    "an odd norm, once": Case(after_backward(lambda run: clip_norm(run.parameters, 1 / 777.77**0.5 / 31)), steps=1,
                              says="clipping='norm'"),
    "an odd norm, named": Case(after_backward(lambda run: clip_norm(run.parameters, 1 / 777.77**0.5 / 31)), steps=1,
                               options={"clipping": "norm"}),
    "an odd norm of the largest, named": Case(
        after_backward(lambda run: clip_norm(run.parameters, 1 / 777.77**0.5 / 31, float("inf"))), steps=1,
        options={"clipping": "norm_inf"}),
    "clipped layer by layer": Case(after_backward(lambda run: [clip_norm([p], 1e-3) for p in run.parameters])),
    "some clipped": Case(after_backward(lambda run: clip_norm(run.parameters[:2], 1e-3))),
    "clipped in a hook": Case(plain, prepare=clip_in_hook),
    "values clipped": Case(after_backward(lambda run: clip_value(run.parameters, 1e-3))),
    "multiplied by .3": Case(each(lambda p: p.grad.mul_(0.3))),
    "multiplied by -1": Case(each(lambda p: p.grad.neg_())),
    "multiplied by an odd number": Case(each(lambda p: p.grad.mul_(0.123456789**0.5)), learns="'scale'"),
    "multiplied by an odd number, once": Case(each(lambda p: p.grad.mul_(0.123456789**0.5)), steps=1,
                                              says="clipping='norm'"),
    "multiplied by an odd number, named": Case(each(lambda p: p.grad.mul_(0.123456789**0.5)), steps=1,
                                               options={"clipping": "scale"}),
    "another tensor": Case(each(lambda p: setattr(p, "grad", p.grad * 0.5))),
    "divided by their norm": Case(after_backward(divided_by_norm)),
    "through .data": Case(each(lambda p: p.grad.data.mul_(0.25))),
    "turned round through .data": Case(each(lambda p: p.grad.data.neg_())),
    "barely changed through .data": Case(each(lambda p: p.grad.data.clamp_(-0.99 * float(p.grad.abs().max()),
                                                                           0.99 * float(p.grad.abs().max()))),
                                         says="clipping='value'"),
    "entries set to zero": Case(each(lambda p: p.grad.view(-1)[::2].zero_())),
    "signs": Case(each(lambda p: p.grad.sign_()), says="a change of another kind"),
    "centred": Case(each(lambda p: p.grad.sub_(p.grad.mean())), says="a change of another kind"),
    "noise": Case(each(lambda p: p.grad.add_(1e-3 * torch.randn_like(p))), says="a change of another kind"),
    "hooks on parameters": Case(plain, prepare=on_parameters(lambda g: g * 0.3)),
    "hooks that watch": Case(plain, prepare=on_parameters(lambda g: None)),
    "hooks after accumulation": Case(plain, prepare=on_parameters(scale_after, after=True)),
    "unscaled": Case(unscaled(65536.0)),
    "unscaled and clipped": Case(unscaled(65536.0, lambda run: clip_norm(run.parameters, 1e-5))),
    "assigned": Case(assigned),
    "assigned, two parts": Case(assigned_from_two),
    "logged before": Case(logged),
    "logged after": Case(logged_afterwards),
    "gradient penalty": Case(penalised, says="create_graph"),
    "gradient penalty of the scores": Case(penalised_input),
    "squared": Case(used(lambda v: v**2)),
    "divided by itself": Case(used(lambda v: v / v.detach())),
    "its logarithm": Case(used(lambda v: v.exp().log1p()), says="follows from the loss's own value"),
    "a third": Case(used(lambda v: v / 3)),
    "a weight": Case(used(lambda v: 0.37 * v)),
    "a ratio": Case(used(lambda v: v * 37 / 123)),
    "a sum": Case(used(lambda v, w: v + 2 * w, 2)),
    "a square of a sum": Case(used(lambda v, w: (v + w) ** 2, 2), says="follows from the loss's own value"),
    "the larger": Case(used(torch.maximum, 2)),
    "micro-batches": Case(micro),
    "micro-batches, counts": Case(micro, form=family),
    "mixed up, counts": Case(mixed_up, form=family),
    "counts": Case(plain, form=family),
    "regularised": Case(after_backward(lambda run: None, regularised_value)),
    "the model twice": Case(twice_through_the_model),
    "part of the scores": Case(part_of_the_scores),
    "closure": Case(with_closure),
    "a step left out": Case(skipped),
    "stepped twice": Case(stepped_twice),
    "gradients kept": Case(kept_gradients),
    "gradients set to zero": Case(zeroed),
    "retained": Case(retained),
    "some inputs": Case(some_inputs),
    "sharpness-aware": Case(sharpness_aware, says="SAM"),
    "averaged": Case(averaged),
    "clipped between passes": Case(clipped_between, says="between two backward passes"),
    "changed between passes through .data": Case(clipped_between_through_data, says="between two backward passes"),
    "targets overwritten": Case(targets_overwritten, says="written to"),
    "hooked scores": Case(hooked_scores, says="hooks on the scores"),
    "watched scores": Case(watched_scores),
    "hooked value": Case(hooked_value, says="hooks on the scores"),
    "a hook too late": Case(late_hook, says="registered after the loss was called", steps=1),
    "a bias again": Case(bias_again, says="outside the model's call"),
    "another optimiser between": Case(another_optimizer_between, says="written to"),
    "by the scaler": Case(by_the_scaler),
    "copied meanwhile": Case(copied_meanwhile),
    "two calls in one": Case(two_calls_in_one),
    "regularised and clipped": Case(
        after_backward(lambda run: clip_norm(run.parameters, 1e-2), regularised_value), learns="another loss"),
    "the step is a call": Case(step_as_a_call()),
    "the step is a call, once": Case(step_as_a_call(), steps=1),
    "the step is a call, of a part": Case(step_as_a_call(lambda model: model[0]), lambda: nn.Sequential(mlp())),
    "the step is a call, by hand": Case(manual_step_as_a_call),
    "straight-through estimator": Case(plain, StraightThrough, says="backward pass is not the derivative"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore:LookAhead cannot use")
def test_it_is_right_or_said(case):
    check(case)
