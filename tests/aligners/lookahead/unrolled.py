"""The reference: one training step written out by hand, and autograd through all of it."""

import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from metricgrad.losses.base import CallContext


def hypergradient(
    model, optimizer, form, micro, valid, objective, *, factor=1.0, clip=None, value_clip=None, call=None
):
    """d objective / d phi through the step that ``micro`` batches would give, by double backward."""
    call = call or CallContext(0, 0, counts=False)
    phi = {name: p.detach().clone().requires_grad_() for name, p in form.named_parameters()}
    live = {name: p for name, p in model.named_parameters() if p.requires_grad}
    theta = {name: p.detach().clone().requires_grad_() for name, p in live.items()}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    gradients = [0.0] * len(theta)
    with sdpa_kernel(SDPBackend.MATH):
        for x, y in micro:  # summed in the order of .backward(), to the last digit
            scores = functional_call(model, {**theta, **buffers}, (x,))
            value = factor * functional_call(form, phi, (scores, y), {"call": call})
            found = torch.autograd.grad(value, list(theta.values()), create_graph=True)
            gradients = [a + b for a, b in zip(gradients, found, strict=True)]
        if clip is not None:
            norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            gradients = [g * (clip / (norm + 1e-6)).clamp(max=1) for g in gradients]
        if value_clip is not None:
            gradients = [g.clamp(-value_clip, value_clip) for g in gradients]
        groups = {p: group for group in optimizer.param_groups for p in group["params"]}
        after = {
            name: _stepped(groups[live[name]], optimizer.state.get(live[name], {}), theta[name].detach(), g)
            if live[name] in groups
            else theta[name].detach()
            for name, g in zip(theta, gradients, strict=True)
        }
        value = objective(functional_call(model, {**after, **buffers}, (valid[0],)), valid[1])
    found = torch.autograd.grad(value, list(phi.values()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(phi.values(), found, strict=True)]


def _stepped(group, state, value, gradient):
    """In float64: at Adam's first step all but epsilon cancels."""
    dtype, value, gradient = value.dtype, value.double(), gradient.double()
    state = {name: v.double() if isinstance(v, torch.Tensor) else v for name, v in state.items()}
    if group["maximize"]:
        gradient = -gradient
    lr, decay = group["lr"], group["weight_decay"]
    if "betas" not in group:
        gradient = gradient + decay * value
        if group["momentum"]:
            buffer = state.get("momentum_buffer")
            buffer = gradient if buffer is None else group["momentum"] * buffer + (1 - group["dampening"]) * gradient
            gradient = gradient + group["momentum"] * buffer if group["nesterov"] else buffer
        return (value - lr * gradient).to(dtype)
    if group["decoupled_weight_decay"]:
        value = value * (1 - lr * decay)
    else:
        gradient = gradient + decay * value
    beta1, beta2 = group["betas"]
    zero = torch.zeros_like(value)
    step = float(state.get("step", 0)) + 1
    first = beta1 * state.get("exp_avg", zero) + (1 - beta1) * gradient
    second = beta2 * state.get("exp_avg_sq", zero) + (1 - beta2) * gradient.square()
    if group["amsgrad"]:
        second = torch.maximum(second, state.get("max_exp_avg_sq", zero))
    safe = torch.where(second > 0, second, torch.ones_like(second))
    root = torch.where(second > 0, safe.sqrt(), torch.zeros_like(second))
    stepped = value - lr / (1 - beta1**step) * first / (root / (1 - beta2**step) ** 0.5 + group["eps"])
    return stepped.to(dtype)


def relative(found, expected):
    """How far one gradient is from another, relative to its length."""
    gap = torch.stack([(a - b).double().square().sum() for a, b in zip(found, expected, strict=True)]).sum().sqrt()
    return float(gap / torch.stack([b.double().square().sum() for b in expected]).sum().sqrt())
