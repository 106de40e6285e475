"""The built-in tasks as plain data: what a list shows of them, without torch, and where each is."""

from __future__ import annotations

from typing import NamedTuple


class Listed(NamedTuple):
    """A line of ``metricgrad tasks``; a test holds it to the task itself.

    Attributes:
        where: ``"file:attribute"``, in this package.
        kind: as the rest, an attribute of :class:`metricgrad.tasks.task.Task`.
        metric: likewise.
        standard: likewise.
        epochs: likewise.
        batch_size: likewise.
        summary: likewise.
    """

    where: str
    kind: str
    metric: str
    standard: str
    epochs: int
    batch_size: int
    summary: str


LISTED = {
    "digits": Listed(
        "digits:digits", "multiclass", "macro_f1", "cross_entropy", 20, 64, "1,797 handwritten digits, ten classes"
    ),
    "digits-noisy": Listed(
        "digits:digits_noisy", "multiclass", "accuracy", "cross_entropy", 20, 64,
        "digits with 40 % of the training labels moved to another class; validation and test stay clean",
    ),
    "digits-rare": Listed(
        "digits:digits_rare", "binary", "average_precision", "cross_entropy", 20, 64,
        "the digit 8 against the rest, thinned to 3 % positives",
    ),
    "breast-cancer": Listed(
        "tabular:breast_cancer", "binary", "f1", "cross_entropy", 30, 32,
        "569 tumours, malignant (37 %) or benign, 30 features",
    ),
    "diabetes": Listed(
        "tabular:diabetes", "regression", "spearman", "mse", 30, 32,
        "progression of diabetes in 442 patients, 10 features; standardised targets",
    ),
    "fashion": Listed(
        "fashion:fashion", "multiclass", "macro_f1", "cross_entropy", 10, 128,
        "Fashion-MNIST, ten classes, 20,000 images drawn by seed",
    ),
    "fashion-rare": Listed(
        "fashion:fashion_rare", "binary", "average_precision", "cross_entropy", 10, 128,
        "Fashion-MNIST's shirts against the rest at 2 % positives, 20,000 images drawn by seed",
    ),
    "digits-retrieval": Listed(
        "digits_retrieval:digits_retrieval", "retrieval", "retrieval_recall:k=1", "triplet", 20, 72,
        "embeddings of 4 numbers: learned on the digits 0 to 5, chosen on mirrored ones, judged on 6 to 9",
    ),
}  # fmt: skip
