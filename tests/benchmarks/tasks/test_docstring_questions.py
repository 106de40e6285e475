"""Questions from numpydoc sections: every answer stands where it is said to, and none is asked twice."""

import sys

import pytest

import metricgrad as mg
from tasks.docstring_answers.data import docstring_questions, write_docstring_questions
from tasks.docstring_answers.squad import read_squad
from tasks.docstring_answers.words import words_of

SOURCE = '''
def one(alpha, beta=1.0):
    """Do one thing.

    Parameters
    ----------
    alpha : array-like of shape (n,)
        The first thing. And more
        of it.

        A second paragraph.
    beta : float, default=1.0
        How much
        of it.
    *args : tuple, optional

    Returns
    -------
    result : int
        Not a parameter.
    """


class Two:
    """Do another.

    Parameters
    ----------
    alpha : array-like of shape (n,)
        The first thing. And more of it.
    gamma : {'a', 'b'} (default: 'a')
        Which.

    """
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    for name in ("spanned", "bare"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "spanned" / "mod.py").write_text(SOURCE)
    (tmp_path / "spanned" / "tests").mkdir()
    (tmp_path / "spanned" / "tests" / "mod.py").write_text(SOURCE.replace("alpha", "delta"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tasks.docstring_answers.data._version", lambda name: "0")
    docstring_questions.cache_clear()
    yield "spanned"
    docstring_questions.cache_clear()
    for name in ("spanned", "bare"):
        sys.modules.pop(name, None)


def answers(content):
    return {
        qa["question"]: qa["answers"][0]["text"]
        for article in content["data"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]
    }  # fmt: skip


def test_type_default_and_first_sentence(package):
    content = docstring_questions((package,))
    assert [article["title"] for article in content["data"]] == ["spanned.mod"]
    assert answers(content) == {
        "What type is alpha?": "array-like of shape (n,)",
        "What does alpha say?": "The first thing.",
        "What type is beta?": "float",
        "What is the default of beta?": "1.0",
        "What does beta say?": "How much of it.",
        "What type is args?": "tuple",
        "What type is gamma?": "{'a', 'b'}",
        "What is the default of gamma?": "'a'",
        "What does gamma say?": "Which.",
    }
    contexts = [p["context"] for p in content["data"][0]["paragraphs"]]
    assert contexts[0].startswith("alpha : array-like of shape (n,) The first thing. And more of it. beta : float")
    assert contexts[1] == "gamma : {'a', 'b'} (default: 'a') Which."  # alpha reads as before


def test_the_file_goes_through_the_reader(package, tmp_path):
    count = write_docstring_questions(tmp_path / "s.json", [package])
    data = read_squad(tmp_path / "s.json")
    assert len(data) == count == 9
    assert data.titles == ("spanned.mod",)


def test_packages_that_have_nothing_are_named(package):
    with pytest.raises(mg.MetricgradError, match="'not_there' is not installed"):
        docstring_questions(("not_there",))
    with pytest.raises(mg.MetricgradError, match="'bare' has no numpydoc"):
        docstring_questions((package, "bare"))


def test_scikit_learn_has_thousands_of_answers_of_many_lengths():
    content = docstring_questions()
    lengths = []
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            assert len(words_of(paragraph["context"])) <= 90
            for qa in paragraph["qas"]:
                (answer,) = qa["answers"]
                assert paragraph["context"][answer["answer_start"] :].startswith(answer["text"])
                lengths.append(len(words_of(answer["text"])))
    assert len(lengths) > 3000
    assert sum(length == 1 for length in lengths) < 0.6 * len(lengths)
    assert max(lengths) > 30
