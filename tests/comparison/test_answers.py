"""From ``predict`` to ``diagnose``: answers with the true labels beside them."""

import pandas as pd
import pytest
import torch

import metricgrad as mg
from metricgrad.comparison.answers import read_answers
from metricgrad.comparison.diagnose import diagnose
from metricgrad.tables.answers import answer_file
from tests.tables.test_model import trained


def answers(folder, kind):
    """A table's model, its rows, and what it says of them."""
    frame, model = trained(kind)
    target = model.schema.target.name
    frame.to_csv(folder / "table.csv", index=False)
    answer_file(model, folder / "table.csv", folder / "answers.csv", keep=[target])
    return frame, model, target


@pytest.mark.parametrize(
    ("kind", "loss"), [("binary", "focal"), ("multiclass", "cross_entropy"), ("regression", "mae")]
)
def test_what_predict_wrote_is_diagnosed_as_the_scores_are(tmp_path, kind, loss):
    frame, model, target = answers(tmp_path, kind)
    classes = model.schema.target.classes
    targets = torch.tensor([classes.index(str(value)) if classes else value for value in frame[target]])
    scores = model.scores(frame) if classes else torch.from_numpy(model.predict(frame))
    by_hand = {"target": targets} | (
        {f"score_{n}": column for n, column in enumerate(scores.T)} if scores.ndim == 2 else {"score": scores}
    )
    pd.DataFrame({name: column.numpy() for name, column in by_hand.items()}).to_csv(tmp_path / "scores.csv")
    metric = {"binary": "average_precision", "multiclass": "macro_f1", "regression": "mae"}[kind]
    options = {"block": 20, "blocks": 50, "out": None}
    expected = diagnose(tmp_path / "scores.csv", metric, [loss], **options)
    found = diagnose(tmp_path / "answers.csv", metric, [loss], target=target, **options)
    torch.testing.assert_close(found.target_loss, expected.target_loss, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.losses[loss], expected.losses[loss], rtol=1e-3, atol=1e-4)


def test_classes_are_those_of_the_columns(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("row,label,p_0,p_1,left\n1,0,0.75,0.25,1.0\n2,1,0.5,0.5,0\n", "utf-8")
    scores, targets = read_answers(path, "left")
    assert scores.tolist() == [0.25, 0.5]
    assert targets.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "row,label,p_no,p_yes,lef\n",
            r"no column 'left', which `metricgrad predict --keep` writes .* did you mean lef",
        ),
        ("row,label,p_no,p_yes,left\n", "has no rows"),
        ("row,label,p_no,p_yes,left\n1,no,0.5,0.5,\n", "line 2: 'left' is not one of no, yes; mend the row"),
        ("row,label,p_no,p_yes,left\n1,no,0.5,x,no\n", "line 2: 'p_yes' is not a finite number"),
        ("row,value,left\n1,2.5,nan\n", "line 2: 'left' is not a finite number"),
        ("row,left\n1,no\n", "expected what `metricgrad predict` writes"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, message):
    (tmp_path / "answers.csv").write_text(text, "utf-8")
    with pytest.raises(mg.MetricgradError, match=message):
        diagnose(tmp_path / "answers.csv", "f1", target="left", out=None)


def test_a_metric_that_no_block_moves_is_said(tmp_path):
    rows = "".join(f"{n},no,0.{9 - n % 3},0.{1 + n % 3},{'yes' if n % 5 == 0 else 'no'}\n" for n in range(60))
    (tmp_path / "answers.csv").write_text("row,label,p_no,p_yes,left\n" + rows, "utf-8")
    with pytest.warns(UserWarning, match="f1 is 0 on each of the 30 blocks, .* larger blocks, or a metric"):
        diagnose(tmp_path / "answers.csv", "f1", target="left", block=20, blocks=30, out=None)


def test_a_file_of_answers_without_its_target_is_told_of_it(tmp_path):
    answers(tmp_path, "binary")
    with pytest.raises(mg.MetricgradError, match="name the column of true labels: --target"):
        diagnose(tmp_path / "answers.csv", "f1", out=None)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_answers_in_parquet_are_read_as_those_in_csv(tmp_path, kind):
    _, model, target = answers(tmp_path, kind)
    answer_file(model, tmp_path / "table.csv", tmp_path / "answers.parquet", keep=[target])
    pairs = (read_answers(tmp_path / f"answers.{end}", target) for end in ("parquet", "csv"))
    for ours, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    frame = pd.read_parquet(tmp_path / "answers.parquet")
    frame[target] = frame[target].astype(object).where(frame.index != 1)
    frame.to_parquet(tmp_path / "answers.parquet")
    with pytest.raises(mg.MetricgradError, match=rf"answers.parquet, row 2: '{target}' is not"):
        read_answers(tmp_path / "answers.parquet", target)
