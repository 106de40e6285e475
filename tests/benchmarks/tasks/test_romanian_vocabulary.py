"""Words, their numbers, and strings again."""

import pytest
import torch

import metricgrad as mg
from tasks.romanian_strings.vocabulary import END, UNKNOWN, Vocabulary, detokenise, tokenise


@pytest.mark.parametrize("text", ["save (now)?", "asigurați-vă că e „bold”, da.", "50 % of [it]", "v2.1: file's name"])
def test_words_and_back(text):
    assert detokenise(tokenise(text)) == text


def test_numbers_and_back():
    known = Vocabulary([["a", "b", "c"], ["a", "b"], ["a"]], size=4)
    assert (len(known), known.words) == (4, ["a", "b"])
    rows = known.encode([["b", "c", "a"], [], ["a", "b", "a", "b"]], length=3)
    assert rows.tolist() == [[3, UNKNOWN, 2], [END, -1, -1], [2, 3, 2]]
    assert known.decode(rows) == ["b ⁇ a", "", "a b a"]
    assert known.decode(torch.tensor([[2, 3, 99]])) == ["a b ⁇"]
    assert known.encode([], length=3).shape == (0, 3)


def test_equally_frequent_words_do_not_depend_on_their_order():
    assert Vocabulary([["b", "a", "c"]], size=4).words == Vocabulary([["c", "b", "a"]], size=4).words == ["a", "b"]
    with pytest.raises(mg.MetricgradError, match="size is 2"):
        Vocabulary([["a"]], size=2)
