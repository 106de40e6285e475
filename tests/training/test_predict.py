"""What a result predicts: raw scores, labels with the threshold applied, probabilities."""

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import nn

import metricgrad as mg
from metricgrad.decisions import Identity
from metricgrad.training.outputs import labels_of, output_of, probabilities_of
from metricgrad.training.result import FitResult


def rare(outputs=1, n=400):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 5, generator=g)
    y = ((x[:, 0] + 0.7 * torch.randn(n, generator=g)) > 1.4).long()
    torch.manual_seed(0)
    return (x[: n // 2], y[: n // 2]), (x[n // 2 :], y[n // 2 :]), nn.Linear(5, outputs)


def quick(model, train, valid, **more):
    settings = {"loss": "cross_entropy", "lr": 0.05, "epochs": 4, "progress": False, "device": "cpu"} | more
    return mg.fit(model, train, valid, **settings)


@pytest.mark.parametrize("flat", [True, False])
def test_binary_labels_are_those_that_were_delivered(flat):
    train, valid, linear = rare()
    model = nn.Sequential(linear, nn.Flatten(0)) if flat else linear
    result = quick(model, train, valid, metric="f1", decision="threshold")
    x, y = valid
    raw = result.model(x).detach()
    assert result.threshold not in (None, 0.0)
    assert torch.equal(result.predict_scores(x), raw)
    assert torch.equal(result.predict_scores(valid), raw)
    labels = result.predict(x.numpy())
    assert labels.shape == y.shape
    assert labels.dtype == torch.int64
    assert f1_score(y, labels) == pytest.approx(result.evaluate(valid), abs=1e-6)
    assert f1_score(y, raw.flatten() > 0) == pytest.approx(result.valid_undecided, abs=1e-6)
    assert result.evaluate_both(valid) == (result.evaluate(valid), pytest.approx(result.valid_undecided))
    assert torch.equal(labels, (raw.flatten() > result.threshold).long())
    assert f1_score(y, raw.flatten() - result.threshold > result.threshold) != pytest.approx(result.evaluate(valid))
    torch.testing.assert_close(result.predict_proba(x), raw.flatten().sigmoid())


def test_classes_columns_and_values(tmp_path):
    train, valid, linear = rare(3)
    x, y = valid
    result = quick(linear, train, valid, metric="accuracy", out=tmp_path)
    assert accuracy_score(y, result.predict(x)) == pytest.approx(result.evaluate(valid))
    assert torch.equal(result.predict(x), result.decision(linear(x)).argmax(1))
    torch.testing.assert_close(result.predict_proba(x), linear(x).detach().softmax(1))
    again = mg.fit(linear, train, valid, metric="accuracy", loss="cross_entropy", lr=0.05, epochs=4, out=tmp_path)
    assert torch.equal(again.predict(x), result.predict(x))
    assert again.decision.described() == result.decision.described()
    assert (again.valid, again.valid_undecided) == (result.valid, result.valid_undecided)

    columns = [(part[0], torch.stack([part[1], 1 - part[1]], 1)) for part in (train, valid)]
    result = quick(rare(2)[2], *columns, metric="macro_f1")
    assert torch.equal(result.predict(x), (result.decision(result.predict_scores(x)) > 0).long())
    torch.testing.assert_close(result.predict_proba(x), result.predict_scores(x).sigmoid())

    sums = [(part[0], part[0].sum(1, keepdim=True)) for part in (train, valid)]
    for parts, loss in ((sums, "mse"), ([train, valid], "uniloss")):  # values that are all 0 and 1 are values too
        result = quick(rare()[2], *parts, metric="mse", loss=loss)
        assert torch.equal(result.predict(x), result.predict_scores(x)[:, 0])
        with pytest.raises(mg.MetricgradError, match="scores are of values, which have no probabilities"):
            result.predict_proba(x)


def test_maps_words_spans_and_embeddings():
    pck, bleu = mg.as_metric("pck"), mg.as_metric("bleu")
    maps = torch.zeros(2, 4, 5)
    maps[0, 3, 1] = maps[1, 0, 4] = 1.0
    assert output_of(pck, maps, torch.zeros(2, 2)) == "points"
    assert labels_of("points", maps, Identity(), pck).tolist() == [[1, 3], [4, 0]]
    assert float(pck(maps, labels_of("points", maps, Identity(), pck))) == 1.0
    words = torch.randn(3, 4, 7)
    assert output_of(bleu, words, torch.zeros(3, 4)) == "words"
    assert torch.equal(labels_of("words", words, Identity(), bleu), words.argmax(-1))
    spans, exact = torch.randn(6, 2, 5), mg.as_metric("exact_match")
    assert output_of(exact, spans, torch.zeros(6, 2)) == "spans"
    assert float(exact(spans, labels_of("spans", spans, Identity(), exact))) == 1.0
    torch.testing.assert_close(probabilities_of("spans", spans).sum(-1), torch.ones(6, 2))
    nearest = mg.as_metric("map_at_r")
    assert output_of(nearest, torch.randn(4, 2), torch.zeros(4)) == "embeddings"
    with pytest.raises(mg.MetricgradError, match="makes embeddings"):
        labels_of("embeddings", torch.randn(4, 2), Identity(), nearest)


def test_a_result_made_by_hand_asks_what_its_scores_are_of():
    result = FitResult(nn.Linear(4, 3), mg.as_metric("accuracy"))
    with pytest.raises(mg.MetricgradError, match=r"result\.output = "):
        result.predict(torch.randn(2, 4))
    result.output = "classes"
    assert result.predict(torch.randn(2, 4)).shape == (2,)


def test_children_predict_too():
    train, valid, linear = rare(2)
    result = quick(linear, train, valid, metric="accuracy", loss=mg.ALA("accuracy", num_outputs=2), children=2)
    assert accuracy_score(valid[1], result.predict(valid[0])) == pytest.approx(result.evaluate(valid))
    assert {one.output for one in result.population.results} == {"classes"}
