"""ReLoss: a network fitted by rank correlation with the metric before training."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from metricgrad.aligners.fitting.block_fitting import BlockFitting
from metricgrad.aligners.fitting.blocks import ScoreStore
from metricgrad.aligners.fitting.rank_correlation import RankCorrelation
from metricgrad.aligners.fitting.report import held_out_report, match_scale
from metricgrad.aligners.fitting.value_regression import ValueRegression
from metricgrad.checks import check_options, check_tensor
from metricgrad.errors import MetricgradError
from metricgrad.loading import load_loss
from metricgrad.loss import Loss
from metricgrad.losses.base import Form
from metricgrad.losses.batches import checked_number
from metricgrad.losses.class_reading import ClassReading
from metricgrad.losses.networks.base import NetworkForm
from metricgrad.losses.networks.network_for import network_for
from metricgrad.losses.registry import ANSWER_SPANS, CLASSIFICATION, RETRIEVAL, TOKENS, Entry, Range, register
from metricgrad.metrics.as_metric import as_metric
from metricgrad.metrics.context import CONTEXT, refuse_others
from metricgrad.metrics.layouts.class_targets import ClassTargets
from metricgrad.metrics.metric import Metric

_OBJECTIVES: dict[str, type[BlockFitting]] = {"correlation": RankCorrelation, "value": ValueRegression}
_ANCHOR = 0.1


class ReLoss(Loss):
    """A small network that ranks batches as the metric does, learned from stored scores before training, then frozen.

    Use it where one model's scores are at hand and others are to be trained on the metric; made by :meth:`fit`. The
    report says on held-out rows whether it ranks blocks better than the loss people use today; where it does not,
    use that. Not where the metric is one that its network cannot express (see the form's docstring).

    Args:
        form: a network form.
        aligner: the :class:`RankCorrelation` that fits it, or the :class:`ValueRegression`.
        seed: of the loss.
        gather: with ``process_group`` as in :class:`metricgrad.Loss`, for data-parallel training.
        process_group: see there.

    Example:
        >>> import torch, metricgrad as mg
        >>> g = torch.Generator().manual_seed(0)
        >>> targets = torch.randint(3, (300,), generator=g)
        >>> scores = torch.randn(300, 3, generator=g) + 2 * torch.nn.functional.one_hot(targets, 3)
        >>> loss = mg.ReLoss.fit("accuracy", scores, targets, steps=20)
        >>> loss.report()["correlation"]["value"] > 0.5
        True

    References:
        T. Huang et al., "Relational Surrogate Loss Learning", ICLR 2022. The aligner and the forms name what is ours.
    """

    def __init__(
        self,
        form: Form,
        aligner: BlockFitting,
        *,
        seed: int = 0,
        gather: bool = True,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__(form, aligner, seed=seed, gather=gather, process_group=process_group)

    @classmethod
    def fit(
        cls,
        metric: str | Metric | Callable[..., Any],
        scores: Tensor,
        targets: Tensor,
        *,
        groups: Tensor | None = None,
        form: NetworkForm | None = None,
        objective: Literal["correlation", "value"] = "correlation",
        anchor: float | None = None,
        seed: int = 0,
        **options: Any,
    ) -> ReLoss:
        """Fit a loss to a metric.

        Args:
            metric: a name, a Metric, or a callable that :func:`metricgrad.as_metric` knows.
            scores: stored logits of a trained model, best on rows it was not trained on.
            targets: their true targets.
            groups: ``(N,)`` integers. For metrics of ranked lists, the query of each row: blocks are whole queries,
                each valued by itself, and the loss is then called with ``groups`` too. For metrics of embeddings, the
                model that made each row (``moments`` of :class:`metricgrad.record_scores`): distances between two
                models' embeddings mean nothing, so a block holds those of one. Not for other metrics.
            form: a :class:`SetNetwork` by default, a :class:`ProbabilityNetwork` for accuracy, a
                :class:`RegressionNetwork` for targets that are real values, a :class:`PeakNetwork` for metrics of heat
                maps, a :class:`TokenNetwork` for those of sentences, a :class:`SpanNetwork` for those of answer spans,
                an :class:`EmbeddingNetwork` for those of embeddings and a :class:`ListNetwork` where there are groups.
            objective: ``"value"`` regresses the metric's value, the paper's baseline for its own objective.
            anchor: weight of the standard loss (cross-entropy, for labels) that is added once the network's gradient
                has its size. A network that only ranks blocks may send all scores one way: trained from scratch on
                F1 with 10 % positives it called every row positive (F1 0.18; 0.78 with 0.1 and 0.82 with 0.3, where
                tuned cross-entropy had 0.89). None is 0.1, or with ``paper=True`` 0, which is the paper's loss.
            seed: of everything random.
            options: keyword arguments of :class:`metricgrad.aligners.fitting.rank_correlation.RankCorrelation` (or of
                ``ValueRegression``); ``paper=True`` is the released code, pitfalls included: it also takes the paper's
                network, a mean over rows whatever the metric is, unless ``form`` is given.

        Returns:
            The loss, frozen, its gradient at an untrained model's scores of the size of cross-entropy's, so that the
            usual learning rate works (with ``paper=True`` of the size the fit left). Its aligner holds the report,
            which :meth:`save` keeps.

        Raises:
            MetricgradError: for an unknown objective, a form or groups that do not go with the metric, where the metric
                is undefined on nearly all blocks, or where nothing that ranks like it is found.

        Warns:
            UserWarning: where it does not rank held-out blocks clearly better than cross-entropy.
        """
        if anchor is not None:
            checked_number("anchor", anchor, zero=True)  # before the fit, which takes long
        fitted = cls.fitted(
            metric, scores, targets, groups=groups, form=form, objective=objective, seed=seed, **options
        )
        loss = fitted.anchored(anchor)
        report = loss.report()
        if not report["beats_standard"]:
            reader = loss.network.reader
            names = ("correlation", reader.standard_name)
            ours, standard = (report[name]["value"] for name in names)
            other = "cross-entropy" if reader.of_labels else "the standard loss"
            warnings.warn(
                f"this surrogate does not rank blocks as {fitted.metric.name} does clearly better than {other}: "
                f"correlation {ours or 0:.3f} against {standard or 0:.3f} on held-out rows; {other} will "
                "probably serve as well",
                stacklevel=2,
            )
        return loss

    @classmethod
    def fitted(
        cls,
        metric: str | Metric | Callable[..., Any],
        scores: Tensor,
        targets: Tensor,
        *,
        groups: Tensor | None = None,
        form: NetworkForm | None = None,
        objective: Literal["correlation", "value"] = "correlation",
        seed: int = 0,
        **options: Any,
    ) -> FittedNetwork:
        """The part of :meth:`fit` that is the same for every ``anchor``, which comes last; it takes nearly all time."""
        judged_by = as_metric(metric)
        check_tensor("scores", scores)
        check_tensor("targets", targets)
        if objective not in _OBJECTIVES:
            raise MetricgradError(f"objective is {objective!r}; expected one of {', '.join(_OBJECTIVES)}")
        taken = ("groups", "form", "objective", "anchor", "seed")
        refuse_others([name for name in options if name in CONTEXT], "ReLoss.fit", taken)
        check_options("ReLoss.fit", options, _OBJECTIVES[objective], BlockFitting)
        classes = judged_by.class_targets
        scores, targets, *rest = classes.pairs(scores, targets, groups=groups)
        groups = rest[0] if rest else None
        judged_by = judged_by.of_read_batches()
        aligner = _OBJECTIVES[objective](judged_by, seed=seed, **options)
        paper = isinstance(aligner, RankCorrelation) and aligner.paper
        if form is None:
            in_groups = groups is not None
            form = network_for(judged_by, scores, targets, in_groups=in_groups, paper=paper, seed=seed)
        loss = cls(form, aligner, seed=seed)
        generator = torch.Generator().manual_seed(seed + 1)
        store = aligner.store(form, scores, targets, groups=groups)
        fitted_on, held_out = store.split([0.7, 0.3], generator)
        loss.prepare(fitted_on.scores, fitted_on.targets, groups=fitted_on.groups)
        if not paper:
            match_scale(form, fitted_on, generator, size=aligner.block)
        return FittedNetwork(loss, judged_by, held_out, classes, default_anchor=0.0 if paper else _ANCHOR)

    @classmethod
    def pretrained(cls, metric: str) -> ReLoss:
        """A loss that comes with the package, fitted to a metric on scikit-learn's data; the network is not asked.

        Use it where there are no scores to fit on yet; a fit on scores of the task at hand ranks its blocks better. The
        file's header names the command that made it, and :meth:`report` what it measured there.

        Args:
            metric: ``"accuracy"``, ``"top_k_accuracy"`` (of 5), ``"macro_f1"``, ``"f1"``, ``"average_precision"``,
                ``"auroc"`` or ``"pck"`` (at a radius of 2 pixels).

        Returns:
            The loss, frozen.

        Raises:
            MetricgradError: for another name, listing those there are.

        Example:
            >>> import metricgrad as mg
            >>> mg.ReLoss.pretrained("accuracy").report()["metric"]
            'accuracy'
        """
        folder = Path(__file__).parent / "pretrained"
        shipped = sorted(path.stem for path in folder.glob("*.safetensors"))
        if metric not in shipped:
            raise MetricgradError(
                f"no loss pretrained for {metric!r}: there are {', '.join(shipped)}; fit one to scores of your own: "
                "ReLoss.fit(metric, scores, targets)"
            )
        loaded = load_loss(folder / f"{metric}.safetensors")
        assert isinstance(loaded.aligner, BlockFitting)
        loss = cls(loaded.form, loaded.aligner, seed=loaded.seed)
        return loss.requires_grad_(False)

    def report(self) -> dict[str, Any]:
        """What :meth:`fit` measured on held-out rows, as plain numbers.

        Returns:
            ``correlation``, ``cross_entropy``, ``standardised_cross_entropy`` and ``error_rate``: each the rank
            correlation with the metric over blocks (1 is the metric's own order) as ``value``, ``low``, ``high``;
            forms of other things than labels have ``standard`` in place of the last three, those of heat maps also
            ``standardised_standard``, of maps at zero mean and unit spread. ``difference`` to the standard loss
            likewise; ``beats_standard``; ``monotone``, the share of entries whose loss falls where their score moves
            towards the target (of embeddings: towards the mean of their class's others; of gains: up where they are
            above the mean); ``gradient_scale``, the length of the gradient relative to the standard
            loss's; ``rows`` and ``blocks``.

        Raises:
            MetricgradError: where nothing was measured, as before a fit.
        """
        return super().report()

    @property
    def network(self) -> NetworkForm:
        """The form."""
        assert isinstance(self.form, NetworkForm)
        return self.form


@dataclass(frozen=True)
class FittedNetwork:
    """A network that ranks blocks as a metric does, before the standard loss is added.

    Attributes:
        loss: of the network alone.
        metric: whose order it has.
        held_out: what the report is measured on.
        classes: how targets are read.
        default_anchor: where none is given.
    """

    loss: ReLoss
    metric: Metric
    held_out: ScoreStore
    classes: ClassTargets
    default_anchor: float

    def anchored(self, anchor: float | None = None, *, measured: bool = True) -> ReLoss:
        """A loss of its own, with this weight of the standard loss.

        Args:
            anchor: the weight.
            measured: whether it has a report, which takes a fifth of the time of a fit.

        Raises:
            MetricgradError: for a weight below 0 or not finite.
        """
        weight = self.default_anchor if anchor is None else checked_number("anchor", anchor, zero=True)
        loss = copy.deepcopy(self.loss)
        aligner = loss.aligner
        assert isinstance(aligner, BlockFitting)
        loss.network.anchor.fill_(weight)
        if measured:
            aligner.report = held_out_report(loss, self.metric, self.held_out, size=aligner.block, seed=loss.seed)
        aligner.class_targets, loss.classes = self.classes, ClassReading(self.classes)
        return loss


def shipped(metric: Metric, *, anchor: float = 0.1) -> ReLoss:
    """The loss that comes with the package for a metric.

    Args:
        metric: one that :meth:`ReLoss.pretrained` knows.
        anchor: weight of cross-entropy beside it; see :meth:`ReLoss.fit`.

    Raises:
        MetricgradError: where none is shipped for the metric.
    """
    loss = ReLoss.pretrained(metric.name.replace("top_k_accuracy:k=5", "top_k_accuracy"))
    loss.network.anchor.fill_(anchor)
    return loss


register(
    "reloss",
    Entry(
        shipped,
        CLASSIFICATION | TOKENS | ANSWER_SPANS | RETRIEVAL,
        "a network that ranks batches as the metric does: fitted on a short run where there is a task, else shipped",
        space={"anchor": Range(0.01, 1.0, default=0.1)},
        takes_metric=True,
    ),
)
