"""ReLoss for a task of sentences: fitted on a short run of token cross-entropy, with stored scores kept small."""

import torch

import metricgrad as mg
from metricgrad.losses.networks.tokens import TokenNetwork
from metricgrad.training import reloss_of_task
from metricgrad.training.reloss_of_task import fitted_on_training
from tasks.romanian_strings.model import NonAutoregressive


def test_it_is_fitted_on_the_training_part_within_its_memory(monkeypatch):
    g = torch.Generator().manual_seed(0)
    source = torch.randint(1, 12, (500, 3), generator=g)
    targets = torch.cat([source.flip(1), torch.zeros(500, 1, dtype=torch.long), torch.full((500, 1), -1)], 1)
    stored = []
    fit = mg.ReLoss.fitted.__func__

    def seen(cls, metric, scores, *rest, **options):
        stored.append(tuple(scores.shape))
        return fit(cls, metric, scores, *rest, **options)

    monkeypatch.setattr(mg.ReLoss, "fitted", classmethod(seen))
    monkeypatch.setattr(reloss_of_task, "_STEPS", 64)
    monkeypatch.setattr(reloss_of_task, "_STORED", 5 * 12 * 70 * reloss_of_task._RECORDINGS)
    loss = fitted_on_training(
        mg.as_metric("bleu:end=0,order=2"),
        lambda: NonAutoregressive(12, 12, length=5, width=16, layers=1, heads=2),
        (source, targets),
        batch_size=16,
        seed=0,
        steps=30,
    )
    # 70 of the 200 sentences held out, at steps 0, 1, 2, 4, 8, 16, 32 and 64
    assert stored == [(70 * 8, 5, 12)]
    assert isinstance(loss.form, TokenNetwork)
    assert loss.report()["correlation"]["value"] > 0.3
