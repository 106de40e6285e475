"""The task of interface strings: parts that share no string, vocabularies of training words, a clear error without."""

import pytest
import torch

import metricgrad as mg
from tasks.romanian_strings import task as translation
from tasks.romanian_strings.data import VARIABLE
from tests.benchmarks.tasks.test_romanian_catalogues import write_mo

VERBS = {"open": "deschide", "close": "închide", "save": "salvează", "print": "tipărește", "edit": "editează"}
THINGS = {
    "file": "fișierul",
    "page": "pagina",
    "table": "tabelul",
    "line": "linia",
    "view": "vederea",
    "link": "legătura",
}


@pytest.fixture
def catalogues(tmp_path, monkeypatch):
    """Thirty regular strings, one that is too long, and one name."""
    messages = {f"~{v.title()} the {t}": f"{w.title()} {u}" for v, w in VERBS.items() for t, u in THINGS.items()}
    write_mo(tmp_path / "a.mo", {**messages, "one " * 12: "unu " * 12, "PDF": "PDF"})
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    translation._short.cache_clear()
    yield
    translation._short.cache_clear()


@pytest.mark.usefixtures("catalogues")
def test_parts_follow_the_seed_and_share_no_string():
    task = translation.strings_ro
    parts, again, other = task.load(0), task.load(0), task.load(1)
    assert all(torch.equal(a, b) for p, q in zip(parts, again, strict=True) for a, b in zip(p, q, strict=True))
    assert not torch.equal(parts[0][1], other[0][1])
    assert [tuple(part[0].shape) for part in parts] == [(18, 10), (6, 10), (6, 10)]
    drawn = translation.strings(0)
    references = [text for part in drawn.references for text in part]
    assert len(set(references)) == 30
    assert drawn.words.decode(parts[0][1]) == drawn.references[0]


@pytest.mark.usefixtures("catalogues")
def test_it_is_fitted_by_name_and_refuses_losses_of_other_problems():
    task = translation.strings_ro
    assert (task.kind, task.standard, task.judged_by().name) == ("tokens", "token_cross_entropy", translation.METRIC)
    torch.manual_seed(0)
    train, valid, _ = task.load(0)
    model = translation.NonAutoregressive(2000, 2000, length=10, width=16, layers=1, heads=2)
    for loss in ("token_cross_entropy:label_smoothing=0.1", "uniloss:warm_up=3"):
        found = mg.fit(model, train, valid, metric=task.metric, loss=loss, epochs=2, lr=1e-2, progress=False)
        assert 0 <= found.valid <= 1
    with pytest.raises(mg.MetricgradError, match="serves binary"):
        task.check_loss("cross_entropy")


def test_without_catalogues_the_task_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    translation._short.cache_clear()
    with pytest.raises(mg.MetricgradError, match="apt-get install libreoffice-l10n-ro"):
        translation.strings_ro.load(0)
