"""Diagnosis of stored predictions: the same numbers as mismatch, a picture, and one-line errors."""

import json
import sys

import pytest
import torch

import metricgrad as mg
from metricgrad.cli.main import main
from metricgrad.comparison.diagnose import diagnose, read_predictions
from metricgrad.losses.baselines.cross_entropy import CrossEntropy


def _write(path, header, rows):
    path.write_text("\n".join([",".join(header), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def _classes(folder):
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (200,), generator=g)
    scores = torch.randn(200, 3, generator=g, dtype=torch.float64) + 2 * torch.nn.functional.one_hot(targets, 3)
    rows = [[t, "note", *row] for t, row in zip(targets.tolist(), scores.tolist(), strict=True)]
    return _write(folder / "p.csv", ["target", "comment", "score_0", "score_1", "score_2"], rows), scores, targets


def test_it_is_mismatch_and_draws_a_picture(tmp_path):
    path, scores, targets = _classes(tmp_path)
    read = read_predictions(path)
    assert torch.equal(read[0], scores)
    assert torch.equal(read[1], targets)
    found = diagnose(path, "macro_f1", ["cross_entropy", "focal"], out=tmp_path / "new" / "d.png")
    assert found.agreements["cross_entropy"] == mg.mismatch(CrossEntropy(), "macro_f1", scores, targets)
    assert set(found.losses) == {"cross_entropy", "focal"}
    assert (tmp_path / "new" / "d.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_one_score_a_row_is_binary_or_regression(tmp_path):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(100, generator=g)
    noisy = (scores + torch.randn(100, generator=g)).tolist()
    path = _write(tmp_path / "r.csv", ["score", "target"], zip(scores.tolist(), noisy, strict=True))
    found = diagnose(path, "mae", out=None)
    assert list(found.agreements) == ["mse"]
    assert found.agreements["mse"].value > 0.7
    labels = [int(x > 0) for x in noisy]
    path = _write(tmp_path / "b.csv", ["score", "target"], zip(scores.tolist(), labels, strict=True))
    assert list(diagnose(path, "auroc", out=None).agreements) == ["cross_entropy"]


@pytest.mark.parametrize("classes", [False, True])
def test_what_looks_like_probabilities_is_said_once_with_the_option_to_pass(tmp_path, recwarn, classes):
    path, scores, targets = _classes(tmp_path)
    rows = scores.softmax(1).tolist() if classes else [[p] for p in scores[:, 0].sigmoid().tolist()]
    told = targets.tolist() if classes else (targets == 0).long().tolist()
    names = ["score_0", "score_1", "score_2"] if classes else ["score"]
    path = _write(tmp_path / "p.csv", ["target", *names], [[t, *row] for t, row in zip(told, rows, strict=True)])
    metric = "macro_f1" if classes else "f1"
    diagnose(path, metric, ["cross_entropy", "focal"], out=None)
    (said,) = [str(one.message) for one in recwarn if "from 0 to 1" in str(one.message)]
    assert "pass --probabilities" in said
    assert "logit(p)" not in said
    recwarn.clear()
    diagnose(path, metric, ["cross_entropy"], probabilities=True, out=None)
    assert not [one for one in recwarn if "probabilities" in str(one.message)]


def test_probabilities_are_turned_into_the_logits_they_come_from(tmp_path):
    path, scores, targets = _classes(tmp_path)
    expected = diagnose(path, "macro_f1", ["cross_entropy", "focal"], out=None)
    rows = [[t, *row] for t, row in zip(targets.tolist(), scores.softmax(1).tolist(), strict=True)]
    path = _write(tmp_path / "p.csv", ["target", "score_0", "score_1", "score_2"], rows)
    found = diagnose(path, "macro_f1", ["cross_entropy", "focal"], probabilities=True, out=None)
    for name, values in expected.losses.items():
        torch.testing.assert_close(found.losses[name], values)
    one = scores[:, 0] - 1
    yes = (targets == 0).long().tolist()
    raw = _write(tmp_path / "raw.csv", ["target", "score"], zip(yes, one.tolist(), strict=True))
    sure = _write(tmp_path / "sure.csv", ["target", "score"], zip(yes, one.sigmoid().tolist(), strict=True))
    expected, found = (diagnose(each, "f1", probabilities=each is sure, out=None) for each in (raw, sure))
    torch.testing.assert_close(found.losses["cross_entropy"], expected.losses["cross_entropy"])
    assert torch.equal(found.target_loss, expected.target_loss)
    for file, metric, words in (
        (raw, "f1", "row 0: not all from 0 to 1.*leave out --probabilities|row .*: not all from 0 to 1"),
        (_classes(tmp_path)[0], "accuracy", "not all from 0 to 1"),
        (_write(tmp_path / "s.csv", ["target", "score_0", "score_1"], [[0, 0.5, 0.2]] * 40), "accuracy", "sum to 1"),
        (_write(tmp_path / "v.csv", ["target", "score"], [[0.3, 0.5]] * 40), "mae", "is regression"),
    ):
        with pytest.raises(mg.MetricgradError, match=words):
            diagnose(file, metric, probabilities=True, out=None)


def _run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["metricgrad", "diagnose", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_the_command(capsys, monkeypatch, tmp_path):
    path, *_ = _classes(tmp_path)
    plot = tmp_path / "d.png"
    code, out, _ = _run(capsys, monkeypatch, path, "--metric", "accuracy", "--losses", "cross_entropy", "--out", plot)
    assert code == 0
    assert "cross_entropy" in out
    assert "200 rows" in out
    code, out, _ = _run(capsys, monkeypatch, path, "--metric", "accuracy", "--out", plot, "--json")
    assert code == 0
    assert 0 < json.loads(out)["losses"]["cross_entropy"]["value"] < 1


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        (["target", "value"], [[1, 2]], "expected target and either score"),
        (["target", "score", "score_0"], [[1, 2, 3]], "expected target and either score"),
        (["target", "score_0", "score_2"], [[1, 2, 3]], "score_0, score_1 and so on"),
        (["target", "score"], [[1, "high"]], "line 2"),
        (["target", "score"], [[1, "nan"]], "line 2"),
        (["target", "score"], [], "no rows"),
        (["target", "score"], [[1, 0.5]] * 10, "too few"),
        (["target", "score_0", "score_1"], [[2, 0.5, 0.1]] * 40, "not all classes 0 to 1"),
    ],
)
def test_errors_are_one_line(capsys, monkeypatch, tmp_path, header, rows, words):
    path = _write(tmp_path / "p.csv", header, rows)
    code, out, err = _run(capsys, monkeypatch, path, "--metric", "accuracy", "--out", tmp_path / "d.png")
    assert code == 2
    assert out == ""
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_a_file_that_is_not_there_and_a_loss_of_another_problem(capsys, monkeypatch, tmp_path):
    code, _, err = _run(capsys, monkeypatch, tmp_path / "none.csv", "--metric", "f1")
    assert code == 2
    assert "cannot read" in err
    path, *_ = _classes(tmp_path)
    code, _, err = _run(capsys, monkeypatch, path, "--metric", "accuracy", "--losses", "mse")
    assert code == 2
    assert "serves regression" in err


def test_embeddings_are_held_against_losses_of_embeddings_and_class_numbers_are_of_any_size(tmp_path):
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(240) % 12
    aims = torch.randn(12, 3, generator=generator)
    rows = [
        ",".join(map(str, [20 * int(target), *(aims[target] + torch.randn(3, generator=generator)).tolist()]))
        for target in targets
    ]
    path = tmp_path / "embeddings.csv"
    path.write_text("\n".join(["target,score_0,score_1,score_2", *rows]))
    found = diagnose(path, "map_at_r", ["triplet", "distance_margin"], blocks=60, out=None)
    assert found.agreements["triplet"].value > 0.3
    assert list(diagnose(path, "map_at_r", blocks=20, out=None).agreements) == ["triplet"]
    with pytest.raises(mg.MetricgradError, match="is retrieval"):
        diagnose(path, "map_at_r", ["cross_entropy"], out=None)


@pytest.mark.parametrize("width", [3, 7])  # with 3 both last axes could be the classes
def test_a_mismatch_is_the_same_wherever_the_classes_are(width):
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (60, 4, width), generator=g)
    scores = torch.randn(60, 4, width, 3, generator=g) + torch.nn.functional.one_hot(targets, 3)
    for make in (lambda metric: torch.nn.CrossEntropyLoss(), lambda metric: mg.UniLoss(metric, anchored=False)):
        first, last = (mg.as_metric("mean_iou", class_dim=axis, ignore_index=255) for axis in (1, -1))
        found = mg.mismatch(make(first), first, scores.movedim(-1, 1), targets, block=16, blocks=40)
        assert found == mg.mismatch(make(last), last, scores, targets, block=16, blocks=40)
    holes = targets.masked_fill(torch.rand(targets.shape, generator=g) < 0.1, 255)
    kept = holes != 255
    found = mg.mismatch(torch.nn.CrossEntropyLoss(), first, scores.movedim(-1, 1), holes)
    assert found == mg.mismatch(torch.nn.CrossEntropyLoss(), "mean_iou", scores[kept], holes[kept])
