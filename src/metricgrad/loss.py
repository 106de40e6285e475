"""``Loss(form, aligner)``: the one module users hold.

Every published system that closes the gap between a loss and a metric is a loss form times an aligner. The form is what
the training loss looks like; the aligner is what moves it. UniLoss is an interpolated metric that nothing moves;
ReLoss a network moved by rank correlation before training; AdaLFL a network moved by a hypergradient after every step;
ALA a parametric family moved by a policy. A cell that means nothing is refused with the reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from metricgrad import serialization
from metricgrad.aligners.accumulation import Accumulation
from metricgrad.aligners.base import Aligner, Forward, OfflineStart, TrainingContext, check_cell, default_forward
from metricgrad.aligners.described import DescribedLoss
from metricgrad.aligners.first_calls import FirstCalls
from metricgrad.aligners.isolation import device_of
from metricgrad.aligners.lookahead.optimizer_jacobians import unwrapped
from metricgrad.aligners.static import Static
from metricgrad.aligners.step_hooks import StepHooks
from metricgrad.aligners.training_progress import TrainingProgress
from metricgrad.checks import check_tensor
from metricgrad.distributed import Context, Ranks, apart, bare
from metricgrad.errors import MetricgradError
from metricgrad.handle import Handle
from metricgrad.losses.base import CallContext, Form
from metricgrad.losses.batches import checked_whole
from metricgrad.losses.class_reading import ClassDim, ClassReading, of_metric
from metricgrad.metrics.context import refuse_others, weights_of_items
from metricgrad.on_host import OnHost
from metricgrad.outside_graphs import outside_graphs
from metricgrad.value_range import looked_at_once


class Loss(DescribedLoss):
    """A loss form times an aligner.

    Call it like any loss. Aligners that act during training need one more line, ``loss.attach(model, optimizer)``, and
    the user's own loop stays as it is.

    Args:
        form: what the loss looks like.
        aligner: what moves it; nothing by default.
        seed: of everything random in it. With the step counter, which is in ``state_dict``, it determines every draw.
        gather: in data-parallel training, whether the loss is one of the rows of all ranks (docs/distributed.md).
        process_group: of those ranks, where they are not all there are.
        class_dim: the axis of the classes, 1 or -1; by default what its metric says, or the first batch that leaves no
            doubt, which is kept in ``state_dict``.
        ignore_index: targets of this number are left out; by default what its metric says.

    Raises:
        MetricgradError: for a cell of the grid that means nothing.

    Example:
        >>> import torch, metricgrad as mg
        >>> loss = mg.UniLoss("accuracy", softness=1.0)
        >>> scores = torch.tensor([[2.0, 0.0], [0.5, 1.0]], requires_grad=True)
        >>> value = loss(scores, torch.tensor([0, 0]))
        >>> value.backward()
        >>> bool(scores.grad[1, 0] < 0)  # raise the score of the class that should have won
        True
    """

    def __init__(
        self, form: Form, aligner: Aligner | None = None, *, seed: int = 0, gather: bool = True,
        process_group: dist.ProcessGroup | None = None, class_dim: ClassDim | None = None,
        ignore_index: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        aligner = Static() if aligner is None else aligner
        check_cell(form, aligner)
        self.form, self.aligner = form, aligner
        self.seed = checked_whole("seed", seed)
        #: Whose rows it is of: ``gather`` and ``process_group``.
        self.ranks = Ranks(gather, process_group)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self._steps = OnHost(int)
        self.classes = ClassReading(of_metric(form, aligner), class_dim=class_dim, ignore_index=ignore_index)
        self._progress = TrainingProgress()
        self._training: TrainingContext | None = None
        self._hooks: StepHooks | None = None
        self._first, self._accumulation = FirstCalls(), Accumulation(form)
        #: Whether NaN among scores or targets of the first calls is an error.
        self.check_finite = True
        #: The share of training that weights which change with it take for done; None: what it is attached to says.
        self.progress: float | None = None
        aligner.bind(self)

    def __getstate__(self) -> dict[str, Any]:
        """A copy, by ``copy.deepcopy`` or pickle, is attached to nothing."""
        return {**self.__dict__, "_training": None, "_hooks": None, "_accumulation": Accumulation(self.form)}

    def forward(self, scores: Tensor, targets: Tensor, **context: Tensor | None) -> Tensor:
        """The loss of one batch.

        Args:
            scores: logits, shaped as :mod:`metricgrad.metrics.metric` says; classes on axis 1 or last.
            targets: class numbers, 0/1 targets or values.
            context: ``groups``, ``mask``, ``sample_weight``, ``head_sizes`` where the metric takes them.

        Returns:
            0-d, computed outside autocast; in float32 for scores of half precision, otherwise in their dtype; the
            gradient is cast to it. Calls under ``no_grad`` or in eval mode are no steps, and never communicate. Under
            ``torch.compile`` the loss is outside the graph. A loss moves to the device of its scores.
        """
        return self._value(scores, targets, context)

    @outside_graphs
    @looked_at_once()
    def _value(self, scores: Tensor, targets: Tensor, context: Context) -> Tensor:
        counts = self.training and torch.is_grad_enabled()
        if not counts or self.ranks.count == 1:
            return self._of_read(*self._read(scores, targets, context), counts)
        joined = self.ranks.joined(self, lambda: self._read(scores, targets, context))
        with apart():
            return self._of_read(*joined, counts)

    def _read(self, scores: Tensor, targets: Tensor, context: Context) -> tuple[Tensor, Tensor, Context]:
        check_tensor("scores", scores)
        check_tensor("targets", targets)
        self._follow(scores.device)
        return self.classes.read(scores, targets, weights_of_items(context))

    def _of_read(self, scores: Tensor, targets: Tensor, context: Context, counts: bool) -> Tensor:
        notes = None
        if counts:
            self._accumulation.called()
            self._first.look(self.form, self.aligner, scores, targets, context, check_finite=self.check_finite)
            if self._hooks is not None:
                self._hooks.run_last_before_step()
            notes = self.aligner.before_loss_call(self.form)
        share = self._progress.share if self.progress is None else self.progress
        call = CallContext(self.seed, self._steps.of(self.steps), counts, share, notes)
        half, device = scores.dtype in (torch.float16, torch.bfloat16), scores.device.type  # float32, as torch's own
        with torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else contextlib.nullcontext():
            value = self.form(scores.float() if half else scores, targets, call=call, **context)
        if counts:
            self.aligner.on_loss_call(scores, targets, context, call, value)
            self._steps.wrote(self.steps.add_(1), call.step + 1)
        return value

    def _follow(self, device: torch.device) -> None:
        """Go where the scores are, with all that was learned; nothing happens on a loss that is there already."""
        if self.steps.device != device:
            with torch.inference_mode(False):
                self.to(device)

    def attach(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, *, valid: Iterable[Any] | None = None,
        forward: Forward | None = None, total_steps: int | None = None,
    ) -> Handle:  # fmt: skip
        """Let the aligner act around every step of the user's own optimiser.

        Args:
            model: the model that is trained.
            optimizer: its optimiser, of several the one that counts; its steps are untouched. With another than before
                what the loss remembers is forgotten, and a policy begins anew, unless its state was loaded.
            valid: validation batches, any iterable.
            forward: ``forward(model, batch) -> (scores, targets)``; by default a batch is (inputs, targets).
            total_steps: how many optimiser steps there will be. Weights that change while training runs, as of
                ``mg.forms.Anchored``, go by it; a loss that has been through as many begins anew.

        Raises:
            MetricgradError: where the loss is attached already, or the aligner cannot work with this training.
        """
        if self._training is not None:
            raise MetricgradError("this loss is attached already; call detach() on the handle of the first attachment")
        if total_steps is not None:
            checked_whole("total_steps", total_steps, least=1)
        optimizer = unwrapped(optimizer)
        if not isinstance(model, nn.Module) or not isinstance(optimizer, torch.optim.Optimizer):
            raise MetricgradError(
                f"model is a {type(model).__name__} and optimizer a {type(optimizer).__name__}; pass the module and a "
                "torch optimiser of its parameters, in this order: loss.attach(model, optimizer)"
            )
        self._first.attended, self._first.judged = True, valid is not None and self.aligner.reads_valid
        self._follow(device_of(list(model.parameters())))
        training = TrainingContext(self, bare(model), optimizer, valid, forward or default_forward, total_steps)
        self.aligner.attached(training)
        hooks = StepHooks(self.aligner, training)
        counted = self._progress.follow(optimizer, total_steps, anew=self.form.forget)
        watched = self._accumulation.follow(optimizer)
        self._training, self._hooks = training, hooks

        def remove() -> None:
            hooks.remove()
            counted.detach()
            watched.detach()
            self.aligner.detached(training)
            self._training = self._hooks = None

        return Handle(remove)

    def step(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any, valid_batch: Any = None, *,
        forward: Forward | None = None,
    ) -> Tensor:  # fmt: skip
        """Exactly one optimiser step on one batch, the aligner included; returns the 0-d loss, detached."""
        with self._for_one_step(model, optimizer, valid_batch, forward):
            optimizer.zero_grad()
            value = self(*(forward or default_forward)(model, batch))
            value.backward()
            optimizer.step()
        return value.detach()

    @contextlib.contextmanager
    def _for_one_step(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, valid_batch: Any, forward: Forward | None
    ) -> Iterator[None]:
        if self._training is not None:
            with self.aligner.judged_on(valid_batch):
                yield
            return
        if (reason := self.aligner.needs_attachment()) is not None:
            raise MetricgradError(reason)
        handle = self.attach(model, optimizer, valid=None if valid_batch is None else [valid_batch], forward=forward)
        try:
            yield
        finally:
            handle.detach()

    def observe(
        self, valid_scores: Tensor, valid_targets: Tensor, progress: float | None = None, **others: object
    ) -> None:  # fmt: skip
        """Give the aligner feedback by hand, on every rank; ``progress`` is the share of training; others raise."""
        refuse_others(others, "observe", ("valid_scores", "valid_targets", "progress"))
        check_tensor("valid_scores", valid_scores)
        check_tensor("valid_targets", valid_targets)
        self._first.attended = True
        scores, targets, _ = self.ranks.joined(self, lambda: (*self.classes.pair(valid_scores, valid_targets), {}))
        self.aligner.observe(self.form, scores, targets, progress)

    def prepare(self, scores: Tensor, targets: Tensor, *, groups: Tensor | None = None) -> None:
        """Let the aligner fit the form before training, from stored scores and targets.

        Args:
            scores: stored scores of a trained model.
            targets: their true targets.
            groups: ``(N,)`` integers, which rows belong together: see :meth:`metricgrad.ReLoss.fit`.

        Warns:
            UserWarning: where the aligner fits nothing before training.
        """
        check_tensor("scores", scores)
        check_tensor("targets", targets)
        self._follow(scores.device)
        self._first.attended = True
        self.aligner.prepare(self.form, *self.classes.pair(scores, targets), groups=groups)

    def offline_start(
        self, make_model: Callable[[], nn.Module], make_optimizer: Callable[[Any], torch.optim.Optimizer],
        batches: Iterable[Any], *, steps: int = 2500, inner: int = 1, keep: int = 20, lr: float = 1e-3,
        valid: Iterable[Any] | None = None, forward: Forward | None = None,
    ) -> list[float]:  # fmt: skip
        """Learn the loss on other models before the one that counts is trained (AdaLFL's Algorithm 1).

        Each round takes ``inner`` steps of a model with the loss as it is, and moves the loss down the gradient of the
        objective the stepped model reaches. A model serves ``keep`` rounds: after the paper's one, the loss knows the
        scores of untrained models alone, and on the digits two trainings in ten failed.

        Args:
            make_model: zero-argument factory; weights made in round n follow from the aligner's seed and n.
            make_optimizer: ``parameters -> Optimizer``, or ``model -> Optimizer``.
            batches: training batches, any iterable that can be iterated again.
            steps: rounds; the paper's S_init.
            inner: optimiser steps in a round; the paper's S_inner. More than one is unrolled.
            keep: rounds before the model is made anew; 1 is the paper's.
            lr: of Adam on the loss; its moments are dropped afterwards.
            valid: validation batches; by default each round is judged on the next training batch.
            forward: as in :meth:`attach`.

        Returns:
            The objective after each round.

        Raises:
            MetricgradError: where the aligner has none, as all but LookAhead.
        """
        given = make_model, make_optimizer, batches, steps, inner, keep, lr, valid, forward or default_forward
        self._first.attended = True
        return self.aligner.offline_start(self, OfflineStart(*given))

    def report(self) -> dict[str, Any]:
        """What was measured when the loss was fitted, saved with it: see :meth:`metricgrad.ReLoss.report`.

        Raises:
            MetricgradError: where nothing was.
        """
        if not (report := getattr(self.aligner, "report", None)):
            raise MetricgradError("nothing was measured of this loss; ReLoss.fit(metric, scores, targets) measures it")
        return report

    def described(self) -> dict[str, Any]:
        """What builds this loss again, JSON-able; refused where :meth:`save` refuses."""
        from metricgrad.grid import describe  # all forms, of which whoever saves none has imported one

        return {**describe(self.form, self.aligner), "seed": self.seed, **self.classes.described()}

    def save(self, path: str | Path, *, note: str = "") -> None:
        """Write the loss as one safetensors file whose header says, in JSON, how to build it again.

        Args:
            path: of the file.
            note: kept in the header: how the loss was made.

        Raises:
            MetricgradError: for a form that cannot be built from JSON, such as a hand-made module.
        """
        state = self.undescribed_state()
        tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)}
        extra = {k: v for k, v in state.items() if k not in tensors}
        serialization.write(path, tensors, {**self.described(), "extra": extra, "note": note})
