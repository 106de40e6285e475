"""Span metrics against SQuAD's own scoring written out, and decoding against all pairs."""

import re
import string
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import metricgrad as mg
from metricgrad.metrics.families.spans import best_spans


def batch(n=20, length=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, length, generator=g), torch.randint(length, (n, 2), generator=g).sort(1).values


def normalised(text):
    text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def official_f1(prediction, truth):
    found, true = normalised(prediction).split(), normalised(truth).split()
    same = sum((Counter(found) & Counter(true)).values())
    if not same:
        return 0.0
    precision, recall = same / len(found), same / len(true)
    return 2 * precision * recall / (precision + recall)


def all_pairs(scores, most):
    """The best span of one passage by trying all, the first of equals."""
    length = scores.shape[1]
    pairs = [(i, j) for i in range(length) for j in range(i, min(length, i + most))]
    return max(pairs, key=lambda pair: float(scores[0, pair[0]] + scores[1, pair[1]]))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 14), st.one_of(st.none(), st.integers(1, 16)), st.integers(0, 10_000), st.booleans())
def test_decoding_is_the_best_of_all_ordered_pairs(length, most, seed, ties):
    scores, _ = batch(6, length, seed)
    if ties:
        scores = scores.round()
    found = best_spans(scores, most)
    assert found.tolist() == [list(all_pairs(row, most or length)) for row in scores]
    assert torch.equal(best_spans(scores[None].expand(3, -1, -1, -1), most), found.expand(3, -1, -1))


@pytest.mark.parametrize("most", [None, 3])
def test_f1_and_exact_match_are_the_official_ones_where_no_word_repeats(most):
    scores, targets = batch(200)
    scores = scores + 2 * torch.nn.functional.one_hot(targets, 12)
    words = [f"w{i}" for i in range(scores.shape[2])]
    spec = "" if most is None else f":max_length={most}"
    texts = [
        tuple(" ".join(words[a : b + 1]) for a, b in (all_pairs(row, most or 12), target.tolist()))
        for row, target in zip(scores, targets, strict=True)
    ]
    expected = sum(official_f1(*pair) for pair in texts) / len(texts)
    assert float(mg.as_metric("span_f1" + spec)(scores, targets)) == pytest.approx(expected, abs=1e-6)
    exact = sum(normalised(found) == normalised(true) for found, true in texts) / len(texts)
    assert float(mg.as_metric("exact_match" + spec)(scores, targets)) == pytest.approx(exact, abs=1e-6)
    assert 0 < exact < expected < 1


def test_words_in_a_wrong_place_do_not_count():
    scores = torch.zeros(1, 2, 4)
    scores[0, :, 3] = 5
    assert official_f1("seine", "seine") == 1  # of "seine near the seine", the last word for the first
    assert float(mg.as_metric("span_f1")(scores, torch.tensor([[0, 0]]))) == 0


def test_a_mask_leaves_passages_out():
    scores, targets = batch()
    mask = torch.arange(20) % 3 > 0
    for name in ("span_f1", "exact_match"):
        metric = mg.as_metric(name)
        assert metric(scores, targets, mask=mask) == metric(scores[mask], targets[mask])
        assert metric(scores, targets, mask=torch.zeros(20, dtype=torch.bool)).isnan()


def test_wrong_input_is_named():
    scores, targets = batch()
    f1 = mg.as_metric("span_f1")
    for wrong in (scores[:, :1], scores[:, 0], scores.transpose(1, 2)):
        with pytest.raises(mg.MetricgradError, match=r"expected scores \(N, 2, L\)"):
            f1(wrong, targets)
    with pytest.raises(mg.MetricgradError, match="ends before it starts"):
        f1(scores, targets.flip(1))
    with pytest.raises(mg.MetricgradError, match="0 to 11"):
        f1(scores, targets + 12)
    with pytest.raises(mg.MetricgradError, match="0 to 11"):
        f1(scores, targets + 0.5)
    with pytest.raises(mg.MetricgradError, match="mask has shape \(20, 2\)"):
        f1(scores, targets, mask=targets > 0)
    with pytest.raises(mg.MetricgradError, match="takes no 'groups'"):
        f1(scores, targets, groups=targets[:, 0])
    with pytest.raises(mg.MetricgradError, match=r"scores\.float"):
        f1(scores.long(), targets)
    with pytest.raises(mg.MetricgradError, match="max_length"):
        mg.as_metric("span_f1:max_length=0")
