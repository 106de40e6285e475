"""``metricgrad report``: a finished study again, quickly, from its folder alone."""

import json
import subprocess
import sys

from tests.cli.test_table_options import run  # noqa: F401  (a fixture)
from tests.comparison.report.studies import write


def test_a_finished_study_is_printed_and_written_again(run, tmp_path):  # noqa: F811
    write(tmp_path)
    code, out, err = run("report", str(tmp_path))
    assert (code, err) == (0, "")
    assert "recommended: uniloss, decision threshold" in out
    assert f"report: {tmp_path}/report.html" in out
    assert (tmp_path / "report.md").read_text().startswith("# Train with uniloss")
    code, out, _ = run("report", str(tmp_path), "--json")
    assert json.loads(out)["recommendation"]["loss"] == "uniloss"


def test_where_there_is_none_it_is_one_line(run, tmp_path):  # noqa: F811
    code, out, err = run("report", str(tmp_path / "gone"))
    assert (code, out) == (2, "")
    assert "holds no finished study" in err
    assert len(err.splitlines()) == 1


def test_nothing_that_trains_is_imported_for_it(tmp_path):
    write(tmp_path)
    program = (
        "import sys; from metricgrad.comparison.report.page import write_report; write_report(sys.argv[1]); "
        "print(sorted({'lightning', 'sklearn', 'pandas', 'scipy', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
