"""ReLoss for a task of embeddings: fitted on a short run of the triplet loss, one moment of it to a block."""

import metricgrad as mg
from metricgrad.comparison import catalogue
from metricgrad.comparison.candidates import maker
from metricgrad.losses.networks.embeddings import EmbeddingNetwork
from metricgrad.tasks.registry import get_task
from metricgrad.training import reloss_of_task


def test_compare_fits_it_with_the_tasks_own_batches(monkeypatch):
    found = []

    def kept(*given, **options):
        found.append(reloss_of_task.network_of_training(*given, **options))
        return found[0]

    monkeypatch.setattr(reloss_of_task, "_STEPS", 32)
    monkeypatch.setitem(catalogue.FITTED_ON_TRAINING, "reloss", kept)
    task = get_task("digits-retrieval")
    loss = maker("reloss", task, mg.as_metric("retrieval_recall:k=1"))({"anchor": 0.2}, 0, task.load(0)[0])
    assert isinstance(loss.form, EmbeddingNetwork)
    assert (loss.aligner.block, loss.aligner.per_class) == (task.batch_size, task.per_class)
    assert found[0].anchored().report()["correlation"]["value"] > 0.6
