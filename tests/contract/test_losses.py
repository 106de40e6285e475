"""What every cell of the grid promises, run over the registry."""

import copy
import pickle

import pytest
import torch

import metricgrad as mg
from metricgrad import grid
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.losses.composite.anchored import Anchored
from metricgrad.losses.interpolated.linearized import Linearized
from tests.contract.registry import ALIGNERS, FORMS, LOSSES, SIGNED


@pytest.fixture(params=LOSSES, name="entry")
def _entry(request):
    return LOSSES[request.param]


def _value_and_gradient(loss, scores, targets, grad_output=1.0):
    scores = scores.clone().requires_grad_()
    value = loss(scores, targets)
    (gradient,) = torch.autograd.grad(value * grad_output, scores)
    return value.detach(), gradient


def test_every_form_and_aligner_is_registered():
    assert set(grid.FORMS.values()) == FORMS
    assert set(grid.ALIGNERS.values()) == ALIGNERS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_value_is_in_float32_at_least_and_the_gradient_in_the_dtype_of_the_scores(entry, dtype):
    make, data = entry
    value, gradient = _value_and_gradient(make(), *data(48, dtype))
    assert value.ndim == 0
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert gradient.dtype == dtype
    assert torch.isfinite(value)
    assert value >= 0 or any(entry is LOSSES[name] for name in SIGNED)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_half_precision_gives_the_value_of_its_scores_in_float32(entry):
    make, data = entry
    scores, targets = data(48, torch.float16)
    half, gradient = _value_and_gradient(make(), scores, targets)
    single, exact = _value_and_gradient(make(), scores.float(), targets)
    assert torch.equal(half, single)
    assert torch.equal(gradient, exact.half())


def test_the_default_scale_of_a_gradient_scaler_loses_no_first_step(entry):
    make, data = entry
    _, scaled = _value_and_gradient(make(), *data(48, torch.float16), grad_output=65536.0)
    assert torch.isfinite(scaled).all()
    assert scaled.abs().sum() > 0


def test_grad_output_is_honoured(entry):
    make, data = entry
    batch = data(48, torch.float64)
    _, once = _value_and_gradient(make(), *batch)
    _, thrice = _value_and_gradient(make(), *batch, grad_output=3.0)
    torch.testing.assert_close(thrice, 3 * once)


def test_the_gradient_is_that_of_the_value(entry):
    make, data = entry
    scores, targets = data(12, torch.float64)
    loss = make()
    loss(scores, targets)  # sets its softness
    loss.eval()  # in which neither the step nor the softness moves between two calls
    if any(isinstance(module, Anchored | Linearized) for module in loss.form.modules()):
        pytest.skip("the value is the metric's and the gradient that of what rides on it; see their own tests")
    if float(loss(scores, targets)) == 0:
        pytest.skip("the value is clamped at zero here, where its gradient is kept on purpose")
    assert torch.autograd.gradcheck(lambda s: loss(s, targets), (scores.requires_grad_(),), eps=1e-7, atol=1e-4)
    # gradients below 1e-4 too, along one random direction
    one_way = {"eps": 1e-6, "atol": 2e-7, "rtol": 1e-4, "fast_mode": True}
    assert torch.autograd.gradcheck(lambda s: loss(s, targets), (scores,), **one_way)


def test_same_seed_same_draws(entry):
    make, data = entry
    batch = data(48, torch.float32)
    first, second = make(), make()
    for _ in range(3):
        a, b = _value_and_gradient(first, *batch), _value_and_gradient(second, *batch)
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


def test_a_resumed_run_draws_what_an_undisturbed_one_would(entry, tmp_path):
    make, data = entry
    batch = data(48, torch.float32)
    undisturbed = make()
    for _ in range(3):
        _value_and_gradient(undisturbed, *batch)
    undisturbed.save(tmp_path / "loss.safetensors")
    resumed, reloaded = make(), mg.load_loss(tmp_path / "loss.safetensors")
    resumed.load_state_dict(undisturbed.state_dict())
    expected = _value_and_gradient(undisturbed, *batch)
    for other in (resumed, reloaded):
        found = _value_and_gradient(other, *batch)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def test_calls_without_gradient_or_in_eval_mode_do_not_count(entry):
    make, data = entry
    batch = data(48, torch.float32)
    loss = make()
    with torch.no_grad():
        loss(*batch)
    loss.eval()
    loss(*batch)
    assert int(loss.steps) == 0
    loss.train()
    loss(*batch)
    assert int(loss.steps) == 1


@pytest.mark.parametrize("n", [0, 1, 2])
def test_tiny_batches_are_finite(entry, n):
    make, data = entry
    value, gradient = _value_and_gradient(make(), *data(n, torch.float32))
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_batches_are_finite(entry, label):
    make, data = entry
    scores, targets = data(24, torch.float32)
    value, gradient = _value_and_gradient(make(), scores, torch.full_like(targets, label))
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_equal_scores_are_finite(entry):
    make, data = entry
    scores, targets = data(24, torch.float32)
    value, gradient = _value_and_gradient(make(), torch.zeros_like(scores), targets)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_runs_outside_a_compiled_graph(entry):
    make, data = entry
    batch = data(16, torch.float32)
    plain = _value_and_gradient(make(), *batch)
    compiled = torch.compile(make(), backend="eager")
    found = _value_and_gradient(compiled, *batch)
    assert torch.equal(plain[0], found[0])


def test_attach_leaves_the_loop_and_the_optimiser_alone(entry):
    make, data = entry
    scores, targets = data(16, torch.float32)

    def train(attach):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, scores[0].numel())
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        loss = make()
        handle = loss.attach(model, optimizer) if attach else None
        inputs = torch.randn(len(scores), 3)
        for _ in range(1 if isinstance(loss.aligner, LookAhead) else 3):  # it moves the loss of the second step
            optimizer.zero_grad()
            loss(model(inputs).reshape(scores.shape), targets).backward()
            optimizer.step()
        if handle is not None:
            handle.detach()
            handle.detach()
        return model.weight.detach()

    assert torch.equal(train(True), train(False))


class Offset(torch.nn.Module):
    """Scores that are parameters, so that any loss can be trained on them."""

    def __init__(self, shape, dtype):
        super().__init__()
        self.offset = torch.nn.Parameter(torch.zeros(shape, dtype=dtype))

    def forward(self, x):
        return x + self.offset


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))], ids=["deep", "pickle"]
)
def test_a_copy_is_the_loss_as_it_is_attached_to_nothing(entry, attached, copied):
    make, data = entry
    scores, targets = data(16, torch.float32)
    loss, model = make(), Offset(scores.shape, scores.dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if attached:
        loss.attach(model, optimizer, valid=[(scores, targets)])
    loss(model(scores), targets).backward()
    loss(model(scores), targets)  # what is under way when it is copied
    loss_copy, model_copy = copied(loss), copied(model)
    for name, value in loss.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value.nan_to_num(), loss_copy.state_dict()[name].nan_to_num())
    loss_copy.attach(model_copy, torch.optim.SGD(model_copy.parameters(), lr=0.1), valid=[(scores, targets)])
    before = [p.clone() for p in loss_copy.parameters()]
    optimizer.step()
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(before, loss_copy.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(_value_and_gradient(loss.eval(), scores, targets),
                                                 _value_and_gradient(loss_copy.eval(), scores, targets), strict=True)
               ) or isinstance(loss.aligner, LookAhead)  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_making_and_calling_a_loss_leaves_the_global_random_state_alone(name):
    make, data = LOSSES[name]
    scores, targets = data(16, torch.float32)
    before = torch.get_rng_state()
    make()(scores.requires_grad_(), targets).backward()
    assert torch.equal(torch.get_rng_state(), before)
