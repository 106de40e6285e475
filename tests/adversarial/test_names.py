"""Names that people use exist or are suggested, and unknown options are named with what is close."""

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.metrics.built_in import also_known
from metricgrad.systems.by_name import make_loss

PEOPLE = {
    "f1_score": "f1", "F1": "f1", "AP": "average_precision", "roc_auc": "auroc", "auc": "auroc", "AUC": "auroc",
    "AUPRC": "average_precision", "acc": "accuracy", "balanced_acc": "balanced_accuracy", "rmse": "mse",
    "matthews_corrcoef": "mcc", "cohen_kappa": "kappa", "iou": "mean_iou", "IoU": "mean_iou", "qwk": "quadratic_kappa",
    "brier_score": "brier", "expected_calibration_error": "ece", "NDCG": "ndcg", "recall@5": "recall_at_k",
    "mean-reciprocal-rank": "mrr", "macro f1": "macro_f1", "Dice score": "dice",
}  # fmt: skip


@pytest.mark.parametrize("name", PEOPLE)
def test_a_metric_under_the_name_people_use_is_suggested(name):
    with pytest.raises(mg.MetricgradError, match=rf"unknown metric .*did you mean .*\b{PEOPLE[name]}\b"):
        mg.as_metric(name)


def test_every_suggestion_can_be_made_and_no_name_is_hidden():
    for name, spec in also_known().items():
        assert name not in mg.list_metrics()
        assert mg.as_metric(spec).spec == spec
    assert {"map", "hit_rate", "ece", "brier"} <= set(mg.list_metrics())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mg.UniLoss("f1", reduction="sum"), "UniLoss has no reduction: its value is that of the whole batch"),
        (lambda: mg.AdaLFL(reduction="none"), "AdaLFL has no reduction"),
        (lambda: mg.ALA("f1", reduction="mean"), "ALA has no reduction"),
        (
            lambda: mg.ReLoss.fit("f1", torch.randn(99), torch.arange(99) % 2, reduction="mean"),
            "ReLoss.fit has no reduction",
        ),
        (lambda: mg.UniLoss("f1", sofness=1.0), "UniLoss has no option 'sofness': did you mean softness"),
        (lambda: mg.AdaLFL(meta_rate=1.0), "AdaLFL has no option 'meta_rate'"),
        (lambda: mg.AdaLFL(kind="clasification"), "kind is 'clasification'; expected one of classification"),
        (lambda: mg.ALA("f1", evry=3), "ALA has no option 'evry': did you mean every"),
        (
            lambda: mg.ReLoss.fit("f1", torch.randn(99), torch.arange(99) % 2, step=3),
            "ReLoss.fit has no option 'step': did you mean steps",
        ),
        (lambda: mg.UniLoss("f1", interpolation="idw"), "interpolation"),
        (lambda: mg.ReLoss.pretrained("acuracy"), "no loss pretrained for 'acuracy'"),
        (lambda: make_loss("bce", "f1"), "unknown loss 'bce': did you mean cross_entropy"),
        (lambda: make_loss("cross_entropy:reduction=sum", "f1"), "not 'reduction'"),
        (lambda: mg.UniLoss("f1")(torch.randn(4), torch.ones(4), reduction="sum"), "reduction"),
        (lambda: mg.Loss(nn.CrossEntropyLoss()), "takes a form and an aligner"),
    ],
)
def test_unknown_names_and_options_are_one_sentence(make, words):
    with pytest.raises(mg.MetricgradError, match=words):
        make()
