"""The ladder: which losses a task asks for, from the simplest on, and why others are left out.

A rung is a loss with or without a decision, and has to earn its place over the rung below it: the loss people use
today, a decision fitted on validation data, class weights, the metric itself, what the data ask for, and the average of
several trainings. What the data ask for is decided by a rule for each loss, which says its reason either way. Nothing
is trained here: what is known of the data comes in as :class:`Situation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from metricgrad.decisions.fit import no_decision_for
from metricgrad.losses.registry import CLASSIFICATION, ProblemKind
from metricgrad.metrics.metric import Metric
from metricgrad.systems.by_name import find

DECISION = "+ decision"
"""What the rung of a decision on the standard loss adds."""
UNEQUAL = 1.5
"""Class weights are asked for where the largest class has this many times the items of the smallest."""
FAR_FROM_EQUAL = 10.0
SURE = 2.0
"""Standard errors by which the training part must fit worse than the validation part."""


@dataclass(frozen=True)
class Situation:
    """What is known of a task before its study.

    Attributes:
        kind: of the problem.
        standard: the loss people use today.
        metric: what decides.
        classes: items of the smallest and of the largest class in the training part; None where there are no classes.
        clean_valid: whether the task states that its validation part is cleaner than its training part.
        train_loss: the standard loss, trained, on the training part; None where nobody looked.
        valid_loss: the same on the validation part.
        valid_error: standard error of ``valid_loss``.
        learners: what the task can be learned with beside its network, by name.
    """

    kind: ProblemKind
    standard: str
    metric: Metric
    classes: tuple[int, int] | None = None
    clean_valid: bool = False
    train_loss: float | None = None
    valid_loss: float | None = None
    valid_error: float | None = None
    learners: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rung:
    """One rung.

    Attributes:
        adds: what it adds, in words.
        loss: by its name.
        decided: whether its scores go through a fitted decision.
        why: why the task asks for it, where not all do.
    """

    adds: str
    loss: str
    decided: bool = True
    why: str = ""


@dataclass(frozen=True)
class Ladder:
    """The rungs of one task.

    Attributes:
        rungs: the simplest first.
        left_out: what is not on it, and why.
        averages: whether the scores of several trainings have a mean that means something.
    """

    rungs: tuple[Rung, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    averages: bool = True

    @property
    def losses(self) -> list[str]:
        """The losses to train, each once."""
        return list(dict.fromkeys(rung.loss for rung in self.rungs))


def ladder(situation: Situation) -> Ladder:
    """The rungs that a task asks for.

    Example:
        >>> import metricgrad as mg
        >>> found = ladder(Situation("binary", "cross_entropy", mg.as_metric("f1"), classes=(100, 900)))
        >>> [rung.adds for rung in found.rungs]
        ['cross_entropy', '+ decision', '+ class weights', '+ the metric']
        >>> found.left_out["adalfl"]
        'nothing says that the validation part is cleaner than the training part'
    """
    standard = situation.standard
    # where no decision changes the metric, the one that goes with it all the same is there from the first rung on
    rungs, left_out = [Rung(standard, standard, decided=not _decision(situation)[0])], {}
    for adds, loss, rule in (
        (DECISION, standard, _decision),
        ("+ class weights", f"{standard}:weighting=balanced", _class_weights),
        ("+ cross-entropy over pixels", "heatmap_cross_entropy", _over_pixels),
        ("+ the metric", "uniloss", _metric),
        ("+ adalfl", "adalfl", _adalfl),
        ("+ ala", "ala", _ala),
        ("+ ala", "ala_triplet", _ala_of_embeddings),
        ("+ reloss", "reloss", _reloss),
    ):
        if not _serves(loss, situation):
            continue
        asked, why = rule(situation)
        if asked:
            rungs.append(Rung(adds, loss, decided=True, why=why))
        else:
            left_out[adds.removeprefix("+ ")] = why
    rungs += [Rung(name, name, why="what people use on such data today") for name in situation.learners]
    averages = situation.kind != "retrieval"
    if not averages:
        left_out["average of seeds"] = "embeddings of several trainings have axes of their own"
    return Ladder(tuple(rungs), left_out, averages)


def _serves(loss: str, situation: Situation) -> bool:
    name, _, parameter = loss.partition(":")
    entry, _ = find(name)
    return situation.kind in entry.kinds and (not parameter or entry.accepts(parameter.partition("=")[0]))


Rule = Callable[[Situation], tuple[bool, str]]


def _decision(situation: Situation) -> tuple[bool, str]:
    metric = situation.metric
    if situation.kind in CLASSIFICATION and metric.reads == "labels" and metric.layout.of_decisions:
        return True, ""
    if situation.kind in CLASSIFICATION and not no_decision_for(metric):
        return False, f"it does not change {metric.name}; the cut that reaches it goes with whatever is chosen"
    return False, f"{metric.name} reads {metric.reads}, and no decision changes it for the better"


def _class_weights(situation: Situation) -> tuple[bool, str]:
    if situation.classes is None:
        return False, "there are no classes of one label an item"
    small, large = situation.classes
    said = f"the largest class has {large:,} items to train on, the smallest {small:,}"
    return large >= UNEQUAL * small, said


def _over_pixels(situation: Situation) -> tuple[bool, str]:
    return True, "the metric reads the largest pixel, and squared error is mostly of the background"


def _metric(situation: Situation) -> tuple[bool, str]:
    return True, ""


def _adalfl(situation: Situation) -> tuple[bool, str]:
    if situation.clean_valid:
        return True, "the task states that its validation part is clean"
    if situation.train_loss is None or situation.valid_loss is None or situation.valid_error is None:
        return False, "nothing says that the validation part is cleaner than the training part"
    losses = f"{situation.standard} is {situation.train_loss:.3g} there and {situation.valid_loss:.3g} on validation"
    if situation.train_loss > situation.valid_loss + SURE * situation.valid_error:
        return True, f"the training part fits worse than the validation part, which looks cleaner: {losses}"
    return False, f"the training part does not fit worse than the validation part: {losses}"


def _ala(situation: Situation) -> tuple[bool, str]:
    if situation.kind != "multiclass" or situation.classes is None:
        return False, "with two classes, weights and a decision do what its knobs do"
    small, large = situation.classes
    said = f"the largest class has {large:,} items to train on, the smallest {small:,}"
    return large >= FAR_FROM_EQUAL * small, f"{said}: its knobs weigh classes"


def _ala_of_embeddings(situation: Situation) -> tuple[bool, str]:
    return True, "its knobs weigh what pulls and what pushes"


def _reloss(situation: Situation) -> tuple[bool, str]:
    if situation.kind in ("tokens", "spans"):
        return True, "it learns to rank whole sequences as the metric does"
    return False, "it is for sequences, whose metrics no loss of single items follows"
