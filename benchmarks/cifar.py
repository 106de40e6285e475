"""AdaLFL with ResNet-18 and wide residual networks on CIFAR-10, CIFAR-100 or Fashion-MNIST; for a GPU.

    python benchmarks/cifar.py --source FOLDER --classes 100 --model wrn-16-8 --device cuda

Test error at the end of 100,000 steps at batch 128: SGD at 0.01 with Nesterov momentum 0.9, weight decay 5e-4, rates
divided by ten after half and three quarters of the steps, crops and flips; AdaLFL after 2,500 offline rounds with a
meta-learning rate of 1e-5 (what is known of the paper's schedule comes from code derived from it). Beside it
cross-entropy at each of --rates, the loss learned offline only, and one learned rate. A tenth of the training part is
what aligners learn from; cross-entropy trains on it too. No network is reached unless --source is "hub". A finished run
is stored at once, and a further call goes on; the learning rate to report is chosen on rows set aside (--choose).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn

import metricgrad as mg
from common import Store, interval
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.losses.baselines.task_loss import TaskLoss
from metricgrad.losses.composite.residual import LearnedRate
from metricgrad.tasks.fashion_data import read_fashion
from tasks.cifar.data import read_cifar
from tasks.cifar.model import resnet18, resnet20, wide_resnet

MODELS: dict[str, Callable[[int], nn.Module]] = {
    "resnet18": resnet18,
    "wrn-16-8": lambda classes: wide_resnet(16, 8, classes),
    "wrn-28-10": lambda classes: wide_resnet(28, 10, classes),
    "resnet20": resnet20,
}
LOSSES = ("cross_entropy", "adalfl", "offline_only", "learned_rate")
HELD_OUT = 0.1
Part = tuple[Tensor, Tensor]


def options(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--source", required=True, help="a folder in a layout of tasks.cifar.data, 'fashion', or 'hub'")
    add("--classes", type=int, default=10, help="10 or 100")
    add("--model", choices=MODELS, default="resnet18")
    add("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    add("--rates", nargs="+", type=float, default=[0.01, 0.03, 0.1], help="learning rates every loss tries")
    add("--meta-lr", type=float, default=1e-5)
    add("--steps", type=int, default=100_000)
    add("--offline", type=int, default=2500, help="rounds of the offline start")
    add("--batch", type=int, default=128)
    add("--every", type=int, default=1, help="look ahead after so many steps")
    add("--seeds", type=int, default=3)
    add("--choose", action="store_true", help="score a further tenth of the training part, not the test part")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(words)


def read_images(source: str, classes: int) -> tuple[Part, Part]:
    """Training and test part: ``(N, H, W, 3)`` bytes, and labels. Fashion-MNIST is padded to 32 x 32."""
    if source == "fashion":
        images, labels = read_fashion()
        padded = nn.functional.pad(torch.from_numpy(images), (2, 2, 2, 2))[..., None].expand(-1, -1, -1, 3)
        whole = padded, torch.from_numpy(labels)
        return (whole[0][:60_000], whole[1][:60_000]), (whole[0][60_000:], whole[1][60_000:])
    train, test = (
        (torch.from_numpy(images), torch.from_numpy(labels))
        for images, labels in read_cifar(source if source == "hub" else Path(source), classes)
    )
    return train, test


class Images:
    """A part on the device, as bytes, in standardised batches.

    Args:
        part: images and labels.
        scale: mean and deviation of each channel.
        batch: its size.
        seed: of the draws.
        augment: crops after padding by an eighth, and flips.
    """

    def __init__(self, part: Part, scale: Part, batch: int, seed: int, *, augment: bool) -> None:
        self.inputs, self.targets = part
        self.mean, self.deviation = scale
        self.batch, self.augment = min(batch, len(part[1])), augment
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> Part:
        """A random batch."""
        index = torch.randint(len(self.targets), (self.batch,), generator=self.generator).to(self.targets.device)
        inputs = self.scaled(self.inputs[index])
        return (self._augmented(inputs) if self.augment else inputs), self.targets[index]

    def scaled(self, images: Tensor) -> Tensor:
        """Bytes to ``(N, 3, H, W)`` float."""
        return ((images.float() - self.mean) / self.deviation).permute(0, 3, 1, 2).contiguous()

    def _augmented(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        by = height // 8
        padded = nn.functional.pad(x, (by,) * 4)
        top, left = (torch.randint(2 * by + 1, (n, 1), generator=self.generator).to(x.device) for _ in range(2))
        flip = torch.randint(2, (n, 1), generator=self.generator).to(x.device)
        columns = torch.arange(width, device=x.device).expand(n, -1)
        columns = torch.where(flip > 0, width - 1 - columns, columns) + left
        rows = torch.arange(height, device=x.device) + top
        which = torch.arange(n, device=x.device)[:, None, None]
        return padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()

    def __iter__(self) -> Any:
        """Batches, one pass long."""
        for _ in range(max(1, len(self.targets) // self.batch)):
            yield self.draw()

    def error(self, model: nn.Module) -> float:
        """In percent, the model in eval mode."""
        was = model.training
        model.eval()
        with torch.no_grad():
            wrong = [
                (model(self.scaled(x)).argmax(1) != y).sum()
                for x, y in zip(self.inputs.split(1000), self.targets.split(1000), strict=True)
            ]
        model.train(was)
        return 100 * float(torch.stack(wrong).sum()) / len(self.targets)


def parts_of(o: argparse.Namespace, train: Part, test: Part, seed: int) -> tuple[Images, Images, Images, Images]:
    """Training rows, rows aligners learn from, both together, and rows that are scored."""
    order = torch.randperm(len(train[1]), generator=torch.Generator().manual_seed(seed))
    held = round(HELD_OUT * len(order))
    if o.choose:
        test, order = (train[0][order[:held]], train[1][order[:held]]), order[held:]
    valid, rest = order[:held], order[held:]
    pixels = train[0][rest].double().flatten(0, 2)
    scale = pixels.mean(0).float().to(o.device), pixels.std(0).clamp(min=1).float().to(o.device)

    def images(part: Part, *, augment: bool) -> Images:
        return Images((part[0].to(o.device), part[1].to(o.device)), scale, o.batch, seed, augment=augment)

    return (
        images((train[0][rest], train[1][rest]), augment=True),
        images((train[0][valid], train[1][valid]), augment=False),
        images((train[0][order], train[1][order]), augment=True),
        images(test, augment=False),
    )


def loss_of(o: argparse.Namespace, name: str, lr: float, train: Images, valid: Images, seed: int) -> nn.Module:
    """A fresh one, after its offline start where it has one."""
    if name == "cross_entropy":
        return TaskLoss("classification")
    if name == "learned_rate":
        return mg.Loss(LearnedRate("cross_entropy"), LookAhead(lr=o.meta_lr, every=o.every)).to(o.device)
    loss = mg.AdaLFL(o.classes, paper=True, meta_lr=o.meta_lr, every=o.every, seed=seed).to(o.device)
    loss.offline_start(
        lambda: MODELS[o.model](o.classes).to(o.device),
        lambda parameters: optimizer_of(parameters, lr), train, valid=valid, steps=o.offline,
    )  # fmt: skip
    return loss if name == "adalfl" else mg.Loss(loss.form)


def optimizer_of(parameters: Any, lr: float) -> torch.optim.SGD:
    """The schedule's SGD."""
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)


def train_one(o: argparse.Namespace, name: str, lr: float, data: tuple[Part, Part], seed: int) -> float:
    """The error in percent after all steps."""
    train, valid, both, judged = parts_of(o, *data, seed)
    loss = loss_of(o, name, lr, train, valid, seed)
    torch.manual_seed(seed)
    model = MODELS[o.model](o.classes).to(o.device)
    optimizer = optimizer_of(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [o.steps // 2, o.steps * 3 // 4])
    if isinstance(loss, mg.Loss):
        loss.attach(model, optimizer, valid=valid)
    source = both if name == "cross_entropy" else train
    for _ in track(range(o.steps), f"{name}, rate {lr}, seed {seed}"):
        inputs, targets = source.draw()
        optimizer.zero_grad()
        loss(model(inputs), targets).backward()
        optimizer.step()
        schedule.step()
    return judged.error(model)


def main(words: list[str] | None = None) -> None:
    """Run what is missing, write the JSON."""
    o = options(words)
    data, store = read_images(o.source, o.classes), Store("cifar", o.seeds)
    what = "fashion" if o.source == "fashion" else f"cifar{o.classes}"
    on = "choosing" if o.choose else "test"
    table: dict[str, Any] = {}
    for name, lr in itertools.product(o.losses, o.rates):
        cell = f"{what}/{o.model}/{o.steps} steps/{on}/{name}/{lr}"
        errors = []
        for seed in range(o.seeds):
            key = f"{cell}/{seed}"
            found = store.get(key)
            errors.append(store.add(key, train_one(o, name, lr, data, seed)) if found is None else found)
        table[cell] = interval(errors)
        print(f"{cell:60} error {table[cell]['mean']:.2f} %")
    settings = {k: v for k, v in vars(o).items() if k not in ("source", "device")}
    store.finish(settings=settings, device=str(torch.device(o.device)), errors=table)


if __name__ == "__main__":
    main()
