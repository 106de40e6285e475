"""Nothing is chosen by a metric whose values contradict the direction it was given."""

import numpy as np
import pytest
import torch

import metricgrad as mg


def metric(higher_is_better: bool) -> mg.Metric:
    return mg.as_metric(
        lambda predicted, targets: np.mean(predicted != targets), higher_is_better=higher_is_better, reads="labels",
        inputs="numpy", name="error",
    )  # fmt: skip


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    inputs = torch.randn(90, 4, generator=g)
    return inputs, inputs[:, :3].argmax(1)


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_fit_and_alas_feedback_refuse_an_error_rate_to_be_raised(higher_is_better):
    inputs, targets = batch()
    model, error = torch.nn.Linear(4, 3), metric(higher_is_better)

    def fit():
        return mg.fit(model, (inputs, targets), (inputs, targets), metric=error, loss="cross_entropy", epochs=1,
                      progress=False, device="cpu")  # fmt: skip

    def observe():
        mg.ALA(error, num_outputs=3).observe(model(inputs).detach(), targets)

    for call in (fit, observe):
        if higher_is_better:
            with pytest.raises(mg.MetricgradError, match="higher_is_better"):
                call()
        else:
            call()


def test_a_metric_that_likes_other_decisions_better_is_believed():
    """Costs may make another decision than the target the best one, as long as some are worse."""
    inputs, targets = batch()
    cost = mg.as_metric(
        lambda predicted, targets: np.mean((predicted != targets) * 2.0 + (predicted == 2) * 0.1),
        higher_is_better=False, reads="labels", inputs="numpy", name="cost",
    )  # fmt: skip
    mg.fit(torch.nn.Linear(4, 3), (inputs, targets), (inputs, targets), metric=cost, loss="cross_entropy", epochs=1,
           progress=False, device="cpu")  # fmt: skip
