"""Generated pages are what the code generates."""

import re
import runpy
import warnings
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = runpy.run_path(str(DOCS / "generate_pages.py"))["PAGES"]


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name):
    assert (DOCS / name).read_text() == PAGES[name](), "run `make docs`"


def test_class_numbers_of_in_batch_negatives_train_and_rows_of_0_and_1_are_told():
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "choosing.md").read_text(), re.DOTALL)
    ran: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(code, ran)
    assert float(ran["held_out"]) > 0.9
    with pytest.warns(UserWarning, match="each row has one relevant item: pass its number"):
        exec(code.replace("torch.arange(64)", "torch.eye(64)"), ran)
    assert float(ran["held_out"]) < 0.5
