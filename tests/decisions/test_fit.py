"""fit_decision: what it takes, what it leaves, and that it does so by cross-validation."""

import pytest
import sklearn.metrics
import torch

import metricgrad as mg
from metricgrad.decisions.kinds import DECISIONS


def binary(n: int, seed: int = 0, rate: float = 0.15, shift: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    targets = (torch.rand(n, generator=g) < rate).long()
    return torch.randn(n, generator=g) + 1.5 * targets - shift, targets


def grades(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a model that is right about a noisy latent grade."""
    g = torch.Generator().manual_seed(seed)
    latent = torch.randn(n, generator=g)
    targets = torch.bucketize(latent, torch.tensor([-0.3, 0.8, 1.4]))
    seen = latent + torch.randn(n, generator=g)
    centres = torch.tensor([-1.5, -0.5, 0.5, 1.5])
    return -((seen[:, None] - centres).square()) / 2, targets


def test_a_rare_class_gets_a_threshold_that_pays_on_new_rows():
    decision = mg.fit_decision("f1", *binary(800))
    scores, targets = binary(4000, seed=1)
    metric = mg.as_metric("f1")
    assert decision.kind == "threshold"
    assert float(metric(decision(scores), targets)) > float(metric(scores, targets)) + 0.1
    assert "standard error" in decision.report()


def test_grades_get_a_decision_that_pays_on_new_rows():
    decision = mg.fit_decision("quadratic_kappa", *grades(1500))
    scores, targets = grades(4000, seed=1)
    metric = mg.as_metric("quadratic_kappa")
    assert decision.kind != "identity"
    assert float(metric(decision(scores), targets)) > float(metric(scores, targets)) + 0.01


def test_where_nothing_is_to_be_gained_scores_stay_as_they_are():
    kept = 0
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        targets = torch.randint(4, (300,), generator=g)
        scores = torch.randn(300, 4, generator=g) + 2 * torch.nn.functional.one_hot(targets, 4)
        kept += mg.fit_decision("accuracy", scores, targets).kind == "identity"
    assert kept >= 15


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "mse"])
def test_metrics_that_no_cut_changes_get_none_and_the_reason(metric):
    scores, targets = binary(100)
    decision = mg.fit_decision(metric, scores, targets.float() if metric == "mse" else targets)
    assert decision.kind == "identity"
    assert metric in decision.report()
    assert torch.equal(decision(scores), scores)


def test_recall_at_a_precision_gets_the_cut_and_keeps_its_value():
    scores, targets = binary(600, rate=0.3)
    metric = mg.as_metric("recall_at_precision:precision=0.6")
    decision = mg.fit_decision(metric, scores, targets)
    assert decision.kind == "at_precision"
    assert float(metric(decision(scores), targets)) == pytest.approx(float(metric(scores, targets)))
    assert "held out" in decision.report()


def test_a_foreign_metric_gets_what_the_built_in_one_gets():
    scores, targets = grades(500)
    ours = mg.fit_decision("macro_f1", scores, targets, method="offsets")
    theirs = mg.fit_decision(mg.as_metric(sklearn.metrics.f1_score, average="macro"), scores, targets, method="offsets")
    metric = mg.as_metric("macro_f1")
    assert float(metric(theirs(scores), targets)) > float(metric(ours(scores), targets)) - 0.02


def test_a_metric_that_is_minimised_is_minimised():
    scores, targets = binary(500)
    cost = mg.as_metric(
        lambda labels, y: ((labels == 0) & (y == 1)).float().mean() * 5 + ((labels == 1) & (y == 0)).float().mean(),
        higher_is_better=False, reads="labels", name="cost",
    )  # fmt: skip
    decision = mg.fit_decision(cost, scores, targets)
    assert decision.kind == "threshold"
    assert float(cost(decision(scores), targets)) < float(cost(scores, targets))


def test_sample_weights_decide_too():
    scores, targets = binary(400)
    weight = torch.where(targets > 0, 10.0, 1.0)
    plain = mg.fit_decision("f1", scores, targets, method="threshold")
    weighted = mg.fit_decision("f1", scores, targets, method="threshold", sample_weight=weight)
    assert float(weighted.threshold) < float(plain.threshold)


def test_the_same_seed_gives_the_same_decision():
    scores, targets = grades(300)
    first, second = (mg.fit_decision("macro_f1", scores, targets, seed=3) for _ in range(2))
    assert first.config() == second.config()
    assert first.report() == second.report()


@pytest.mark.parametrize(
    ("scores", "targets", "options", "words"),
    [
        ([0.1], torch.ones(1), {}, "scores must be a tensor"),
        (torch.zeros(30), torch.ones(30), {"method": "best"}, "method"),
        (torch.zeros(30), torch.ones(30), {"method": "offsets"}, "does not serve"),
        (torch.full((30,), torch.inf), torch.ones(30), {}, "NaN or infinity"),
    ],
)
def test_bad_input_is_one_sentence(scores, targets, options, words):
    with pytest.raises(mg.MetricgradError, match=words):
        mg.fit_decision("f1", scores, targets, **options)


def test_few_rows_compare_nothing():
    scores, targets = binary(12)
    assert "too few" in mg.fit_decision("f1", scores, targets).report()


class Cautious(mg.decisions.Decision):
    kind = "cautious"

    def forward(self, scores):
        return scores - 1

    @classmethod
    def fit(cls, metric, scores, targets, **context):
        return cls()

    def config(self):
        return {}


@pytest.mark.parametrize(
    ("reading", "shape", "wanted"),
    [
        ("threshold", (40, 3), "are of classes; write reading = 'argmax'"),
        ("argmax", (40,), "write reading = 'threshold'"),
    ],
)
def test_a_decision_of_ones_own_reads_scores_as_they_are(monkeypatch, reading, shape, wanted):
    monkeypatch.setitem(DECISIONS, "cautious", Cautious)
    monkeypatch.setattr(Cautious, "reading", reading)
    scores, targets = torch.randn(shape), torch.arange(40) % 2
    with pytest.raises(mg.MetricgradError, match=wanted):
        mg.fit_decision("accuracy", scores, targets, method="cautious")
    monkeypatch.setattr(Cautious, "reading", wanted.split("'")[1])
    assert mg.fit_decision("accuracy", scores, targets, method="cautious").predict(scores).shape == (40,)
