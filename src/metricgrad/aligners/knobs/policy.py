"""ALA's aligner: a policy that turns the knobs of a form and is rewarded by the metric on validation data."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Literal

import torch

from metricgrad import serialization
from metricgrad.aligners.base import AlignedLoss
from metricgrad.aligners.knobs.bandit import MOST_KNOBS, Bandit
from metricgrad.aligners.knobs.controller import KnobController
from metricgrad.aligners.knobs.controller_state import SavedState
from metricgrad.aligners.knobs.observation import Observation, encoded
from metricgrad.aligners.knobs.paper_settings import published
from metricgrad.aligners.knobs.policy_network import LEARNED, Choice, Learning, PolicyNetwork
from metricgrad.aligners.knobs.reward import Means, Reward, RewardKind
from metricgrad.aligners.knobs.settings import Where, renamed
from metricgrad.aligners.knobs.state import roles_of
from metricgrad.errors import MetricgradError
from metricgrad.json_types import checked_arguments, fits
from metricgrad.losses.batches import checked_number, checked_whole
from metricgrad.metrics.as_metric import as_metric, stored_metric
from metricgrad.metrics.metric import Metric

Learner = Literal["auto", "bandit", "reinforce"]
LEARNERS: tuple[Learner, ...] = ("auto", "bandit", "reinforce")

_REINFORCE_ONLY = (
    "scaled", "reward", "centred", "entropy", "importance", "lr", "replay", "updates", "batch",
)  # fmt: skip


class PolicyState(SavedState):
    """The plain part of a policy's state."""

    reward: Means


class Policy(KnobController):
    r"""Every K steps one action in {-, 0, +} for each knob, by what earlier ones did to the metric on validation data.

    The paper's learner is REINFORCE on one-step episodes with one network for all knobs:

    .. math:: \nabla_\theta \approx \sum_k \min\Bigl(\frac{\pi_\theta(a_k \mid s_k)}{\pi_{\mathrm{then}}(a_k \mid s_k)},
        2\Bigr)\, (R - b)\, \nabla_\theta \log \pi_\theta(a_k \mid s_k) + \alpha\, \nabla_\theta H(\pi_\theta(s_k))

    over transitions drawn from a replay of recent ones. R is the reward of the period that followed the action (see
    :class:`metricgrad.aligners.knobs.reward.Reward`), b its centre. The state is that of
    :class:`metricgrad.aligners.knobs.state.Child`; one network serves all knobs.

    Use it where the metric can be scored on validation data every few steps and the form has few knobs. One run has a
    hundred rewards or fewer, each for all knobs together: from so little a policy learns little, so compare it with
    :class:`metricgrad.aligners.knobs.random_walk.RandomWalk` before believing it, and prefer a policy that was trained
    on many runs before with ``learner="reinforce"`` (:meth:`save`, :meth:`load`).

    Args:
        metric: what validation is judged by.
        every: as the next ones, see :class:`metricgrad.aligners.knobs.controller.KnobController`.
        evaluations: see there.
        discount: see there.
        step_size: see there.
        warm_up: see there.
        clamp: see there.
        rows: see there.
        threshold: see there.
        scaled: whether the entries of the state are brought near [-1, 1].
        reward: ``"soft"``, ``"dead_zone"`` or ``"sign"``.
        centred: whether rewards are centred.
        entropy: weight of the entropy bonus.
        importance: whether replayed transitions are weighted by how likely they are now.
        lr: learning rate of the policy.
        replay: transitions kept.
        updates: policy steps after each move.
        batch: transitions in a policy step.
        learner: ``"reinforce"``, or ``"bandit"`` for :class:`metricgrad.aligners.knobs.bandit.Bandit`; ``"auto"`` takes
            the bandit for up to 10 knobs. The settings of the reward, the state and the policy network are REINFORCE's.
        frozen: the network acts and learns nothing.
        paper: the published settings in place of the defaults above: K = 200, 50 evaluations, the sign of the change,
            nothing centred, scaled, weighted or clamped. It collapses sooner or later where the form is unbounded.
        seed: of everything random.
        looks: the former name of ``evaluations``, for one version.

    Cost: an evaluation is a forward pass over ``rows`` validation rows and a metric call; a move some hundred small
        operations. :meth:`cost` measures it.

    Raises:
        MetricgradError: for settings out of range.

    Warns:
        UserWarning: for ``paper=True``, and for settings of REINFORCE's where ``"auto"`` takes the bandit.

    Example:
        >>> import torch, metricgrad as mg
        >>> from metricgrad.losses.families.classification import ClassificationFamily
        >>> loss = mg.Loss(ClassificationFamily(2), Policy("accuracy", warm_up=0))
        >>> for _ in range(3):
        ...     loss.observe(torch.randn(8, 2), torch.arange(8) % 2)
        >>> sorted(loss.aligner.history["knobs"])
        ['adjustment', 'balance', 'exponent', 'focus', 'smoothing']

    References:
        C. Huang et al., "Addressing the Loss-Metric Mismatch with Adaptive Loss Alignment", ICML 2019. The paper
        measures the metric at all 200 steps of a period; with a discount of 0.9 the last 50 have 99.5 % of the weight.
        Everything that ``paper=True`` switches off is ours, and so are the roles in the state.
    """

    kind: ClassVar[str] = "policy"

    def __init__(
        self,
        metric: str | Metric | Callable[..., Any],
        *,
        every: int | None = None,
        evaluations: int = 1,
        discount: float = 0.9,
        step_size: float = 0.1,
        warm_up: int = 3,
        clamp: bool = True,
        rows: int | None = 1024,
        threshold: Where = "best",
        scaled: bool = True,
        reward: RewardKind = "soft",
        centred: bool = True,
        entropy: float = 0.01,
        importance: bool = True,
        lr: float = 1e-3,
        replay: int = 1024,
        updates: int = 2,
        batch: int = 64,
        learner: Learner = "auto",
        frozen: bool = False,
        paper: bool = False,
        seed: int = 0,
        looks: int | None = None,
    ) -> None:
        evaluations = renamed(looks, "looks", evaluations, "evaluations")
        given: dict[str, Any] = {
            "every": every, "evaluations": evaluations, "warm_up": warm_up, "clamp": clamp, "scaled": scaled,
            "reward": reward, "centred": centred, "entropy": entropy, "importance": importance, "updates": updates,
        }  # fmt: skip
        if paper:
            warnings.warn(
                "paper=True has none of the cures of the known collapse: with an unbounded form, knobs drift until "
                "training breaks down; it is for comparison",
                stacklevel=2,
            )
            learner, given = "reinforce", published(given, inspect.signature(Policy).parameters)
        super().__init__(
            metric, every=given["every"], evaluations=given["evaluations"], discount=discount, step_size=step_size,
            warm_up=given["warm_up"], clamp=given["clamp"], rows=rows, threshold=threshold, seed=seed,
        )  # fmt: skip
        if learner not in LEARNERS or (learner == "bandit" and frozen):
            raise MetricgradError(
                f"learner is {learner!r} with frozen={frozen}; expected one of {', '.join(map(repr, LEARNERS))}, and "
                "'bandit' never frozen: it has nothing to carry over to another run"
            )
        checked_number("lr", lr)
        checked_number("entropy", given["entropy"], zero=True)
        for name, value, least in (("replay", replay, 1), ("updates", given["updates"], 0), ("batch", batch, 1)):
            checked_whole(name, value, least=least)
        self.scaled, self.learner, self.frozen, self.paper = given["scaled"], learner, frozen, paper
        self.learning = Learning(
            lr, given["entropy"], given["importance"], given["centred"], replay, given["updates"], batch
        )
        self.rewarding = Reward(given["reward"], centred=given["centred"])
        self.network, self.bandit = PolicyNetwork(seed), Bandit()
        self.roles: list[str] | None = None

    def bind(self, loss: AlignedLoss) -> None:
        """Refuse a form with other knobs than those the network has learned to turn; say which options do nothing.

        Raises:
            MetricgradError: naming both forms' roles.
        """
        roles = roles_of(list(loss.form.knobs()))
        if self.roles not in (None, roles) and self._has_learned():
            raise MetricgradError(
                f"{type(loss.form).__name__} has knobs of the roles {', '.join(roles)}, and this policy has learned to "
                f"turn {', '.join(self.roles or [])}; use a form of the kind it was trained with, or a policy that has "
                "learned nothing yet"
            )
        self.roles = roles
        plain, config = inspect.signature(Policy).parameters, self.config()
        idle = [name for name in _REINFORCE_ONLY if config[name] != plain[name].default]
        if idle and self.learner == "auto" and len(loss.form.knobs()) <= MOST_KNOBS and not self.frozen:
            warnings.warn(
                f"{', '.join(idle)} do nothing here: with up to {MOST_KNOBS} knobs learner='auto' takes the bandit; "
                "pass learner='reinforce' to use them, or leave them out",
                stacklevel=4,
            )

    def reward(self, improvements: Sequence[float]) -> tuple[list[float], list[float]]:
        """Rewards and advantages of the children's improvements."""
        return self.rewarding.of(improvements)

    def choose(
        self, seen: Sequence[Observation], advantages: Sequence[float], generator: torch.Generator
    ) -> list[Choice]:
        """Store the last moves with what they earned, learn, and draw the next actions."""
        if self._is_bandit(seen[0]):
            gains = [one.improvement for one in seen if one.improvement is not None]
            usual = median(gains) if len(gains) > 2 else 0.0
            for one in seen:
                if "move_row" in one.child.memory and one.improvement is not None:
                    self.bandit.store(one.child, one.improvement - usual, self.periods)
            return self.bandit.choose([list(one.knobs.values()) for one in seen], generator)
        waiting = [(one, a) for one, a in zip(seen, advantages, strict=True) if "move_states" in one.child.memory]
        if waiting and not self.frozen:
            for one, advantage in waiting:
                states, actions, logs = (one.child.memory["move_" + name] for name in ("states", "actions", "logs"))
                self.network.store(states, Choice(actions, logs, 0.0), advantage, self.learning.capacity)
            self.network.learn(self.learning, generator)
        choices = []
        for one in seen:
            states = encoded(one, scaled=self.scaled)
            choice = self.network.choose(states, generator)
            memory = one.child.memory
            memory["move_states"], memory["move_actions"], memory["move_logs"] = states, choice.actions, choice.logs
            choices.append(choice)
        return choices

    def after_move(self, seen: Observation, choice: Choice) -> None:
        """Note where the knobs stand in the period to come."""
        if self._is_bandit(seen):
            self.bandit.wait(seen.child, list(seen.knobs.values()), seen.progress)

    def restart(self) -> None:
        """Forget the run, and with it the bandit, which knows periods of this run only."""
        super().restart()
        self.bandit = Bandit()

    def _is_bandit(self, seen: Observation) -> bool:
        if self.learner != "auto":
            return self.learner == "bandit"
        return len(seen.knobs) <= MOST_KNOBS and not self.frozen

    def save(self, path: str | Path) -> None:
        """Write what REINFORCE learned, and the settings, as one safetensors file; the run's memory stays behind.

        Args:
            path: of the file.

        Raises:
            MetricgradError: where REINFORCE has learned nothing: before its first update, or with the bandit, which
                ``learner="auto"`` takes for up to 10 knobs and which has nothing to carry over.
        """
        if not self._has_learned():
            raise MetricgradError(
                f"this policy (learner={self.learner!r}) has learned nothing by REINFORCE that another run could use; "
                "train with it first, made with learner='reinforce'"
            )
        tensors = {name: self.network.state[name] for name in LEARNED if name in self.network.state}
        serialization.write(path, tensors, {"policy": self.config(), "roles": self.roles})

    @classmethod
    def load(cls, path: str | Path, metric: str | Metric | Callable[..., Any] | None = None, **options: Any) -> Policy:
        """A policy with what another one has learned, for another run, data set or number of classes.

        Args:
            path: written by :meth:`save`.
            metric: what the new run is judged by; by default the old one's.
            options: settings that shall differ from the saved ones. ``frozen`` is True unless it is among them.

        Raises:
            MetricgradError: for a file that is none of ours or has nothing learned in it, or a foreign metric that was
                not passed.

        The file holds REINFORCE's network, so the policy is made with ``learner="reinforce"`` whatever was saved.
        A form whose knobs have other roles than those of the form the policy was trained with is refused.
        """
        file = serialization.read(path, part="policy", writer="Policy.save", metric=metric)
        with file.blamed():
            saved = file.header["policy"]
            if isinstance(saved, dict):
                saved["metric"] = stored_metric(saved.get("metric"), metric) if metric is None else as_metric(metric)
            config = {**checked_arguments(cls, saved, "policy"), "frozen": True, "learner": "reinforce"}
        with file.blamed() if not options else contextlib.nullcontext():  # options are the caller's own
            policy = cls(**{**config, **options})
        with file.blamed():
            file.fill(policy.network.state, {})
            roles = file.header.get("roles")
            if not fits(roles, list[str] | None):
                raise MetricgradError(f"roles are {roles!r:.60}; expected a list of names")
            policy.roles = roles
            if not policy._has_learned():
                raise MetricgradError(
                    "holds a policy that has learned nothing; train one with learner='reinforce' and save it again"
                )
        return policy

    def _has_learned(self) -> bool:
        state = self.network.state
        return "count" in state and int(state["count"]) > 0

    def config(self) -> dict[str, Any]:
        """The keyword arguments, the metric by its spec where it has one."""
        how = self.learning
        return {
            **super().config(), "scaled": self.scaled, "reward": self.rewarding.kind,
            "centred": self.rewarding.centred, "entropy": how.entropy, "importance": how.importance, "lr": how.lr,
            "replay": how.capacity, "updates": how.updates, "batch": how.batch, "learner": self.learner,
            "frozen": self.frozen, "paper": self.paper,
        }  # fmt: skip

    def get_extra_state(self) -> dict[str, Any]:
        """Counters and the reward's running means."""
        return {**super().get_extra_state(), "reward": self.rewarding.state()}

    # its state has more than a turner's
    def set_extra_state(self, state: PolicyState) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Restore them."""
        super().set_extra_state(state)
        self.rewarding.restore(state["reward"])
