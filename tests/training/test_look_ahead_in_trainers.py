"""AdaLFL under fit, a LightningModule of one's own, the Hugging Face Trainer, and compare."""

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import metricgrad as mg
from tests.aligners.lookahead import unrolled


def _data(n=240):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 6, generator=generator)
    return x, x[:, :3].argmax(1)


def _net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def test_in_fit_and_a_resumed_run_ends_where_an_undisturbed_one_does(tmp_path):
    x, y = _data()
    parts = (x[:160], y[:160]), (x[160:], y[160:])
    options = {"metric": "accuracy", "lr": 0.05, "epochs": 4, "batch_size": 32, "progress": False, "device": "cpu"}

    def loss():
        return mg.AdaLFL(num_outputs=3, residual=True, lr=1e-2)

    whole = loss()
    result = mg.fit(_net(), *parts, loss=whole, out=tmp_path / "whole", **options)
    assert result.valid > 0.85
    assert int(whole.aligner.updates) == 20
    left = [11]

    def dies(model, batch):
        left[0] -= model.training
        if left[0] < 0:
            raise KeyboardInterrupt
        return model(batch[0]), batch[1]

    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        mg.fit(_net(), *parts, loss=loss(), out=broken, forward=dies, **options)
    left[0] = 10_000
    resumed = mg.fit(_net(), *parts, loss=loss(), out=broken, forward=dies, **options)
    for a, b in zip(result.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


class Module(lightning.LightningModule):
    """Somebody's own, with automatic optimisation."""

    def __init__(self, loss, net, valid, whole):
        super().__init__()
        self.net, self.loss, self.valid, self.whole = net, loss, valid, whole
        self.handle, self.norms = None, []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        x, y = batch
        return self.loss(self(x) if self.whole else self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.net.parameters(), lr=0.02)

    def on_fit_start(self):
        model = self if self.whole is not None else self.net
        optimizer = self.optimizers()
        self.handle = self.loss.attach(model, optimizer, valid=self.valid)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("whole", [True, False, None])
@pytest.mark.parametrize(("clip", "accumulate"), [(None, 1), (1e-3, 2)])
def test_in_a_lightning_module_with_automatic_optimisation(whole, clip, accumulate):
    x, y = _data()
    loss, net = mg.AdaLFL(num_outputs=3).double(), _net().double()
    valid = [(x[160:].double(), y[160:])]
    batches = DataLoader(TensorDataset(x[:160].double(), y[:160]), batch_size=40)
    module = Module(loss, net, valid, whole)
    some = list(batches)[:accumulate]
    expected = unrolled.hypergradient(
        net, module.configure_optimizers(), loss.form, some, valid[0], nn.functional.cross_entropy,
        factor=1 / accumulate, clip=clip,
    )  # fmt: skip
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, gradient_clip_val=clip, accumulate_grad_batches=accumulate, precision="64-true",
    )  # fmt: skip
    trainer.fit(module, batches)
    assert int(loss.aligner.updates) == 1
    for a, b in zip(loss.aligner.last_hypergradient, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-14)


@pytest.mark.filterwarnings("ignore")
def test_in_the_hugging_face_trainer(tmp_path):
    import transformers  # takes seconds to import

    x, y = _data()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = _net()

        def forward(self, x, labels=None):
            return {"logits": self.body(x)}

    loss, net = mg.AdaLFL(num_outputs=3), Net()

    class Trainer(transformers.Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
            outputs = model(x=inputs["x"])
            value = loss(outputs["logits"], inputs["labels"])
            return (value, outputs) if return_outputs else value

    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
    valid = [{"x": x[160:], "labels": y[160:]}]
    loss.attach(net, optimizer, valid=valid, forward=lambda m, b: (m(x=b["x"])["logits"], b["labels"]))
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=5, per_device_train_batch_size=16, gradient_accumulation_steps=2,
        report_to=[], save_strategy="no", use_cpu=True, max_grad_norm=1e-3, remove_unused_columns=False,
        disable_tqdm=True,
    )  # fmt: skip
    rows = [{"x": a, "labels": b} for a, b in zip(x[:160], y[:160], strict=True)]
    Trainer(net, arguments, train_dataset=rows, optimizers=(optimizer, None)).train()
    assert int(loss.aligner.updates) == 5
    assert all(row["hypergradient_norm"] > 0 for row in loss.aligner.history)


def test_in_compare(tmp_path):
    table = mg.compare(
        "diabetes", losses=["adalfl"], trials=1, seeds=1, out=tmp_path, controls=False, progress=False
    )  # fmt: skip
    (row,) = [run for run in table.runs if run["loss"] == "adalfl"]
    assert row["test"] is not None
    assert "meta_lr" in row["params"]
