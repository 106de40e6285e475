"""Images from end to end: networks of classes on axis 1, targets that are ignored, masks."""

import pytest
import torch
from torch import nn

import metricgrad as mg


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loss", ["cross_entropy", "lovasz", "uniloss", "ala", "adalfl"])
def test_fit_trains_on_images_and_predicts_them(loss):
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (24, 6, 6), generator=g)
    inputs = nn.functional.one_hot(targets, 3).movedim(-1, 1) + torch.randn(24, 3, 6, 6, generator=g) / 2
    targets[:, 0] = 255
    metric = mg.as_metric("macro_f1", ignore_index=255)
    torch.manual_seed(0)
    model = nn.Conv2d(3, 3, 1)
    parts = (inputs[:16], targets[:16]), (inputs[16:], targets[16:])
    result = mg.fit(model, *parts, metric=metric, loss=loss, lr=0.1, epochs=5, batch_size=4, progress=False)
    assert result.valid > 0.8
    assert result.predict(inputs).shape == targets.shape
    assert result.predict_proba(inputs).sum(1).allclose(torch.ones(24, 6, 6))
    kept = targets[16:] != 255
    right = (result.predict(inputs[16:]) == targets[16:])[kept].double().mean()
    assert float(right) == pytest.approx(float(mg.as_metric("accuracy", ignore_index=255)(
        result.decision(result.scores(inputs[16:])), targets[16:])))  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_fit_of_masks_finds_one_threshold():
    g = torch.Generator().manual_seed(0)
    targets = (torch.rand(40, 5, 5, generator=g) < 0.2).long()
    inputs = (targets + torch.randn(40, 5, 5, generator=g) / 2)[:, None]
    torch.manual_seed(0)
    parts = (inputs[:20], targets[:20]), (inputs[20:], targets[20:])
    result = mg.fit(nn.Conv2d(1, 1, 1), *parts, metric="dice", loss="cross_entropy", lr=0.1, epochs=5, progress=False)
    assert result.decision.kind in ("threshold", "identity")
    assert result.evaluate(parts[1]) > 0.6


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ignored", [None, 255])
@pytest.mark.parametrize("loss", ["cross_entropy", "soft_f_beta", "margin", "uniloss", nn.CrossEntropyLoss])
def test_classes_are_where_the_metric_says_for_every_loss(loss, ignored):
    """Of as many classes as places, where shapes do not tell."""
    inputs = torch.randn(40, 5, 5, generator=torch.Generator().manual_seed(0))
    data = inputs, inputs.argmax(1)
    metric = mg.as_metric("accuracy", class_dim=1, ignore_index=ignored)
    torch.manual_seed(0)
    found = mg.fit(
        nn.Conv1d(5, 5, 1), data, data, metric=metric, loss=loss, lr=0.1, epochs=12, progress=False, decision="none"
    )
    assert found.valid > 0.85
