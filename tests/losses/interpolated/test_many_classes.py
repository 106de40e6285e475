"""What a step of a metric of labels makes grows with the score matrix, however many classes there are."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import metricgrad as mg

ROWS = 16


class Written(TorchDispatchMode):
    """Bytes of all tensors that are made inside, and the most that were there at one time."""

    def __init__(self):
        super().__init__()
        self.total = self.now = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for part in tree_leaves(found):
            if isinstance(part, torch.Tensor):
                self._add(part.untyped_storage())
        return found

    def _add(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.total, self.now = self.total + size, self.now + size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key, size):
        self.known.discard(key)
        self.now -= size


def _step(metric, classes):
    """Bytes in units of the score matrix's."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(ROWS, classes, generator=generator, requires_grad=True)
    targets = torch.randint(classes, (ROWS,), generator=generator)
    loss = mg.UniLoss(metric, anchored=False)
    with Written() as written:
        loss(scores, targets).backward()
    assert bool(scores.grad.isfinite().all())
    assert bool(scores.grad.any())
    unit = 4 * ROWS * classes
    return written.total / unit, written.peak / unit


@pytest.mark.parametrize(
    "metric", ["accuracy", "macro_f1", "balanced_accuracy", "kappa", "quadratic_kappa", "top_k_accuracy:k=5"]
)
def test_a_step_makes_a_few_times_the_score_matrix(metric):
    few, many = (_step(metric, classes) for classes in (2_000, 20_000))
    assert many[0] <= 1.05 * few[0]
    assert many[0] < 100
    assert many[1] < 20


@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy", "g_mean", "mean_iou", "weighted_f1", "kappa"])
def test_rows_that_weigh_nothing_leave_the_gradient_of_the_others(metric):
    """Also where a class is the target of such rows alone."""
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(48, 100, generator=generator, dtype=torch.float64)
    targets, weight = torch.randint(100, (48,), generator=generator), torch.rand(48, generator=generator)
    weight[::3] = 0
    kept, found = weight > 0, []
    for rows in (slice(None), kept):
        leaf = scores[rows].clone().requires_grad_()
        mg.UniLoss(metric)(leaf, targets[rows], sample_weight=weight[rows]).backward()
        found.append(leaf.grad)
    torch.testing.assert_close(found[0][kept], found[1])
    assert not found[0][~kept].any()
