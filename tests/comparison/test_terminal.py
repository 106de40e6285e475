"""A study in a terminal of any width: no number is broken, and what has no room is named."""

import pytest
from rich.console import Console

from tests.comparison.report.studies import row, run, rung, table


@pytest.mark.parametrize(("width", "left_out"), [(80, "seconds, without decision, p"), (140, None), (None, None)])
def test_no_number_is_broken(tmp_path, width, left_out):
    study = table(tmp_path)
    console = Console(width=width or 200, no_color=True)
    with console.capture() as captured:
        console.print(study.rich(width))
        console.print(study.rungs(width))
    shown = captured.get()
    for whole in ("cross_entropy", "ala_static", "0.8000", "+0.1000", "0.9300", "better"):
        assert whole in shown
    lines = [line for line in shown.splitlines() if line.startswith(("┏", "│"))]
    assert all(line.rstrip()[-1] in "┓│" for line in lines)  # whole to their right border
    assert ("no room for" in shown) == (left_out is not None)
    assert left_out is None or f"no room for: {left_out}" in shown


def test_values_in_large_units_have_six_digits_and_no_noise(tmp_path):
    study = table(
        tmp_path, metric="mae", runs=[run("mse", 0, 218423.14159)],
        summary=[row("mse", 218423.14159, "baseline", low=217000.25, high=219000.75)],
        ladder=[rung("mse", "mse", True, None)], recommendation={"loss": "mse", "decision": "none", "why": "best"},
    )  # fmt: skip
    shown = str(study)
    assert "218423" in shown
    assert "217000 … 219001" in shown
    assert "218423." not in shown
