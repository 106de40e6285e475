"""A network that is sure of its mistakes hears of them: every refactoring, both interpolations, the metric alone."""

import warnings

import pytest
import torch
from torch import nn

import metricgrad as mg


def _linear(kind, n=48):
    """Inputs, targets that a linear model can learn, the number of outputs and what makes scores of them."""
    g = torch.Generator().manual_seed(1)
    inputs, weights = torch.randn(n, 8, generator=g), torch.randn(8, 25, generator=g)
    z = inputs @ weights
    return {
        "binary": lambda: (inputs, (z[:, 0] > 0.6).long(), 1, lambda s: s[:, 0]),
        "multilabel": lambda: (inputs, (z[:, :4] > 0.6).long(), 4, lambda s: s),
        "classes": lambda: (inputs, z[:, :4].argmax(1), 4, lambda s: s),
        "gains": lambda: (inputs, z[:, 0].argsort().argsort() * 4 // n, 1, lambda s: s[:, 0]),
        "maps": lambda: (
            inputs,
            torch.stack([z.argmax(1) % 5, z.argmax(1) // 5], 1),
            25,
            lambda s: s.reshape(-1, 5, 5),
        ),
        "sentences": lambda: (inputs, z[:, :20].reshape(n, 4, 5).argmax(2), 20, lambda s: s.reshape(n, 4, 5)),
        "spans": lambda: (
            inputs,
            z[:, :10].reshape(n, 2, 5).argmax(2).sort(1).values,
            10,
            lambda s: s.reshape(n, 2, 5),
        ),
        "embeddings": lambda: (inputs[:24], z[:24, :3].argmax(1), 6, lambda s: s),
    }[kind]()


def dice(probabilities, targets):
    return 2 * (probabilities * targets).sum() / (probabilities.sum() + targets.sum())


def brier(scores, targets):
    return (scores.softmax(1) - nn.functional.one_hot(targets, scores.shape[1])).square().sum(1).mean()


DICE = mg.as_metric(dice, higher_is_better=True, reads="probabilities")
BRIER = mg.as_metric(brier, higher_is_better=False, reads="scores")

METRICS = [
    ("f1", "binary"), ("macro_f1", "multilabel"), ("accuracy", "classes"), ("quadratic_kappa", "classes"),
    ("top_k_accuracy:k=2", "classes"), ("average_precision", "binary"), ("auroc", "classes"),
    ("precision_at_k:k=10", "binary"), ("spearman", "gains"), ("ndcg", "gains"), ("pck", "maps"),
    ("bleu", "sentences"), ("span_f1", "spans"), ("map_at_r", "embeddings"),
]  # fmt: skip
WAYS = [("local", 0.5), ("local", 1.0), ("inverse_distance", 0.5)]
# inverse distances of embeddings take minutes, and of kappa more steps than these
_LEFT_OUT = (("map_at_r", "inverse_distance"), ("quadratic_kappa", "inverse_distance"))
CASES = [(m, k, i, q) for m, k in METRICS for i, q in WAYS if (m, i) not in _LEFT_OUT]
CASES += [(DICE, "binary", "local", 0.5), (BRIER, "classes", "local", 0.5)]
NAMES = [f"{getattr(m, 'name', m)} {i} {q:g}" for m, _, i, q in CASES]


def _score(metric, scores, targets):
    value = float(metric(scores.detach(), targets))
    return value if metric.higher_is_better else -value


@pytest.mark.parametrize(("metric", "kind", "interpolation", "q"), CASES, ids=NAMES)
def test_sgd_leaves_scores_that_are_surely_wrong(metric, kind, interpolation, q):
    # far anchors are few and random: more steps, most for several decisions a row, and more than one training
    steps, seeds = (40, 1) if interpolation == "local" else (120 if kind in ("sentences", "spans") else 50, 3)
    inputs, targets, outputs, shaped = _linear(kind)
    inputs, metric = 300 * inputs, mg.as_metric(metric)
    gains = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, outputs))
        before = shaped(model(inputs))
        assert before.detach().abs().median() > 20
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        loss = mg.UniLoss(metric, interpolation=interpolation, q=q)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(shaped(model(inputs)), targets).backward()
            optimizer.step()
        gains.append(_score(metric, shaped(model(inputs)), targets) - _score(metric, before, targets))
    assert sum(gains) / seeds > 0.005


def _wrong(kind, size):
    """Scores whose every decision is wrong by at least ``size``."""
    g = torch.Generator().manual_seed(2)
    n = 24
    if kind == "binary":
        targets = (torch.arange(n) % 3 == 0).long()
        return (1 - 2 * targets) * size * (1 + 0.1 * torch.rand(n, generator=g)), targets
    if kind == "multilabel":
        targets = (torch.rand(n, 4, generator=g) < 0.4).long()
        return (1 - 2 * targets) * size * (1 + 0.1 * torch.rand(n, 4, generator=g)), targets
    if kind == "gains":
        targets = torch.arange(n) % 4
        return (1.5 - targets) * size / 1.5 * (1 + 0.1 * torch.rand(n, generator=g)), targets
    if kind == "maps":
        points = torch.randint(5, (n, 2), generator=g)
        maps = torch.randn(n, 5, 5, generator=g) * (size / 10)
        maps[torch.arange(n), 4 - points[:, 1], 4 - points[:, 0]] = size
        maps[torch.arange(n), points[:, 1], points[:, 0]] = -size
        return maps, points
    shape = {"classes": (n,), "sentences": (6, 4), "spans": (n, 2)}[kind]
    targets = torch.randint(5, shape, generator=g)
    targets = targets.sort(1).values if kind == "spans" else targets
    scores = torch.randn(*shape, 5, generator=g) * (size / 10)
    other = (targets + 1) % 5
    return scores.scatter(-1, other[..., None], size).scatter(-1, targets[..., None], -size), targets


@pytest.mark.parametrize("size", [150.0, 1e8, 2.5e38])
@pytest.mark.parametrize(("metric", "kind"), [case for case in METRICS if case[1] != "embeddings"])
@pytest.mark.parametrize(("interpolation", "q"), WAYS)
def test_the_gradient_of_sure_mistakes_is_finite_and_the_metric_follows_it(metric, kind, interpolation, q, size):
    if size > 1e3 and kind in ("binary", "classes", "gains") and metric in _OF_ORDER:
        pytest.skip("orders of such scores have tests of their own")
    scores, targets = _wrong(kind, size)
    scores.requires_grad_()
    metric = mg.as_metric(metric)
    value = mg.UniLoss(metric, interpolation=interpolation, q=q, softness=1.0)(scores, targets)
    value.backward()
    assert torch.isfinite(value)
    assert value > 0
    assert torch.isfinite(scores.grad).all()
    assert scores.grad.abs().max() > 1e-6
    if interpolation == "local":  # far anchors say little of a single step
        hard = scores.detach() / size
        after = hard - 3 * scores.grad / scores.grad.abs().max()
        assert _score(metric, after, targets) > _score(metric, hard, targets)


_OF_ORDER = ("average_precision", "auroc", "precision_at_k:k=10", "spearman", "ndcg")


def test_the_gradient_of_sure_mistakes_follows_the_rows_when_they_are_permuted():
    for metric, kind in (("f1", "binary"), ("accuracy", "classes"), ("pck", "maps"), ("top_k_accuracy:k=2", "classes")):
        scores, targets = _wrong(kind, 150.0)
        order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
        gradients = []
        for s, t in ((scores, targets), (scores[order], targets[order])):
            s = s.clone().requires_grad_()
            mg.UniLoss(metric, softness=1.0)(s, t).backward()
            gradients.append(s.grad)
        torch.testing.assert_close(gradients[0][order], gradients[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sure_mistakes_among_right_decisions_are_the_ones_that_are_pulled(dtype):
    targets = torch.arange(40) % 4
    scores = 200.0 * nn.functional.one_hot(targets, 4)
    scores[:5] = 200.0 * nn.functional.one_hot((targets[:5] + 1) % 4, 4)
    scores = scores.to(dtype).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mg.UniLoss("accuracy", softness=1.0)(scores, targets).backward()
    pulled = scores.grad.float().gather(1, targets[:, None])[:, 0]
    # each mistake costs 1/40, and a softness of 1 leaves the slope of the leak as it is
    torch.testing.assert_close(pulled[:5], torch.full((5,), -0.05 / 40), rtol=1e-2, atol=0)
    assert pulled[5:].abs().max() < 1e-9


@pytest.mark.parametrize("metric", ["pck", "macro_f1", "top_k_accuracy:k=2", "bleu"])
def test_scores_up_to_the_end_of_float32_have_the_loss_of_large_ones(metric):
    g = torch.Generator().manual_seed(1)
    shape, of = {"pck": ((14, 6, 6), (14, 2)), "bleu": ((3, 5, 7), (3, 5))}.get(metric, ((30, 4), (30,)))
    scores, targets = torch.rand(shape, generator=g) - 0.5, torch.randint(4, of, generator=g)
    targets = targets.float() if metric == "pck" else targets
    loss = mg.UniLoss(metric)
    expected = float(loss(scores * 1e8, targets))
    assert 0 < expected < 1
    for size in (1e29, 1e31, 1e36, 6.8e38):  # the largest float32 is 3.4e38, the largest of these scores 0.5
        large = (scores.double() * size).float().requires_grad_()
        value = loss(large, targets)
        value.backward()
        assert value.item() == pytest.approx(expected, abs=1e-5)
        assert large.grad is not None
        assert bool(large.grad.isfinite().all())
        assert bool(large.grad.any())


def test_heat_maps_that_surely_peak_aside_are_worth_what_the_metric_says():
    maps = torch.zeros(14, 6, 6)
    maps[:, 2, 2], maps[9:, 0, 5] = 1e35, 2e35  # 9 of 14 peak on their point
    loss = mg.UniLoss("pck:radius=1")(maps, torch.full((14, 2), 2.0))
    assert float(loss) == pytest.approx(5 / 14, abs=1e-6)
