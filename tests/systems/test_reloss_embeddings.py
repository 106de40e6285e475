"""ReLoss for metrics of embeddings: it ranks blocks as the metric does, trains, and moves to other sizes."""

import warnings

import pytest
import torch

import metricgrad as mg
from metricgrad.aligners.fitting.rank_correlation import RankCorrelation
from metricgrad.losses.families.distance_mixture import DistanceMixture
from metricgrad.losses.networks.embeddings import EmbeddingNetwork
from metricgrad.tasks.mlp import mlp
from metricgrad.tasks.registry import get_task
from metricgrad.training.balanced import ClassBalanced

OPTIONS = {"block": 36, "per_class": 6, "steps": 16, "values": 8}


@pytest.fixture(scope="module", name="parts")
def _parts():
    return get_task("digits-retrieval").load(0)


def _train(loss, inputs, targets, steps, width=4):
    torch.manual_seed(0)
    model = mlp(64, width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for rows in ClassBalanced(targets, classes=6, per_class=6, batches=steps):
        optimizer.zero_grad()
        loss(model(inputs[rows]), targets[rows]).backward()
        optimizer.step()
        yield model, optimizer


@pytest.fixture(scope="module", name="recorded")
def _recorded(parts):
    """Embeddings of held-out rows while the triplet loss trains a model on the others."""
    inputs, targets = parts[0]
    steps = _train(mg.Loss(DistanceMixture()), inputs[:400], targets[:400], 64)
    model, optimizer = next(steps)
    with mg.record_scores(model, optimizer, [(inputs[400:], targets[400:])]) as recorded:
        for _ in steps:
            pass
    return recorded


@pytest.fixture(scope="module", name="fitted")
def _fitted(recorded):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pairs = recorded.scores, recorded.targets
        return mg.ReLoss.fit("retrieval_recall:k=1", *pairs, groups=recorded.moments, **OPTIONS)


def test_it_ranks_blocks_kept_apart_and_says_how_the_triplet_loss_does(fitted):
    report = fitted.report()
    assert isinstance(fitted.form, EmbeddingNetwork)
    assert report["correlation"]["value"] > 0.8
    assert report["correlation"]["value"] > report["standard"]["value"] > 0.2
    assert report["monotone"] > 0.7
    assert report["gradient_scale"] > 0


def test_mismatch_draws_blocks_of_one_model_too(fitted, recorded):
    pairs = {"groups": recorded.moments, "block": 36, "per_class": 6, "blocks": 60}
    ours, triplet = (
        mg.mismatch(loss, "retrieval_recall:k=1", recorded.scores, recorded.targets, **pairs).value
        for loss in (fitted, mg.Loss(DistanceMixture()))
    )
    assert ours > max(0.8, triplet)


@pytest.mark.parametrize("width", [4, 16])
def test_a_model_trained_on_it_finds_neighbours_better_than_an_untrained_one(fitted, parts, width):
    """At another embedding size too; held-out rows, of the classes it was trained on."""
    inputs, targets = parts[0]
    recall, found = mg.as_metric("retrieval_recall:k=1"), []
    for model, _ in _train(fitted, inputs[:400], targets[:400], 60, width):
        with torch.no_grad():
            found.append(float(recall(model(inputs[400:]), targets[400:])))
    assert found[-1] > 0.9
    assert 1 - found[-1] < 0.7 * (1 - found[0])


def test_it_comes_back_from_a_file(fitted, recorded, tmp_path):
    fitted.save(tmp_path / "loss.safetensors")
    back = mg.load_loss(tmp_path / "loss.safetensors")
    rows = recorded.scores[-40:], recorded.targets[-40:]
    assert torch.equal(back(*rows), fitted(*rows))
    assert back.aligner.per_class == 6


def test_what_reads_embeddings_goes_with_what_reads_them(recorded):
    pair = recorded.scores[-400:], recorded.targets[-400:]
    with pytest.raises(mg.MetricgradError, match="reads embeddings and set_network does not"):
        mg.ReLoss.fit("map_at_r", *pair, form=mg.ReLoss.pretrained("f1").form)
    with pytest.raises(mg.MetricgradError, match="embedding_network reads embeddings and accuracy does not"):
        mg.ReLoss.fit("accuracy", *pair, form=EmbeddingNetwork())
    with pytest.raises(mg.MetricgradError, match="leave paper out"):
        mg.ReLoss.fit("map_at_r", *pair, paper=True)
    with pytest.raises(mg.MetricgradError, match="per_class"):
        mg.ReLoss.fit("map_at_r", *pair, per_class=1)


def test_the_penalty_on_gradients_reaches_the_weights(recorded):
    weights = []
    for penalty in (0.0, 0.1):
        loss = mg.Loss(EmbeddingNetwork(), RankCorrelation("map_at_r", penalty=penalty, **OPTIONS))
        loss.prepare(recorded.scores, recorded.targets, groups=recorded.moments)
        weights.append(loss.form.network.mlp.weights[0])
    assert not torch.equal(*weights)
