"""The picture is drawn from what was recorded, for few knobs and for many."""

import pytest
import torch

import metricgrad as mg
from metricgrad.comparison.watch import plot_history
from metricgrad.losses.correlation_matrix import CorrelationMatrix


@pytest.mark.parametrize("form", [lambda: None, lambda: CorrelationMatrix(5)])
def test_a_history_becomes_a_picture(tmp_path, form):
    loss = mg.ALA("accuracy", form(), 5, warm_up=0)
    with pytest.raises(mg.MetricgradError, match="history is empty"):
        plot_history(loss.aligner.history, tmp_path / "none.png")
    for period in range(4):
        loss.observe(torch.randn(20, 5), torch.arange(20) % 5, progress=period / 4)
    path = plot_history(loss.aligner.history, tmp_path / "history.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000
