"""Retrieval tasks: disjoint classes, seeded draws, glyphs from a file or from fonts, a comparison end to end."""

from pathlib import Path

import numpy as np
import pytest
import torch

import metricgrad as mg
import tasks.glyph_fonts.task as font_task
from metricgrad.tasks import digits_retrieval as retrieval
from metricgrad.tasks.digits import read_digits
from metricgrad.tasks.registry import get_task
from metricgrad.training.balanced import ClassBalanced
from tasks.glyph_fonts.data import VARIABLE, draw_fonts, read_glyphs
from tasks.glyph_fonts.task import glyphs_fonts


def _classes(part):
    return set(part[1].tolist())


@pytest.fixture(name="glyphs")
def _glyphs(tmp_path, monkeypatch):
    """A file of 12 fonts whose glyphs differ by a pattern of the font's own."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 120, (12, 28, 28))
    fonts = np.repeat(np.arange(12), 15)
    images = (patterns[fonts] + rng.integers(0, 120, (180, 28, 28))).astype(np.uint8)
    path = tmp_path / "glyphs.npz"
    np.savez(path, X=images, y=np.tile(np.arange(15), 12), font=fonts * 7)
    monkeypatch.setenv(VARIABLE, str(path))
    font_task._glyphs.cache_clear()
    yield path
    font_task._glyphs.cache_clear()


def test_digits_keep_test_classes_out_of_training_and_validation():
    task = get_task("digits-retrieval")
    train, valid, test = task.load(0)
    assert _classes(train) == set(range(6))
    assert _classes(valid) == {d + 10 for d in range(6)}
    assert _classes(test) == {6, 7, 8, 9}
    known = len(train[1]) + len(valid[1])
    assert known == sum(int((read_digits()[1] == d).sum()) for d in range(6))
    assert len(train[1]) / known == pytest.approx(0.8, abs=1e-3)
    # validation is in the mirror: no row of it is a row of the data, and each is once it is turned back
    rows = {tuple(row) for row in read_digits()[0].tolist()}
    raw = (valid[0] - valid[0].min()) / (valid[0].max() - valid[0].min()) * 16
    back = raw.unflatten(1, (8, 8)).flip(2).flatten(1)
    assert all(tuple(row) in rows for row in back.round().tolist())
    assert sum(tuple(row) in rows for row in raw.round().tolist()) == 0


def test_digits_are_drawn_by_seed():
    task = get_task("digits-retrieval")
    first, again, other = (task.load(seed)[2] for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    torch.manual_seed(0)
    assert task.model()(first[0]).shape == (len(first[0]), retrieval.WIDTH)
    assert task.standard == "triplet"


def test_fonts_of_the_parts_are_disjoint(glyphs):
    task = glyphs_fonts
    parts = task.load(3)
    fonts = [_classes(part) for part in parts]
    assert [len(f) for f in fonts] == [6, 2, 4]
    assert len(set.union(*fonts)) == 12
    assert all(len(x) == 15 * len(f) for (x, _), f in zip(parts, fonts, strict=True))
    assert not torch.equal(parts[0][1], task.load(4)[0][1])
    assert task.model()(parts[0][0]).shape == (90, 32)


def test_glyphs_that_are_not_there_say_where_they_come_from(tmp_path, monkeypatch):
    with pytest.raises(mg.MetricgradError, match="fonts-aenigma"):
        read_glyphs(tmp_path / "none.npz")
    with pytest.raises(mg.MetricgradError, match="no glyphs could be drawn"):
        read_glyphs(tmp_path)
    other = tmp_path / "other.npz"
    np.savez(other, X=np.zeros((3, 28, 28), np.uint8))
    with pytest.raises(mg.MetricgradError, match="cannot be read as glyphs"):
        read_glyphs(other)
    np.savez(other, X=np.zeros((3, 28, 28)), y=np.zeros(3), font=np.zeros(3))
    with pytest.raises(mg.MetricgradError, match="float64"):
        read_glyphs(other)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(mg.MetricgradError, match=VARIABLE):
        read_glyphs()


def test_fonts_are_drawn_where_there_is_no_file():
    pytest.importorskip("PIL")
    matplotlib = pytest.importorskip("matplotlib")
    images, characters, fonts = draw_fonts(Path(matplotlib.get_data_path()) / "fonts" / "ttf")
    assert images.shape[1:] == (28, 28)
    assert images.dtype == np.uint8
    assert set(fonts.tolist()) == set(range(int(fonts.max()) + 1))
    assert len(set(characters.tolist())) == 62
    assert images.reshape(len(images), -1).max(1).min() > 100
    # the margin is left free: nothing is cut off
    assert images[:, 0].max() < 60
    assert images[:, :, -1].max() < 60
    one = images[fonts == 0]
    assert len({image.tobytes() for image in one}) == len(one)


@pytest.mark.parametrize("task", [get_task("digits-retrieval"), glyphs_fonts], ids=lambda task: task.name)
def test_a_comparison_runs_from_end_to_end(task, glyphs, tmp_path):
    small = mg.Task(
        task.name, model=task.model, load=task.load, metric=task.metric, kind="retrieval", epochs=2,
        batch_size=16, per_class=4, device="cpu",
    )  # fmt: skip
    table = mg.compare(small, losses=["uniloss", "triplet"], trials=1, seeds=2, out=tmp_path / "out", progress=False)
    assert {run["loss"] for run in table.runs} >= {"uniloss", "triplet"}
    assert all(0 < run["test"] <= 1 for run in table.runs)


def test_a_loss_of_classes_does_not_serve():
    with pytest.raises(mg.MetricgradError, match="its standard loss is 'triplet'"):
        get_task("digits-retrieval").check_loss("cross_entropy")


@pytest.mark.parametrize("metric", ["retrieval_recall:k=1", "map_at_r"])
def test_uniloss_learns_embeddings_of_digits_it_never_saw(metric):
    """Trained on the digits 0 to 5, recall@1 of 6 to 9 rises over that of the untrained network, over three seeds."""
    recall = mg.as_metric("retrieval_recall:k=1")
    before, after = [], []
    for seed in range(3):
        train, _, test = get_task("digits-retrieval").load(seed)
        torch.manual_seed(seed)
        model = get_task("digits-retrieval").model()
        loss, optimizer = mg.UniLoss(metric), torch.optim.AdamW(model.parameters(), lr=3e-3)
        batches = ClassBalanced(train[1], classes=6, per_class=10, batches=30, seed=seed)
        with torch.no_grad():
            before.append(float(recall(model(test[0]), test[1])))
        values = []
        for rows in batches:
            optimizer.zero_grad()
            value = loss(model(train[0][rows]), train[1][rows])
            value.backward()
            optimizer.step()
            values.append(float(value.detach()))
        assert min(values) >= 0
        assert sum(values[-5:]) < sum(values[:5])
        with torch.no_grad():
            after.append(float(recall(model(test[0]), test[1])))
    # unseen digits are a lottery for so small an embedding: what it gains varies more over seeds than over losses
    assert sum(after) / 3 > sum(before) / 3 + 0.02
