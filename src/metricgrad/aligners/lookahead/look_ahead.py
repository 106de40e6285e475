"""AdaLFL's aligner: after each optimiser step, move the loss down the gradient of what the step should have lowered."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from metricgrad.aligners.base import AlignedLoss, Aligner, Forward, OfflineStart, TrainingContext, default_forward
from metricgrad.aligners.isolation import device_of, parameters_of
from metricgrad.aligners.lookahead.adam_of_form import MetaAdam
from metricgrad.aligners.lookahead.attachment import Attachment
from metricgrad.aligners.lookahead.clipping import CLIPPINGS, Clipping
from metricgrad.aligners.lookahead.dry_run import DryRun
from metricgrad.aligners.lookahead.forward_mode import ForwardMode
from metricgrad.aligners.lookahead.history import History, LookAheadResult, SkippedStepError
from metricgrad.aligners.lookahead.offline_start import offline_start
from metricgrad.aligners.lookahead.optimizer_jacobians import unwrapped
from metricgrad.aligners.lookahead.proof import AT_A_KINK
from metricgrad.aligners.lookahead.validation_gradient import Objective
from metricgrad.aligners.validation_batches import EndlessBatches, checked_batches
from metricgrad.errors import MetricgradError
from metricgrad.losses.base import CallContext, Form
from metricgrad.losses.batches import checked_number, checked_whole
from metricgrad.on_host import OnHost
from metricgrad.serialization import rename_keys


class LookAhead(Aligner):
    r"""Moves a loss by the exact gradient of a validation objective through each optimiser step.

    .. math:: \phi \leftarrow \phi - \eta \nabla_\phi\, \mathrm{objective}(y, f_{\theta'}(X_{val})), \qquad
        \theta' = U(\theta, \nabla_\theta M_\phi)

    U is the user's own SGD, Adam or AdamW, its state, weight decay and this very step's learning rate included, and
    gradient clipping, accumulation and scaled losses as well. The training step itself is untouched.

    Use it with :meth:`metricgrad.Loss.attach` where validation batches are at hand, and any form that has parameters.
    Parameters that are knobs stay within what the form allows (:meth:`metricgrad.losses.base.Form.project`).

    It looks one step ahead, so it favours losses that pay at once (short-horizon bias), and overshoots with momentum;
    ``steps`` looks further. Validation data it learns from is training data of a kind: keep another part to choose an
    epoch by.

    Args:
        objective: what a step should lower: ``"task"`` (cross-entropy or squared error by the form's kind, otherwise
            by shapes and targets), ``"cross_entropy"``, ``"mse"``, or any differentiable loss of scores and targets,
            called as :mod:`metricgrad.losses.calling` says: ``UniLoss(metric)`` or a fitted ``ReLoss`` meta-learns
            toward the metric itself. Without validation batches it gets the mask and the other context of the
            training call too, and refuses what it does not take.
        lr: the meta-learning rate of Adam. The paper's 1e-5 is for 10^5 steps; at 1,000 steps it does nothing.
        clip: largest norm of the hypergradient; None does not clip.
        every: move the loss after every so many optimiser steps; with ``steps`` at least as many.
        steps: look through so many optimiser steps at once, unrolled by double backward. They must be unclipped, and
            validation batches are needed. A run is resumed exactly only where it was saved between two windows.
        clipping: what a common factor on the gradients between backward and step means: ``"scale"``, ``"norm"``,
            ``"norm_1"``, ``"norm_inf"`` or ``"auto"``; see :func:`metricgrad.aligners.lookahead.clipping.clipping_vjp`.
            The norm may be over all the model's gradients, also where the optimiser holds some of its parameters only.
        exact: False replaces the forward-mode pass by a one-sided difference: one plain forward pass, and an error of
            about 1e-3 in float32.
        seed: of the order of validation batches.

    Validation batches go through the model in the mode it is in, on copies of its buffers.

    A step whose hypergradient cannot be told is passed over: the loss stays as it is, ``last_hypergradient`` is empty,
    and the first time a warning says why; not where a rectified unit stood within rounding of its kink, so that our
    forward pass took it on the other side, which the next twenty proofs show. What another loss puts into the gradients
    is taken not to depend on this one. Of several optimisers over one model it looks through the attached one's step,
    the other parameters held as they are: step it first, or give one optimiser all parameters, in groups.

    Cost: one forward and backward pass on the validation batch and one forward-mode pass on the training batch: a step
    takes about three times as long; on a CPU convolutions of images are in channels-last memory here. Memory: a copy of
    the parameters, and the objective's gradient (and, once gradients were changed between backward and step, by
    clipping for one, a copy of them from then on); under SGD without clipping that of linear layers with more units
    than the batch has rows is kept as factors, which are smaller. With ``steps`` above 1 a double backward through all
    of them instead, whose graphs are kept meanwhile.

    Raises:
        MetricgradError: for settings out of range; when attached to an optimiser it has no rule for, or under FSDP.

    References:
        C. Raymond, Q. Chen, B. Xue and M. Zhang, "Meta-Learning Adaptive Loss Functions", TMLR 2025, Algorithms 1 and
        2. Ours: the gradient is taken without unrolling; the meta-learning rate is 1e-3; any objective.
    """

    kind: ClassVar[str] = "look_ahead"
    valid_like_train: ClassVar[bool] = True
    optimizer_steps: Tensor
    cursor: Tensor

    def __init__(
        self,
        *,
        objective: Literal["task", "cross_entropy", "mse"] | nn.Module | Callable[[Tensor, Tensor], Tensor] = "task",
        lr: float = 1e-3, clip: float | None = None, every: int = 1, steps: int = 1, clipping: Clipping = "auto",
        exact: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if clipping not in CLIPPINGS:
            raise MetricgradError(f"clipping is {clipping!r}; expected one of {', '.join(map(repr, CLIPPINGS))}")
        self.objective = objective  # a module is one of this module's, with its state
        self.lr, self.clip = checked_number("lr", lr, zero=True), None if clip is None else checked_number("clip", clip)
        self.clipping: Clipping = clipping
        self.every, self.steps = checked_whole("every", every, least=1), checked_whole("steps", steps, least=1)
        self.exact, self.seed = exact, seed
        self.adam = MetaAdam(self.lr, self.clip)
        self.register_buffer("optimizer_steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("cursor", torch.zeros(2, dtype=torch.long))
        self._steps, self.recorded = OnHost(int), History()
        self.last_hypergradient: list[Tensor] = []
        self._of: tuple[AlignedLoss, ...] = ()
        self._said: set[str] = {AT_A_KINK}  # kinds of passed-over steps that are told no more
        self._attachment = Attachment(Objective(objective), clipping, exact=exact, steps=steps)

    def unattached(self) -> dict[str, Any]:
        """Nothing looked at."""
        return {"last_hypergradient": []}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        rename_keys(state_dict, prefix, {"place": "cursor"})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._attachment.go_on(paused=self._leaves_out)  # a training that was attached before goes on from there

    def refusal(self, form: Form) -> str | None:
        """Only what has parameters can be moved by their gradient."""
        return None if next(form.parameters(), None) is not None else "the form has no parameters to move"

    def bind(self, loss: AlignedLoss) -> None:
        """Make room for the moments of the form's parameters, so that a saved state fits before the first step."""
        if self._of:
            raise MetricgradError("this LookAhead belongs to another loss already; make one for each loss")
        self._of = (loss,)
        self.adam.make_room(list(loss.form.parameters()))
        self._attachment.objective.bind(loss.form)

    def config(self) -> dict[str, Any]:
        """The keyword arguments.

        Raises:
            MetricgradError: for an objective that is a foreign module or function.
        """
        rest = ("lr", "clip", "every", "steps", "clipping", "exact", "seed")
        return {"objective": self._attachment.objective.described(), **{name: getattr(self, name) for name in rest}}

    @property
    def updates(self) -> Tensor:
        """How many times the loss was moved; 0-d."""
        return self.adam.updates

    @property
    def history(self) -> list[dict[str, float]]:
        """One row for each look ahead: objective, gradient norms and implied learning rate; not saved.

        The implied learning rate is NaN, but at every tenth look, where gradients of wide layers are kept as factors:
        it would take longer than all the rest.
        """
        return self.recorded.rows

    def plot(self, path: str | Path) -> Path:
        """The history and the learned loss's shape as one PNG."""
        return self.recorded.plot(path, self._loss().form)

    def unattended(self) -> str | None:
        """A loss that was never moved is the random or plain one it was made as."""
        if self._attachment.step is not None or int(self.updates):
            return None
        return (
            "this loss is moved by LookAhead, and nothing moves it: it was never attached, so the model trains on the "
            "loss as it was made, a random network for AdaLFL; call loss.attach(model, optimizer, valid=batches) "
            "before the first step"
        )

    def needs_attachment(self) -> str | None:
        """A window of several steps lies across calls of ``step``."""
        why = f"LookAhead(steps={self.steps}) needs a training that stays attached: call attach() once, then step()"
        return None if self.steps == 1 else why

    def attached(self, training: TrainingContext) -> None:
        """Begin to record the training.

        Raises:
            MetricgradError: for an optimiser without a rule, under FSDP, or with ``steps`` above 1 on several ranks or
                without validation batches.
        """
        if training.valid is not None:
            checked_batches(training.valid, training.forward)
        elif "no valid" not in self._said:
            self._said.add("no valid")
            warnings.warn(
                "LookAhead has no validation batches (valid=): it judges each step on the training batch that the step "
                "was taken on, which rewards a loss that overfits; pass valid=batches to attach",
                stacklevel=3,
            )
        device = device_of(list(training.model.parameters()))
        valid = None if training.valid is None else EndlessBatches(training.valid, self.cursor, self.seed, device)
        self._attachment.begin(training, valid, paused=self._leaves_out)

    def detached(self, training: TrainingContext) -> None:
        """Stop recording."""
        self._attachment.end()

    def before_loss_call(self, form: Form) -> dict[Form, Any] | None:
        """Keep the form as it is before the call."""
        recorder = self._attachment.recorder
        return None if recorder is None else recorder.before_loss_call(form)

    def on_loss_call(
        self, scores: Tensor, targets: Tensor, context: Mapping[str, Tensor | None], call: CallContext, value: Tensor
    ) -> None:
        """Record a call of the loss."""
        if (recorder := self._attachment.recorder) is not None:
            recorder.on_loss_call(scores, targets, context, call, value)

    def on_loss_share(self, share: float) -> None:
        """Note it with the call."""
        if (recorder := self._attachment.recorder) is not None and recorder.losses:
            recorder.losses[-1].share = share

    def offline_start(self, loss: AlignedLoss, start: OfflineStart) -> list[float]:
        """AdaLFL's Algorithm 1: see :meth:`metricgrad.Loss.offline_start`."""
        ahead = functools.partial(self._dry_run().hypergradient, fresh=ForwardMode(self.exact))
        return offline_start(loss, start, ahead, seed=self.seed)

    def before_step(self, training: TrainingContext) -> None:
        """Keep what the step will overwrite."""
        if (step := self._attachment.live) is not None:
            self._attachment.before_step(step)

    def after_step(self, training: TrainingContext) -> None:
        """Move the loss."""
        if (step := self._attachment.live) is None:
            return
        ahead = self._attachment.look_ahead(step, self.given)
        if ahead is not None:
            self._move(training.loss.form, ahead)
        if step.why is not None:
            self._passed_over(step.why)
        steps = self._steps.of(self.optimizer_steps) + 1
        self._steps.wrote(self.optimizer_steps.add_(1), steps)
        self._attachment.next_step(step, paused=self._leaves_out)

    @property
    def _leaves_out(self) -> bool:
        return self._steps.of(self.optimizer_steps) % max(self.every, self.steps) >= self.steps

    def _passed_over(self, why: SkippedStepError) -> None:
        self.last_hypergradient = []
        if why.kind not in self._said:
            warnings.warn(f"LookAhead passes over this step and leaves the loss as it is: {why}", stacklevel=4)
        self._said.add(why.kind)

    def hypergradient(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch: Any,
        valid_batch: Any = None,
        *,
        forward: Forward | None = None,
    ) -> tuple[Tensor, ...]:
        """What LookAhead would move the form by, for the optimiser step from the model's present state on a batch.

        The model, its gradients and buffers, the optimiser's state, the loss and the random state are left as they are.

        Args:
            model: as it is before the step.
            optimizer: likewise.
            batch: the training batch.
            valid_batch: the validation batch; the training batch by default.
            forward: as in :meth:`metricgrad.Loss.attach`.

        Returns:
            The gradient of the objective, one tensor for each of ``loss.form.parameters()``.
        """
        return tuple(
            self._dry_run().hypergradient(model, optimizer, [batch], valid_batch, forward or default_forward)[0]
        )

    def unrolled(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Sequence[Any],
        valid_batch: Any,
        *,
        forward: Forward | None = None,
    ) -> tuple[Tensor, ...]:
        """:meth:`hypergradient` through one step on each batch in turn, by double backward: the slow reference.

        Gradients are not clipped, and the model, the optimiser and the random state are left as they are.
        """
        return tuple(
            self._dry_run().unrolled(model, unwrapped(optimizer), batches, valid_batch, forward or default_forward)[0]
        )

    def _dry_run(self) -> DryRun:
        return DryRun(self._loss(), self._attachment)

    def _loss(self) -> AlignedLoss:
        if not self._of:
            raise MetricgradError("this LookAhead has no loss yet; make one: Loss(form, LookAhead())")
        return self._of[0]

    def _move(self, form: Form, ahead: LookAheadResult) -> None:
        self.last_hypergradient = ahead.gradients
        step = self._steps.of(self.optimizer_steps)
        self.adam.move(parameters_of(form), ahead.gradients, ahead.hypergradient_norm)
        form.project()
        self.recorded.note(step, ahead, form)
        if not ahead.hypergradient_norm < float("inf"):
            warnings.warn(
                f"the hypergradient is not finite at optimiser step {step}, so the loss stays as "
                "it is; lower the learning rate of the model or lr of LookAhead",
                stacklevel=2,
            )
