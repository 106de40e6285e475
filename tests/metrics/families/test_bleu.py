"""BLEU against sacrebleu, on random and degenerate sentences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import metricgrad as mg
from metricgrad.metrics.families.bleu import counts, value
from tasks.romanian_strings.bleu import text_bleu

sacrebleu = pytest.importorskip("sacrebleu")
METHODS = {"exp": ("exp", None), "add_k": ("add-k", 1), "none": ("none", None)}
END, UNKNOWN = 0, 1


def text(row, end):
    """Numbers as words, up to the end or padding."""
    stop = next((k for k, word in enumerate(row) if word == -1 or (end and word == END)), len(row))
    return " ".join(map(str, row[:stop]))


def oracle(said, wanted, smooth="exp", order=4):
    method, amount = METHODS[smooth]
    judge = sacrebleu.BLEU(
        tokenize="none", smooth_method=method, smooth_value=amount, max_ngram_order=order, force=True
    )
    return judge.corpus_score(said, [wanted]).score / 100


@st.composite
def sentences(draw, end):
    """Three score sets of one batch, with targets of many lengths, empty ones among them where they end."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, places, words = draw(st.integers(1, 6)), draw(st.integers(1, 9)), draw(st.integers(3, 7))
    targets = rng.integers(2, words, (n, places))
    for row in targets:
        length = rng.integers(0 if end else 1, places + 1)
        row[length:] = -1
        if end and length < places:
            row[length] = END
    scores = rng.normal(size=(3, n, places, words))
    right = rng.random((3, n, places)) < draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    scores[right & (targets >= 0)] = np.eye(words)[np.broadcast_to(targets, right.shape)[right & (targets >= 0)]] * 9
    return torch.tensor(scores), torch.tensor(targets)


@settings(deadline=None)
@given(sentences(end=True), st.sampled_from(list(METHODS)), st.integers(1, 5))
def test_it_is_sacrebleu_s_with_an_end(batch, smooth, order):
    stack, targets = batch
    found = mg.as_metric(f"bleu:end={END},smooth={smooth},order={order}", class_dim=-1).over(stack, targets)
    wanted = [text(row, True) for row in targets.tolist()]
    for scores, ours in zip(stack, found.tolist(), strict=True):
        said = [text(row, True) for row in scores.argmax(-1).tolist()]
        if not any(wanted):
            assert ours != ours
        else:
            assert ours == pytest.approx(oracle(said, wanted, smooth, order), abs=1e-9)


@settings(deadline=None)
@given(sentences(end=False))
def test_without_an_end_an_answer_is_as_long_as_its_reference(batch):
    stack, targets = batch
    found = mg.as_metric("bleu", class_dim=-1).over(stack, targets)
    wanted = [text(row, False) for row in targets.tolist()]
    for scores, ours in zip(stack, found.tolist(), strict=True):
        said = [text(row, False) for row in scores.argmax(-1).masked_fill(targets < 0, -1).tolist()]
        assert ours == pytest.approx(oracle(said, wanted), abs=1e-9)


def test_the_unknown_word_is_said_but_matches_nothing():
    targets = torch.tensor([[UNKNOWN, 2, 3, UNKNOWN, END]])
    scores = torch.nn.functional.one_hot(targets, 5).double()
    found = float(mg.as_metric("bleu:end=0,unknown=1", class_dim=-1)(scores, targets))
    assert found == pytest.approx(oracle(["? 2 3 ?"], ["x 2 3 y"]))
    assert float(mg.as_metric("bleu:end=0", class_dim=-1)(scores, targets)) == pytest.approx(1.0)


def test_a_mask_is_padding_and_scores_go_on_behind_it():
    targets = torch.tensor([[2, 3, 4, END, 2, 2], [2, 2, END, 3, 3, 3]])
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 3 + [False] * 3])
    padded = targets.masked_fill(~mask, -1)
    scores = torch.randn(2, 6, 5)
    metric = mg.as_metric("bleu:end=0")
    assert torch.equal(metric(scores, targets, mask=mask), metric(scores, padded))
    late = torch.nn.functional.one_hot(torch.tensor([[2, 3, 4, 2, 3, END], [2, 2, END, 3, 3, 3]]), 5).float()
    assert float(metric(late, padded)) == pytest.approx(oracle(["2 3 4 2 3", "2 2"], ["2 3 4", "2 2"]))


def test_it_is_a_function_of_sums_over_sentences():
    g = torch.Generator().manual_seed(0)
    said, targets = (torch.randint(1, 4, (8, 6), generator=g) for _ in range(2))
    sums = counts(said, targets)
    assert sums.shape == (8, 10)
    assert torch.equal(sums, torch.cat([counts(said[:3], targets[:3]), counts(said[3:], targets[3:])]))
    scores = torch.nn.functional.one_hot(said, 4).double()
    assert float(value(sums.sum(0))) == pytest.approx(float(mg.as_metric("bleu")(scores, targets)))


@pytest.mark.parametrize(
    ("spec", "shapes", "message"),
    [
        ("bleu", ((4, 5), (4,)), r"expected scores \(N, T, V\)"),
        ("bleu", ((4, 3, 5), (4, 4)), r"got \(4, 3, 5\) and \(4, 4\)"),
        ("bleu:order=0", None, "order=0"),
        ("bleu:smooth=floor", None, "smooth='floor'"),
        ("bleu:end=-1", None, "end=-1"),
    ],
)
def test_bad_input_names_the_remedy(spec, shapes, message):
    scores, targets = (torch.zeros(shape) for shape in shapes or ((1, 1, 1), (1, 1)))
    with pytest.raises(mg.MetricgradError, match=message):
        mg.as_metric(spec)(scores, targets)


@pytest.mark.parametrize(
    ("targets", "context", "message"),
    [
        ([[1, -1, 2]], {}, "after padding"),
        ([[1, 2, 7]], {}, "targets run to 7"),
        ([[1.0, 2.5, 1.0]], {}, "whole numbers"),
        ([[1, 2, 1]], {"groups": torch.zeros(1)}, "takes no 'groups'"),
        ([[1, 2, 1]], {"mask": torch.ones(1, 3)}, "mask has dtype"),
    ],
)
def test_bad_targets_name_the_remedy(targets, context, message):
    with pytest.raises(mg.MetricgradError, match=message):
        mg.as_metric("bleu")(torch.zeros(1, 3, 4), torch.tensor(targets), **context)


def test_bleu_of_text_is_sacrebleu_s():
    said, wanted = ["the cat sat on the mat .", "hello"], ["The cat sat on the mat.", "hello there"]
    assert text_bleu(said, wanted) == sacrebleu.corpus_bleu(said, [wanted]).score
    with pytest.raises(mg.MetricgradError, match="one for each"):
        text_bleu(said, wanted[:1])
