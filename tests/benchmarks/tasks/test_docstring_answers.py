"""The span task: a draw by modules, a reader that ignores padding, and the losses that serve it."""

import pytest
import torch

import metricgrad as mg
from metricgrad.losses.networks.spans import SpanNetwork
from metricgrad.training.fit import fit
from metricgrad.training.reloss_of_task import fitted_on_training
from tasks.docstring_answers.model import BELOW, SpanReader
from tasks.docstring_answers.task import (
    QUESTION_WORDS,
    SIZES,
    docstring_answers,
    read_docstring_questions,
    split_articles,
)


@pytest.fixture(scope="module")
def data():
    return read_docstring_questions()


def test_no_passage_is_in_two_parts_and_draws_follow_the_seed(data):
    task = docstring_answers
    parts = task.load(0)
    assert tuple(len(targets) for _, targets in parts) == SIZES
    passages = [{row.numpy().tobytes() for row in inputs[:, QUESTION_WORDS:]} for inputs, _ in parts]
    assert all(len(part) > 100 for part in passages)
    shared = [len(passages[a] & passages[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert max(shared) == 0
    again, other = task.load(0), task.load(1)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(parts, again, strict=True))
    assert not torch.equal(parts[0][0], other[0][0])
    assert len(split_articles(data, 0, (30, 20, 10)).train[1]) == 30


def test_the_model_scores_words_and_never_padding():
    torch.manual_seed(0)
    inputs = torch.randint(1, 500, (5, 4 + 9, 4))
    inputs[2, 4 + 6 :] = 0
    model = SpanReader(4).eval()
    scores = model(inputs)
    assert scores.shape == (5, 2, 9)
    assert torch.allclose(scores[2, :, 6:], scores[2, :, :6].amin(1, keepdim=True) - BELOW)
    alone = model(inputs[2:3, : 4 + 6])
    assert torch.allclose(alone[0], scores[2, :, :6], atol=1e-5)
    assert bool(scores.isfinite().all())
    with pytest.raises(mg.MetricgradError, match="hashed words"):
        model(inputs[:, :4])


def small(data):
    return split_articles(data, 3, (320, 160, 160))


def test_the_task_trains(data):
    train, valid, _ = small(data)
    torch.manual_seed(0)
    task = docstring_answers
    result = fit(
        task.model(), train, valid, metric="span_f1", loss="cross_entropy", lr=1e-2, epochs=4, batch_size=32,
        progress=False,
    )  # fmt: skip
    assert result.history[0]["valid"] < result.valid
    assert result.valid > 0.35


def test_reloss_fits_a_span_network_to_the_task(data):
    train, _, test = small(data)
    task = docstring_answers
    loss = fitted_on_training(mg.as_metric("span_f1"), task.model, train, batch_size=16, seed=0, steps=40, values=16)
    assert isinstance(loss.form, SpanNetwork)
    report = loss.report()
    assert report["correlation"]["value"] > 0.7
    scores = torch.zeros(len(test[1]), 2, 90).requires_grad_()
    loss(scores, test[1]).backward()
    slopes = scores.grad.gather(2, test[1][..., None])
    assert bool((slopes < 0).all())


@pytest.mark.filterwarnings("ignore:this surrogate does not rank")  # six steps are for the path, not the result
@pytest.mark.parametrize("paper", [False, True])
def test_flipped_answers_are_whole_answers(paper):
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(12, (200, 2), generator=g).sort(1).values
    scores = torch.randn(200, 2, 12, generator=g)
    scores = scores + 4 * torch.nn.functional.one_hot(targets, 12) * torch.rand(200, 1, 1, generator=g)
    options = {"values": 8, "block": 16} if not paper else {}
    loss = mg.ReLoss.fit("span_f1", scores, targets, steps=6, form=SpanNetwork(), paper=paper, **options)
    assert loss.report()["correlation"]["value"] > 0


def test_mismatch_reads_spans():
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(12, (300, 2), generator=g).sort(1).values
    scores = torch.randn(300, 2, 12, generator=g) + 2 * torch.nn.functional.one_hot(targets, 12)

    def standard(scores, targets):  # as torch's own losses: classes second
        return torch.nn.functional.cross_entropy(scores, targets)

    found = mg.mismatch(standard, "span_f1", scores, targets)
    assert 0.3 < found.value < 1
