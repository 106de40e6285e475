"""fit: what it delivers, what it writes, and that an interrupted run ends where an undisturbed one does."""

import json
import math
import signal
import warnings

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import metricgrad as mg
from metricgrad.training.fit import fit
from metricgrad.training.result import FitResult


def problem(classes=3, n=240, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator)
    y = (x[:, :classes] + 0.5 * torch.randn(n, classes, generator=generator)).argmax(1)
    half = n // 2
    return (x[:half], y[:half]), (x[half:], y[half:])


def network(outputs=3):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, outputs))


def settings(**more):
    return {"metric": "accuracy", "loss": "margin", "lr": 0.02, "epochs": 6, "batch_size": 32, "progress": False} | more


def weights(result):
    return torch.cat([p.detach().flatten() for p in result.model.state_dict().values()])


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


class PowerCutError(Exception):
    pass


def dies_after(batches):
    """A forward that fails once it has been called more often than this."""
    left = [batches]

    def forward(model, batch):
        left[0] -= 1
        if left[0] < 0:
            raise PowerCutError
        return model(batch[0]), batch[1]

    return forward


def test_best_weights_are_delivered_and_history_is_complete():
    train, valid = problem()
    result = fit(network(), train, valid, **settings())
    assert [row["epoch"] for row in result.history] == list(range(6))
    assert all(row["train_loss"] > 0 and row["seconds"] > 0 for row in result.history)
    assert result.valid_undecided == max(row["valid"] for row in result.history)
    assert result.evaluate_both(valid).undecided == pytest.approx(result.valid_undecided)
    assert result.valid_undecided > 0.6


@pytest.mark.parametrize("kind", ["tensors", "loader", "seeded_loader", "dataset"])
def test_resumed_run_ends_where_an_undisturbed_one_does(tmp_path, kind):
    train, valid = problem()

    def data():
        whole = TensorDataset(*train)
        return {
            "tensors": train,
            "dataset": whole,
            "loader": DataLoader(whole, batch_size=32, shuffle=True),
            "seeded_loader": DataLoader(whole, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(9)),
        }[kind]

    whole = fit(network(), data(), valid, **settings())
    for batches in (12, 4):  # dies in the third epoch, then again in the fourth
        torch.manual_seed(batches)
        with pytest.raises(PowerCutError):
            fit(network(), data(), valid, **settings(out=tmp_path, forward=dies_after(batches)))
    assert (tmp_path / "last.ckpt").exists()
    torch.manual_seed(99)
    resumed = fit(network(), data(), valid, **settings(out=tmp_path))
    assert without_seconds(resumed.history) == without_seconds(whole.history)
    assert torch.equal(weights(resumed), weights(whole))
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 7


def test_learned_loss_state_travels(tmp_path):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))

        def forward(self, scores, targets):
            if self.training:
                self.steps += 1
            return nn.functional.cross_entropy(scores, targets) * (1 + self.steps % 3)

    train, valid = problem()
    whole = Counts()
    expected = fit(network(), train, valid, **settings(loss=whole))
    with pytest.raises(PowerCutError):
        fit(network(), train, valid, **settings(loss=Counts(), out=tmp_path, forward=dies_after(13)))
    resumed = Counts()
    result = fit(network(), train, valid, **settings(loss=resumed, out=tmp_path))
    assert int(resumed.steps) == int(whole.steps) == 24
    assert torch.equal(weights(result), weights(expected))


def test_finished_run_comes_back_without_training(tmp_path):
    train, valid = problem()
    first = fit(network(), train, valid, **settings(out=tmp_path))
    again = fit(network(), train, valid, **settings(out=tmp_path, forward=dies_after(0)))
    assert torch.equal(weights(again), weights(first))
    assert again.history == first.history
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["schema"] == 2
    assert record["metric"] == "accuracy"


def test_tensorboard_reads_the_curves_of_a_run_that_was_taken_up(tmp_path):
    train, valid = problem()
    with pytest.raises(PowerCutError):
        fit(network(), train, valid, **settings(out=tmp_path, forward=dies_after(13)))
    result = fit(network(), train, valid, **settings(out=tmp_path))
    shown = EventAccumulator(str(tmp_path)).Reload()
    for name in ("train_loss", "valid"):
        assert [point.step for point in shown.Scalars(name)] == [row["epoch"] for row in result.history]
        assert [point.value for point in shown.Scalars(name)] == pytest.approx([row[name] for row in result.history])


def test_another_configuration_is_refused_by_name_until_resume_is_off(tmp_path):
    train, valid = problem()
    fit(network(), train, valid, **settings(out=tmp_path))
    with pytest.raises(mg.MetricgradError, match=r"lr was 0\.02 and is now 0\.05.*resume=False"):
        fit(network(), train, valid, **settings(out=tmp_path, lr=0.05))
    with pytest.raises(mg.MetricgradError, match="train was"):
        fit(network(), (train[0] + 1, train[1]), valid, **settings(out=tmp_path))
    fit(network(), train, valid, **settings(out=tmp_path / "learned", loss=mg.AdaLFL(meta_lr=0.1, residual=True)))
    with pytest.raises(mg.MetricgradError, match="loss was"):
        fit(network(), train, valid, **settings(out=tmp_path / "learned", loss=mg.AdaLFL(meta_lr=0.2, residual=True)))
    anew = fit(network(), train, valid, **settings(out=tmp_path, lr=0.05, resume=False))
    assert len(anew.history) == 6


def test_a_result_says_in_one_line_what_it_is():
    result = FitResult(torch.nn.Linear(4, 3), mg.as_metric("accuracy"), history=[{"epoch": 0, "valid": 0.5}])
    assert repr(result) == "FitResult(Linear, valid accuracy 0.5000, decision identity, 1 epochs)"
    decided = FitResult(torch.nn.Linear(4, 3), mg.as_metric("accuracy"), mg.decisions.Offsets([0.0, 0.5, 1.0]))
    assert "valid accuracy nan (nan without), decision offsets, 0 epochs" in repr(decided)


def test_foreign_checkpoint_is_not_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("unpickled",))

    torch.save({"metricgrad": Evil()}, tmp_path / "last.ckpt")
    train, valid = problem()
    with pytest.raises(mg.MetricgradError, match=r"no checkpoint of ours.*resume=False"):
        fit(network(), train, valid, **settings(out=tmp_path))


def test_threshold_is_chosen_on_validation_and_delivered():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=generator)
    y = (x[:, 0] > 1.5).long()
    model = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[0, 0] = 1.0
        model[0].bias.zero_()
    result = fit(model, (x, y), (x, y), metric="f1", loss="margin", lr=1e-9, epochs=1, progress=False)
    below, above = x[:, 0][y == 0].max(), x[:, 0][y == 1].min()
    assert result.valid == 1.0
    assert below - 0.05 < result.threshold < above + 0.05
    f1 = mg.as_metric("f1")
    assert float(f1(model(x) - result.threshold, y)) == result.evaluate((x, y)) == 1.0
    assert torch.equal(result.predict_scores(x.numpy()), model(x).detach())
    assert torch.equal(result.predict(x.numpy()), y)
    assert float(f1(model(x), y)) < 0.5


def test_a_decision_can_be_given_or_left_out():
    binary = [(x, (y > 0).long()) for x, y in problem()]
    given = fit(network(1), *binary, **settings(metric="f1", epochs=2, decision=mg.decisions.Threshold(0.25)))
    assert given.threshold == 0.25
    assert given.evaluate(binary[1]) == pytest.approx(given.valid) == max(row["valid"] for row in given.history)
    assert given.evaluate_both(binary[1]) == pytest.approx((given.valid, given.valid_undecided))
    assert "threshold, as given" in given.decision.report()
    plain = fit(network(1), *binary, **settings(metric="f1", epochs=2, decision="none"))
    assert plain.decision.kind == "identity"
    assert plain.threshold is None
    assert plain.valid == plain.valid_undecided == max(row["valid"] for row in plain.history)
    assert plain.evaluate(binary[1]) == pytest.approx(plain.valid)


def test_lower_is_better_and_nan_is_never_best():
    values = iter([math.nan, 3.0, 1.0, 2.0, math.nan, math.nan])
    metric = mg.as_metric(lambda scores, targets: next(values), higher_is_better=False, name="scripted")
    train, valid = problem()
    result = fit(network(), train, valid, **settings(metric=metric))
    assert result.valid == 1.0


def test_all_nan_is_an_error():
    metric = mg.as_metric(lambda scores, targets: math.nan, higher_is_better=True, name="undefined")
    with pytest.raises(mg.MetricgradError, match="NaN on valid in every epoch"):
        fit(network(), *problem(), **settings(metric=metric, epochs=2))


def test_patience_stops_early():
    values = iter([0.5, 0.6, 0.1, 0.1, 0.9, 0.9])
    metric = mg.as_metric(lambda scores, targets: next(values), higher_is_better=True, name="scripted")
    result = fit(network(), *problem(), **settings(metric=metric, patience=2))
    assert len(result.history) == 4
    assert result.valid == pytest.approx(0.6)


def test_non_finite_loss_names_lr():
    with pytest.raises(mg.MetricgradError, match=r"non-finite.*lr=0\.02"):
        fit(network(), *problem(), **settings(loss=lambda: Explodes()))


class Explodes(nn.Module):
    def forward(self, scores, targets):
        return scores.sum() * math.inf


def test_callers_random_state_is_left_alone_and_does_not_matter():
    train, valid = problem()
    torch.manual_seed(5)
    np.random.seed(5)
    first = fit(network(), train, valid, **settings())
    model = network()
    torch.manual_seed(123)
    before = torch.get_rng_state()
    second = fit(model, train, valid, **settings())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights(first), weights(second))


def test_ctrl_c_is_a_keyboard_interrupt_and_the_run_goes_on_later(tmp_path):
    def interrupted(model, batch):
        if (tmp_path / "last.ckpt").exists():
            raise KeyboardInterrupt
        return model(batch[0]), batch[1]

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(network(), *problem(), **settings(out=tmp_path, forward=interrupted))
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(fit(network(), *problem(), **settings(out=tmp_path)).history) == 6


def test_optimizer_factory_and_dict_batches():
    train, valid = problem()
    batches = [{"x": x, "y": y} for x, y in zip(train[0].split(32), train[1].split(32), strict=True)]
    held = [{"x": valid[0], "y": valid[1]}]
    result = fit(
        network(),
        batches,
        held,
        **settings(
            optimizer=lambda params: torch.optim.SGD(params, lr=0.5),
            forward=lambda model, batch: (model(batch["x"]), batch["y"]),
        ),
    )
    assert result.evaluate_both(held).undecided == pytest.approx(result.valid_undecided)
    assert result.valid_undecided > 0.5


def test_loss_with_attach_is_attached_and_detached():
    class Handle:
        detached = False

        def detach(self):
            self.detached = True

    class Attached(nn.CrossEntropyLoss):
        def attach(self, model, optimizer, *, valid, forward=None, total_steps=None):
            self.seen = (type(optimizer).__name__, len(list(valid)), total_steps)
            self.handle = Handle()
            return self.handle

    loss = Attached()
    fit(network(), *problem(), **settings(loss=loss))
    assert loss.seen == ("AdamW", 1, 24)
    assert loss.handle.detached


def test_nothing_is_printed(capfd, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        fit(network(), *problem(), **settings(out=tmp_path, epochs=2))
        fit(network(), *problem(), **settings(epochs=2, progress=True))
    out, err = capfd.readouterr()
    assert out == ""
    assert "isinstance" not in err
    assert "workers" not in err
    assert "GPU" not in err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": 0}, "lr is 0; expected a finite number above 0"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; expected a finite number from 0"),
        ({"epochs": -1}, "epochs is -1; expected a whole number above 0"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"patience": 0}, "patience is 0"),
        ({"decision": "best"}, "decision is 'best'; expected 'auto', 'none', 'threshold'"),
        (
            {"decision": "threshold"},
            "method 'threshold' does not serve scores .* one of 'identity', 'offsets'",
        ),
        ({"device": "abacus"}, "device='abacus' cannot be used here"),
        ({"loss": "cross_entropi"}, "did you mean cross_entropy"),
        ({"loss": 3}, "loss must be"),
        ({"metric": "acuracy"}, "did you mean accuracy"),
    ],
)
def test_bad_arguments_say_what_to_do(change, words):
    with pytest.raises(mg.MetricgradError, match=words):
        fit(network(), *problem(), **settings(**change))


def test_bad_data_says_which_part():
    train, valid = problem()
    with pytest.raises(mg.MetricgradError, match=r"train has 120 inputs but 3 targets"):
        fit(network(), (train[0], train[1][:3]), valid, **settings())
    with pytest.raises(mg.MetricgradError, match="valid is a int"):
        fit(network(), train, 3, **settings())


def test_batches_that_are_no_pairs_ask_for_a_forward():
    train, valid = problem()
    batches = [{"inputs": train[0], "labels": train[1]}]
    with pytest.raises(mg.MetricgradError, match="a batch of type dict is no"):
        fit(network(), batches, valid, **settings())
    with_words = settings(forward=lambda model, batch: (model(batch["inputs"]), batch["labels"]), epochs=1)
    judged = [{"inputs": valid[0], "labels": valid[1]}]
    assert fit(network(), batches, judged, **with_words).evaluate(judged) > 0


@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_refuses_a_model_that_begins_with_other_weights(tmp_path, finished):
    train, valid = problem()
    if finished:
        model = network()
        result = fit(model, train, valid, **settings(out=tmp_path))
        again = fit(model, train, valid, **settings(out=tmp_path))  # the trained one is known again
        assert torch.equal(weights(again), weights(result))
    else:
        with pytest.raises(PowerCutError):
            fit(network(), train, valid, **settings(out=tmp_path, forward=dies_after(12)))
    other = network()
    with torch.no_grad():
        other[0].weight[0, 0] += 1e-3
    before = [value.clone() for value in other.state_dict().values()]
    with pytest.raises(
        mg.MetricgradError, match=r"initial weights was '\w{8}' and is now '\w{8}'\. Make the model from"
    ):
        fit(other, train, valid, **settings(out=tmp_path))
    assert all(map(torch.equal, before, other.state_dict().values()))
    assert len(fit(network(), train, valid, **settings(out=tmp_path)).history) == 6
    assert len(fit(other, train, valid, **settings(out=tmp_path, resume=False)).history) == 6


@pytest.mark.parametrize("finished", [True, False])
def test_folders_of_a_version_that_did_not_write_the_weights_go_on(tmp_path, finished, monkeypatch):
    train, valid = problem()
    with monkeypatch.context() as old:
        old.setattr("metricgrad.training.run_folder.fingerprints.WEIGHTS", "forgotten")
        if finished:
            fit(network(), train, valid, **settings(out=tmp_path))
            path = tmp_path / "result.json"
            record = json.loads(path.read_text())
            del record["config"]["forgotten"], record["delivered"], record["output"]
            path.write_text(json.dumps(record))
        else:
            with pytest.raises(PowerCutError):
                fit(network(), train, valid, **settings(out=tmp_path, forward=dies_after(12)))
            checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
            del checkpoint["metricgrad"]["config"]["forgotten"]
            torch.save(checkpoint, tmp_path / "last.ckpt")
    result = fit(network(), train, valid, **settings(out=tmp_path))
    assert len(result.history) == 6
    assert torch.equal(result.predict(valid[0]), result.decision(result.model(valid[0])).argmax(1))


def test_fit_gives_the_loss_back_as_it_was():
    loss = mg.UniLoss("accuracy")
    x, y = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
    mg.fit(nn.Linear(3, 2), (x, y), (x, y), metric="accuracy", loss=loss, epochs=1, progress=False)
    assert loss.form.form.check_finite
