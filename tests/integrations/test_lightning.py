"""AlignLoss in Lightning's Trainer: what a loop written by hand gives, in one line."""

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import metricgrad as mg
from metricgrad.integrations.lightning import AlignLoss

pytestmark = pytest.mark.filterwarnings("ignore")


def data(n=240):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
    return x, x[:, :3].argmax(1)


X, Y = data()
TRAIN = DataLoader(TensorDataset(X[:160], Y[:160]), batch_size=20)
VALID = DataLoader(TensorDataset(X[160:], Y[160:]), batch_size=40)


def net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


class Classifier(lightning.LightningModule):
    """Somebody's own."""

    def __init__(self, loss, *, by_hand=False):
        super().__init__()
        self.net, self.loss = net(), loss
        self.automatic_optimization = not by_hand

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        x, y = (batch["x"], batch["y"]) if isinstance(batch, dict) else batch
        value = self.loss(self(x), y)
        if self.automatic_optimization:
            return value
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(value)
        optimizer.step()
        return None

    def validation_step(self, batch, index):
        x, y = (batch["x"], batch["y"]) if isinstance(batch, dict) else batch
        self.log("valid", self.loss(self(x), y))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.net.parameters(), lr=0.02)


class Data(lightning.LightningDataModule):
    def train_dataloader(self):
        return TRAIN

    def val_dataloader(self):
        return VALID


def trainer(callback, epochs=2, **options):
    return lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=[callback], **options,
    )  # fmt: skip


LOSSES = {
    "ala": lambda: mg.ALA("accuracy", num_outputs=3, every=2, warm_up=1),
    "adalfl": lambda: mg.AdaLFL(num_outputs=3, lr=1e-2),
    "uniloss": lambda: mg.UniLoss("macro_f1"),
}


def by_hand(loss, accumulate, epochs=2, train=TRAIN):
    """The loop that the trainer runs."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    total = epochs * -(-len(train) // accumulate)
    handle = loss.attach(model, optimizer, valid=VALID, total_steps=total)
    for _ in range(epochs):
        for number, (x, y) in enumerate(train, 1):
            (loss(model(x), y) / accumulate).backward()
            if number % accumulate == 0 or number == len(train):
                optimizer.step()
                optimizer.zero_grad()
    handle.detach()
    return model


@pytest.mark.parametrize(("manual", "accumulate"), [(False, 1), (False, 3), (True, 1)])
@pytest.mark.parametrize("name", LOSSES)
def test_a_module_trains_as_a_loop_by_hand_does(name, manual, accumulate):
    loss, its_own = LOSSES[name](), LOSSES[name]()
    model = by_hand(its_own, accumulate)
    module = Classifier(loss, by_hand=manual)
    options = {} if manual else {"accumulate_grad_batches": accumulate}
    trainer(AlignLoss(), **options).fit(module, datamodule=Data())
    for ours, expected in zip(module.net.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    for ours, expected in zip(loss.form.parameters(), its_own.form.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    assert int(loss.steps) == int(its_own.steps) == 16
    assert loss._training is None


def test_a_module_that_steps_less_often_says_how_many_steps_there_are():
    class Accumulating(Classifier):
        def training_step(self, batch, index):
            self.manual_backward(self.loss(self(batch[0]), batch[1]) / 2)
            if index % 2:
                self.optimizers().step()
                self.optimizers().zero_grad()

    its_own, loss = LOSSES["uniloss"](), LOSSES["uniloss"]()
    model, module = by_hand(its_own, 2), Accumulating(loss, by_hand=True)
    trainer(AlignLoss(total_steps=8)).fit(module, datamodule=Data())
    for ours, expected in zip(module.net.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_microbatches_train_on_the_loss_of_the_whole_batch(name, manual):
    loss, its_own = LOSSES[name](), LOSSES[name]()
    large = DataLoader(TRAIN.dataset, batch_size=80)
    model = by_hand(its_own, 1, train=large)
    module = Classifier(loss, by_hand=manual)
    trainer(AlignLoss(microbatch=20)).fit(module, large, VALID)
    for ours, expected in zip(module.net.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    for ours, expected in zip(loss.form.parameters(), its_own.form.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)
    assert int(loss.steps) == 4
    assert "forward" not in module.__dict__


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_gradients_of_microbatches_are_those_of_the_joined_batch(precision):
    class Keeping(Classifier):
        def on_before_optimizer_step(self, optimizer):
            self.found = [p.grad.clone() for p in self.net.parameters()]

    def gradients(**options):
        module = Keeping(mg.UniLoss("macro_f1"))
        made = trainer(AlignLoss(**options), epochs=1, precision=precision)
        made.fit(module, DataLoader(TRAIN.dataset, batch_size=160))
        return module.found

    near = 1e-6 if precision == "64-true" else 1e-2
    torch.testing.assert_close(gradients(microbatch=30, model="net"), gradients(), rtol=near, atol=near)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
@pytest.mark.parametrize("name", LOSSES)
def test_validation_batches_come_in_the_precision_of_the_trainer(name, precision):
    loss = LOSSES[name]()
    module = Classifier(loss)
    trainer(AlignLoss(), precision=precision).fit(module, datamodule=Data())
    assert int(loss.steps) == 16
    with torch.no_grad():
        assert float(mg.as_metric("accuracy")(module.net.float()(X), Y)) > 0.6


def test_batches_may_be_dicts_and_the_loss_stand_outside():
    class Dicts(torch.utils.data.Dataset):
        def __len__(self):
            return len(X)

        def __getitem__(self, index):
            return {"x": X[index], "y": Y[index]}

    class Plain(Classifier):
        def __init__(self):
            super().__init__(None)

        def training_step(self, batch, index):
            return loss(self.net(batch["x"]), batch["y"])

        def validation_step(self, batch, index):
            pass

    loss = LOSSES["adalfl"]()
    loader = DataLoader(Dicts(), batch_size=40)
    callback = AlignLoss(loss, model="net", valid=loader, forward=lambda model, batch: (model(batch["x"]), batch["y"]))
    trainer(callback, epochs=1).fit(Plain(), loader)
    assert int(loss.aligner.updates) == 6


def test_a_loss_goes_on_where_a_checkpoint_was_written(tmp_path):
    class Outside(Classifier):
        def __init__(self):
            super().__init__(None)
            self.called = None

        def training_step(self, batch, index):
            return self.called(self(batch[0]), batch[1])

        def validation_step(self, batch, index):
            pass

    def run(epochs, loss, checkpoint=None):
        module, callback = Outside(), AlignLoss(loss)
        object.__setattr__(module, "called", loss)
        made = trainer(callback, epochs=epochs)
        made.fit(module, TRAIN, VALID, ckpt_path=checkpoint, weights_only=True)
        return made, module

    loss = LOSSES["adalfl"]()
    first, _ = run(1, loss)
    first.save_checkpoint(tmp_path / "one.ckpt")
    resumed = LOSSES["adalfl"]()
    _, module = run(2, resumed, tmp_path / "one.ckpt")
    assert int(resumed.aligner.updates) == 16
    whole = LOSSES["adalfl"]()
    _, expected = run(2, whole)
    for ours, theirs in zip(module.net.parameters(), expected.net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_without_validation_batches_a_loss_takes_what_it_can():
    class Without(Classifier):
        validation_step = lightning.LightningModule.validation_step

    loss = LOSSES["adalfl"]()
    trainer(AlignLoss(valid=()), epochs=1).fit(Without(loss), TRAIN)
    assert int(loss.aligner.updates) == len(TRAIN)
    judged = LOSSES["ala"]()
    trainer(AlignLoss(), epochs=1).fit(Without(judged), TRAIN, VALID)  # the module itself validates nothing
    assert len(judged.aligner.history["metric"]) == 4


def test_a_loss_that_reads_no_validation_batches_asks_for_no_way_to_score_them():
    class Silent(NoForward):
        validation_step = lightning.LightningModule.validation_step

    loss = LOSSES["uniloss"]()
    trainer(AlignLoss(), epochs=1).fit(Silent(loss), datamodule=Data())
    assert int(loss.steps) == len(TRAIN)


def test_training_that_breaks_off_leaves_the_loss_detached():
    class Broken(Classifier):
        def on_train_epoch_end(self):
            raise RuntimeError("power cut")

    loss = LOSSES["ala"]()
    with pytest.raises(RuntimeError, match="power cut"):
        trainer(AlignLoss()).fit(Broken(loss), datamodule=Data())
    assert loss._training is None


class NoForward(Classifier):
    forward = lightning.LightningModule.forward

    def training_step(self, batch, index):
        return self.loss(self.net(batch[0]), batch[1])


class Around(Classifier):
    def training_step(self, batch, index):
        return self.loss(self.net(batch[0]), batch[1])


class Two(Classifier):
    def __init__(self, loss):
        super().__init__(loss)
        self.other = mg.UniLoss("accuracy")


@pytest.mark.parametrize(
    ("module", "callback", "valid", "message"),
    [
        (NoForward, {}, VALID, r"no forward.*AlignLoss\(model='net'\)"),
        (NoForward, {"microbatch": 8, "valid": ()}, VALID, r"no forward.*AlignLoss\(model='net'\)"),
        (Around, {"microbatch": 8}, VALID, r"has not called the Around that it is for; .*AlignLoss\(model='net'"),
        (Two, {}, VALID, r"losses of metricgrad at loss, other; .*AlignLoss\(loss\)"),
        (Classifier, {"model": "body"}, VALID, "'body', which Classifier has not; its parts are 'net', 'loss'"),
        (Classifier, {"optimizer": 1}, VALID, "optimizer is 1, and Classifier has 1 optimisers"),
        (Classifier, {}, [VALID, VALID], r"2 loaders.*AlignLoss\(valid=loader\)"),
    ],
)
def test_what_cannot_be_told_is_asked_for(module, callback, valid, message):
    class Silent(module):
        validation_step = lightning.LightningModule.validation_step

    Silent.__name__ = module.__name__
    with pytest.raises(mg.MetricgradError, match=message):
        trainer(AlignLoss(**callback)).fit(Silent(LOSSES["ala"]()), TRAIN, valid)
    with pytest.raises(mg.MetricgradError, match="CrossEntropyLoss"):
        AlignLoss(nn.CrossEntropyLoss())
