"""SQuAD's layout: offsets in characters become words, and what is not in the layout is refused."""

import json

import pytest
import torch

import metricgrad as mg
from tasks.docstring_answers.squad import parse_squad, read_squad
from tasks.docstring_answers.words import PIECES, WORDS, features_of, words_of

CONTEXT = "The Seine, 777 km long, rises near Dijon; it's the river of Paris."


def question(text, name="q", context=CONTEXT, **more):
    return {"id": name, "question": f"where {name}?", "answers": [{"text": text, "answer_start": context.index(text)}],
            **more}  # fmt: skip


def layout(*questions, context=CONTEXT, title="Seine"):
    return {"version": "1.1", "data": [{"title": title, "paragraphs": [{"context": context, "qas": [*questions]}]}]}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_character_offsets_become_words(tmp_path):
    answers = ["Seine", "777 km long", "Paris.", "The", "it's", "eine, 7"]
    file = write(tmp_path / "s.json", layout(*(question(a, f"q{i}") for i, a in enumerate(answers))))
    data = read_squad(file, passage_words=20, question_words=3)
    words = [word for word, _, _ in words_of(CONTEXT)]
    found = [words[a : b + 1] for a, b in data.positions.tolist()]
    assert found[:3] == [["Seine"], ["777", "km", "long"], ["Paris", "."]]
    assert found[3:5] == [["The"], ["it", "'", "s"]]
    assert found[5] == ["Seine", ",", "777"]  # whole words
    assert data.questions.shape == (6, 3, 4)
    assert data.passages.shape == (6, 20, 4)
    assert torch.equal(data.mask.sum(1), torch.full((6,), len(words)))
    assert torch.equal(data.passages[0, : len(words)], torch.tensor([features_of(word) for word in words]))
    assert not data.passages[0, len(words) :].any()
    assert data.ids == ("q0", "q1", "q2", "q3", "q4", "q5")
    assert len(data) == 6


def test_what_cannot_be_used_is_left_out_and_counted():
    impossible = {"id": "no", "question": "who?", "answers": [], "is_impossible": True, "plausible_answers": []}
    empty = {"id": "none", "question": "who?", "answers": []}
    content = layout(question("Seine"), question("Paris", "late"), impossible, empty)
    content["data"] += layout(question("Dijon"), title="another")["data"]
    data = parse_squad(content, passage_words=12)
    assert (len(data), data.unanswerable, data.beyond) == (2, 2, 1)
    assert data.titles == ("Seine", "another")
    assert data.articles.tolist() == [0, 1]
    assert bool(data.mask.all())  # the passage is cut where it is longer
    assert len(parse_squad(content, limit=1)) == 1


def test_of_several_answers_the_first_is_taken():
    several = question("Paris")
    several["answers"] += question("river of Paris")["answers"]
    one, first = parse_squad(layout(several)), parse_squad(layout(question("Paris")))
    assert torch.equal(one.positions, first.positions)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "no list 'data'"),
        ({"data": [{"title": "a"}]}, "not in SQuAD's layout .*paragraphs"),
        (layout({"id": "q", "question": "?"}), "not in SQuAD's layout .*answers"),
        (layout({"id": "q7", "question": "?", "answers": [{"text": "Seine", "answer_start": 3}]}), "'q7'.*character 3"),
        (layout({"id": "q7", "question": "?", "answers": [{"text": " ", "answer_start": 3}]}), "holds no word"),
        (layout(), "no question that can be used"),
    ],
)
def test_another_layout_is_refused(tmp_path, content, message):
    with pytest.raises(mg.MetricgradError, match=message):
        read_squad(write(tmp_path / "s.json", content))


def test_missing_and_torn_files(tmp_path):
    with pytest.raises(mg.MetricgradError, match="cannot be read"):
        read_squad(tmp_path / "absent.json")
    (tmp_path / "torn.json").write_text('{"data": [')
    with pytest.raises(mg.MetricgradError, match="is no JSON"):
        read_squad(tmp_path / "torn.json")
    with pytest.raises(mg.MetricgradError, match="passage_words"):
        parse_squad(layout(question("Seine")), passage_words=0)


def test_words_are_hashed_into_their_tables():
    assert features_of("Paris")[0] == features_of("paris")[0]
    assert features_of("Paris")[3] != features_of("paris")[3]
    assert features_of("random_state")[1] == features_of("ranking")[1]
    for word in ("a", "n_jobs", "0.5", "é", "_"):
        first, *pieces = features_of(word)
        assert 1 <= first < WORDS
        assert all(1 <= piece < PIECES for piece in pieces)
