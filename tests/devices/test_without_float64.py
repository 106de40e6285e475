"""Forms and decisions on a device that has no float64, as MPS has none."""

import pytest

from tests.devices.own_process import ON_THE_DEVICE, passed_on_the_device

if not ON_THE_DEVICE:

    def test_in_a_process_of_its_own():
        passed_on_the_device(__file__)

else:
    import torch

    from metricgrad.precision import WITHOUT_FLOAT64
    from tests.contract.registry import LOSSES
    from tests.devices import every, pretend_device
    from tests.fence.decision_cells import decision_cells

    pretend_device.enable()
    WITHOUT_FLOAT64.add("sim")
    pytestmark = pytest.mark.filterwarnings("ignore")

    def stepped(loss, scores, targets):
        for _ in range(2):
            leaf = scores.clone().requires_grad_()
            value = loss(leaf, targets)
            value.backward()
        return value.detach().cpu(), leaf.grad.cpu()

    def test_the_device_refuses_float64_where_it_has_none():
        for make in (
            lambda: torch.ones(2, device="sim").double(),
            lambda: torch.ones(2, dtype=torch.float64).to("sim"),
            lambda: torch.zeros(2, dtype=torch.float64, device="sim"),
        ):
            with pytest.raises(TypeError, match="doesn't support float64"):
                make()

    @pytest.mark.parametrize("name", list(LOSSES)[::2])  # all are run on the device that has it
    def test_some_forms_do_without_float64(name):
        make, data = LOSSES[name]
        scores, targets = data(16, torch.float32)
        if targets.dtype == torch.float64:
            targets = targets.float()
        losses = {"cpu": make().float(), "sim": make().float()}
        found = {device: stepped(loss, scores.to(device), targets.to(device)) for device, loss in losses.items()}
        for here, there in zip(found["cpu"], found["sim"], strict=True):
            torch.testing.assert_close(there, here.to(there), rtol=1e-3, atol=1e-4, equal_nan=True)

    @pytest.mark.parametrize("name", [name for name, _ in decision_cells()][::4])
    def test_decisions_do_without_float64(name):
        """Where two cuts are as good but for rounding it may be the other: what they are worth is the same."""
        here, there = (every.run(dict(decision_cells())[name], device) for device in ("cpu", "sim"))
        assert type(here) is type(there)
        if not isinstance(here, Exception):
            torch.testing.assert_close(there["judged"], here["judged"], rtol=0, atol=0.01, equal_nan=True)
