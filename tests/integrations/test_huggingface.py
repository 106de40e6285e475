"""Losses of ours in transformers.Trainer, against the loop that it runs, on sentences and on their words."""

import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers", reason="the Hugging Face integration needs transformers")
from transformers.modeling_outputs import CausalLMOutput, SequenceClassifierOutput, TokenClassifierOutput  # noqa: E402

import metricgrad as mg  # noqa: E402
from metricgrad.integrations.huggingface import AlignLoss, compute_loss_func  # noqa: E402
from metricgrad.training.chunked_forward import ChunkedForward  # noqa: E402
from tests.integrations.sentences import classified, model, tagged  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
DATA = {"sequence": classified(), "token": tagged()}


def arguments(folder, **options):
    given = {
        "max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "max_grad_norm": 0.0, "seed": 0,
        "logging_steps": 1, "logging_strategy": "steps", "report_to": [], "save_strategy": "no", "use_cpu": True,
        "disable_tqdm": True, "lr_scheduler_type": "constant", "bf16": False, "fp16": False, **options,
    }  # fmt: skip
    return transformers.TrainingArguments(output_dir=str(folder), **given)


class Ordered(transformers.Trainer):
    """The rows in their order, so that a loop by hand sees the same."""

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trained(kind, loss, folder, *, callbacks=(), optimizer=torch.optim.SGD, **options):
    net = model(kind)
    made = Ordered(
        net, arguments(folder, **options), train_dataset=DATA[kind], compute_loss_func=compute_loss_func(loss),
        optimizers=(optimizer(net.parameters(), lr=1e-2), None), callbacks=list(callbacks),
    )  # fmt: skip
    made.train()
    return net, [row["loss"] for row in made.state.log_history if "loss" in row]


def batches(kind, size=8):
    rows = transformers.default_data_collator
    return [rows(DATA[kind][i : i + size]) for i in range(0, len(DATA[kind]), size)]


def by_hand(kind, loss, accumulate, steps=4, *, attach=False):
    net = model(kind)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    if attach:
        loss.attach(net, optimizer, valid=batches(kind)[-2:], forward=_forward, total_steps=steps)
    logged, given = [], batches(kind)
    for step in range(steps):
        own = given[step * accumulate : (step + 1) * accumulate]
        total = sum(int((batch["labels"] != -100).sum()) for batch in own)
        values = []
        for batch in own:
            scores, labels = _forward(net, batch)
            value = loss(scores, labels) * (len(labels) / total)
            if attach:
                loss.aligner.on_loss_share(float(torch.tensor(len(labels) / total)))
            value.backward()
            values.append(float(value.detach()))
        optimizer.step()
        optimizer.zero_grad()
        logged.append(sum(values))
    return net, logged


def _forward(net, batch):
    scores = net(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    kept = batch["labels"] != -100
    return scores[kept], batch["labels"][kept]


LOSSES = {
    "uniloss": lambda: mg.UniLoss("macro_f1"),
    "cross-entropy": nn.CrossEntropyLoss,
    "foreign": lambda: lambda scores, targets: nn.functional.multi_margin_loss(scores, targets),
}


@pytest.mark.parametrize(("name", "kind", "accumulate"), [
    ("uniloss", "sequence", 1), ("uniloss", "sequence", 2), ("uniloss", "token", 2),
    ("cross-entropy", "token", 2), ("foreign", "sequence", 1),
])  # fmt: skip
def test_it_trains_and_logs_as_a_loop_by_hand(name, kind, accumulate, tmp_path):
    net, logged = trained(kind, LOSSES[name](), tmp_path, gradient_accumulation_steps=accumulate)
    expected, values = by_hand(kind, LOSSES[name](), accumulate)
    assert logged == pytest.approx(values, abs=2e-4)  # the trainer rounds what it logs
    for ours, theirs in zip(net.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_microbatches_train_on_the_loss_of_the_whole_batch(kind, bf16, tmp_path):
    found, options = [], {"per_device_train_batch_size": 24, "max_steps": 2, "bf16": bf16}
    for microbatch in (None, 7):
        loss = mg.UniLoss("macro_f1")
        callback = AlignLoss(loss, microbatch=microbatch)
        net, logged = trained(kind, loss, tmp_path, callbacks=[callback], **options)
        found.append((list(net.parameters()), logged))
        assert int(loss.steps) == 2
        assert not isinstance(net.forward, ChunkedForward)
    near = {"rtol": 1e-2, "atol": 1e-3} if bf16 else {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(*found, **near)


@pytest.mark.parametrize(("kind", "accumulate"), [("sequence", 1), ("token", 2)])
@pytest.mark.parametrize("make", [
    lambda: mg.ALA("accuracy", num_outputs=3, every=1, warm_up=0),
    lambda: mg.AdaLFL(num_outputs=3, lr=1e-2),
], ids=["ala", "adalfl"])  # fmt: skip
def test_a_callback_aligns_the_loss(make, kind, accumulate, tmp_path):
    loss, its_own = make(), make()
    _, logged = trained(
        kind, loss, tmp_path, gradient_accumulation_steps=accumulate,
        callbacks=[AlignLoss(compute_loss_func(loss), valid=batches(kind)[-2:])],
    )  # fmt: skip
    _, values = by_hand(kind, its_own, accumulate, attach=True)
    assert logged == pytest.approx(values, abs=2e-4)
    if isinstance(loss.aligner, mg.aligners.LookAhead):
        assert int(loss.aligner.updates) == 4
    for ours, theirs in zip(loss.form.parameters(), its_own.form.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
    assert loss._training is None


def test_bf16_and_clipping(tmp_path):
    loss = mg.AdaLFL(num_outputs=3, lr=1e-2)
    valid = batches("token")[-2:]
    _, logged = trained(
        "token", loss, tmp_path, bf16=True, max_grad_norm=0.1, callbacks=[AlignLoss(loss, valid=valid)],
        gradient_accumulation_steps=2,
    )  # fmt: skip
    assert len(logged) == 4
    assert all(0 < value < 2 for value in logged)
    assert int(loss.aligner.updates) == 4


def test_uniloss_learns_what_it_is_judged_by(tmp_path):
    metric = mg.as_metric("macro_f1", ignore_index=-100)
    rows = transformers.default_data_collator(DATA["token"])

    def judged(net):
        with torch.no_grad():
            scores = net(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).logits
        return float(metric(scores, rows["labels"]))

    loss, before = mg.UniLoss("macro_f1"), judged(model("token"))
    net, _ = trained(
        "token", loss, tmp_path, optimizer=torch.optim.AdamW, max_steps=60, per_device_train_batch_size=24,
        callbacks=[AlignLoss(loss)],
    )  # fmt: skip
    assert judged(net) > before + 0.2


def test_a_resumed_training_goes_on_with_the_loss(tmp_path):
    def run(folder, steps, resume=None, *, checkpoint=False, lr=1e-2):
        loss = mg.AdaLFL(num_outputs=3, lr=lr)
        net = model("sequence")
        made = Ordered(
            net, arguments(folder, max_steps=steps, save_strategy="steps", save_steps=2, logging_steps=1),
            train_dataset=DATA["sequence"], compute_loss_func=compute_loss_func(loss),
            callbacks=[AlignLoss(loss, valid=batches("sequence")[-2:], checkpoint=resume if checkpoint else None)],
        )  # fmt: skip
        made.train(resume_from_checkpoint=resume)
        return net, loss

    run(tmp_path / "broken", 2)
    resumed = run(tmp_path / "broken", 4, resume=True)
    whole = run(tmp_path / "whole", 4)
    assert int(resumed[1].aligner.updates) == 4
    elsewhere = run(tmp_path / "new", 4, resume=str(tmp_path / "broken" / "checkpoint-2"), checkpoint=True)
    for others in (resumed, elsewhere):
        for ours, theirs in zip(whole, others, strict=True):
            for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
                torch.testing.assert_close(a, b)
    with pytest.warns(UserWarning, match=r"goes on at step 2, but there is no .*checkpoint=folder"):
        run(tmp_path / "nothing", 4, resume=str(tmp_path / "broken" / "checkpoint-2"))
    run(tmp_path / "other", 2, lr=0.5)
    with pytest.warns(UserWarning, match=r"checkpoint-2.* is of another training"):
        run(tmp_path / "other", 4, resume=str(tmp_path / "broken" / "checkpoint-2"))


def test_label_smoothing_that_the_trainer_leaves_out_is_said(tmp_path):
    loss = mg.UniLoss("macro_f1")
    with pytest.warns(UserWarning, match=r"label_smoothing_factor is 0\.1, and the trainer leaves it out"):
        _, smoothed = trained("sequence", loss, tmp_path, callbacks=[AlignLoss(loss)], label_smoothing_factor=0.1)
    plain = mg.UniLoss("macro_f1")
    assert smoothed == trained("sequence", plain, tmp_path, callbacks=[AlignLoss(plain)])[1]


def test_outputs_of_all_kinds_have_their_logits_found():
    scores, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, -100])
    loss = compute_loss_func(mg.UniLoss("accuracy"))
    kept = mg.as_metric("accuracy", ignore_index=-100)
    expected = 1 - float(kept(scores, labels))
    outputs = SequenceClassifierOutput(logits=scores)
    for form in (outputs, outputs.to_tuple(), {"logits": scores}, scores):
        assert float(loss(form, labels)) == pytest.approx(expected)
    assert float(loss(outputs, labels, num_items_in_batch=6)) == pytest.approx(expected / 2)
    assert float(loss(outputs, labels, torch.tensor(6))) == pytest.approx(expected / 2)
    with pytest.raises(mg.MetricgradError, match="no logits"):
        loss({"hidden": scores}, labels)
    with pytest.raises(mg.MetricgradError, match="no 'labels'"):
        loss(outputs, None)


def test_labels_of_this_rank_alone_are_counted_as_those_of_all(monkeypatch):
    scores, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 3
    inner = mg.UniLoss("macro_f1")
    alone = float(mg.UniLoss("macro_f1")(scores.clone().requires_grad_(), labels).detach())
    monkeypatch.setattr(inner.ranks, "mean", lambda parts: [(part + 9.0) / 2 for part in parts])  # the other has 9
    found = compute_loss_func(inner)({"logits": scores.requires_grad_()}, labels, num_items_in_batch=torch.tensor(5))
    assert float(found.detach()) == pytest.approx(alone)


def test_a_causal_language_model_is_refused():
    outputs = CausalLMOutput(logits=torch.randn(2, 5, 7))
    with pytest.raises(mg.MetricgradError, match=r"next token.*outputs.logits\[:, :-1\]"):
        compute_loss_func(mg.UniLoss("accuracy"))(outputs, torch.zeros(2, 5, dtype=torch.long))


def test_as_many_tags_as_tokens_are_tags_last():
    g = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(2, 5, 5, generator=g), torch.randint(5, (2, 5), generator=g)
    found = compute_loss_func(mg.UniLoss("accuracy"))(TokenClassifierOutput(logits=scores), labels)
    assert float(found) == pytest.approx(1 - float((scores.argmax(-1) == labels).double().mean()))


def test_regression_and_several_labels():
    scores, values = torch.tensor([[1.0], [-100.0]]), torch.tensor([[0.0], [-100.0]])
    assert float(compute_loss_func(nn.MSELoss())({"logits": scores}, values)) == 0.5
    yes = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    found = compute_loss_func(mg.UniLoss("micro_f1"))({"logits": yes - 0.5}, yes)
    assert float(found) == float(mg.UniLoss("micro_f1")(yes - 0.5, yes))


def test_what_is_no_loss_is_refused():
    with pytest.raises(mg.MetricgradError, match="expected a loss"):
        compute_loss_func("uniloss")
    with pytest.raises(mg.MetricgradError, match="CrossEntropyLoss, which nothing aligns"):
        AlignLoss(nn.CrossEntropyLoss())


def test_the_decision_of_the_page_is_fitted_on_what_the_trainer_predicts(tmp_path):
    made = Ordered(
        model("token"), arguments(tmp_path), train_dataset=DATA["token"],
        compute_loss_func=compute_loss_func(mg.UniLoss("macro_f1")),
    )  # fmt: skip
    made.train()
    found = made.predict(DATA["token"])
    scores, targets = torch.from_numpy(found.predictions), torch.from_numpy(found.label_ids)
    metric = mg.as_metric("macro_f1", ignore_index=-100, class_dim=-1)
    decision = mg.fit_decision(metric, scores, targets, method="offsets")
    kept = targets != -100
    rows = mg.fit_decision("macro_f1", scores[kept], targets[kept], method="offsets")
    assert decision.config() == rows.config()
    assert torch.equal(decision.predict(scores)[kept], rows.predict(scores[kept]))
