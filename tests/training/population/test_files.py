"""A population that is interrupted ends where an undisturbed one does, looped or stacked; and what it writes."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import metricgrad as mg
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix
from metricgrad.training.population.fit_population import fit_population
from metricgrad.training.population.run import PopulationRun
from tests.training.test_fit import PowerCutError, problem, without_seconds

STEPS = 6


def _network():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))


def _normalised():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def _loss(learner="bandit", form=None):
    return mg.ALA("accuracy", form, None if form is None else 3, every=4, warm_up=0, learner=learner)


def _fit(loss, **options):
    settings = {"metric": "accuracy", "children": 3, "epochs": 4, "batch_size": 20, "lr": 0.02, "progress": False}
    return fit_population(options.pop("make", _network), *problem(), loss=loss, **(settings | options))


def _power_cut(monkeypatch, steps):
    """The power goes after so many steps from here."""
    after_step, left = PopulationRun.after_step, [steps]

    def dies(run, *args):
        left[0] -= 1
        if left[0] < 0:
            raise PowerCutError
        after_step(run, *args)

    monkeypatch.setattr(PopulationRun, "after_step", dies)


def _interrupted(monkeypatch, loss, *, at, **options):
    with monkeypatch.context() as patch:
        _power_cut(patch, at)
        with pytest.raises(PowerCutError):
            _fit(loss, **options)


def _assert_same(found, expected):
    assert found.stacked is expected.stacked
    assert found.histories == expected.histories
    for one, other in zip(found.results, expected.results, strict=True):
        assert without_seconds(one.history) == without_seconds(other.history)
        assert one.decision.described() == other.decision.described()
        assert one.decision.report() == other.decision.report()
        for name, value in one.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[name]), name
    ours, theirs = (one.loss.aligner.state_dict() for one in (found, expected))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name], name


@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize(
    ("make_loss", "options"),
    [
        (_loss, {"copy_best": 2}),
        (lambda: _loss("reinforce", CorrelationMatrix(3)), {"make": _normalised}),
        (lambda: mg.ALA("accuracy", None, None, every=4, warm_up=0, aligner="random_walk"), {"patience": 3}),
    ],
    ids=["bandit", "reinforce", "walk"],
)
def test_an_interrupted_population_ends_where_an_undisturbed_one_does(
    tmp_path, monkeypatch, stacked, make_loss, options
):
    options = {"stacked": stacked, **options}
    expected = _fit(make_loss(), **options)
    assert any(len(set(values)) > 1 for values in expected.histories[0]["knobs"].values())
    _interrupted(monkeypatch, make_loss(), at=STEPS + 3, out=tmp_path, **options)
    torch.manual_seed(99)
    _interrupted(monkeypatch, make_loss(), at=STEPS + 1, out=tmp_path, **options)
    found = _fit(make_loss(), out=tmp_path, **options)
    _assert_same(found, expected)
    again = _fit(make_loss(), out=tmp_path, **options)  # finished: nothing is trained
    _assert_same(again, expected)
    assert [r.history for r in again.results] == [r.history for r in found.results]


def test_a_resumed_population_trains_as_it_was_begun(tmp_path, monkeypatch):
    """Whatever a second timing would say."""
    options = {"stacked": "auto", "out": tmp_path}
    kinds = [type("Other", (torch.optim.AdamW,), {}), torch.optim.AdamW]
    for kind in kinds:
        kind.__qualname__ = "AdamW"
    _interrupted(monkeypatch, _loss(), at=STEPS + 1, optimizer=kinds[0], **options)  # none of torch's: looped
    monkeypatch.setattr("metricgrad.training.population.start._seconds", lambda kind, *_: kind.__name__ == "Looped")
    assert not _fit(_loss(), optimizer=kinds[1], **options).stacked
    assert _fit(_loss(), optimizer=kinds[1], stacked="auto").stacked


def test_the_loss_of_a_resumed_population_begins_its_next_training_anew(tmp_path, monkeypatch):
    _interrupted(monkeypatch, _loss(), at=STEPS + 1, out=tmp_path)
    loss = _loss()
    _fit(loss, out=tmp_path)
    assert loss.aligner.state.steps == 4 * STEPS
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    loss.attach(_network(), optimizer).detach()
    assert loss.aligner.state.steps == 0


def test_the_folder_holds_the_best_child_and_every_childs_values(tmp_path):
    found = _fit(_loss(), out=tmp_path)
    assert found.best.path == tmp_path
    weights = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in found.best.model.state_dict().items())
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["history"] == found.best.history
    assert record["config"]["children"] == 3
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header == "epoch,child,train_loss,valid"
    assert len(rows) == 3 * 4
    last = [float(row.split(",")[3]) for row in rows if row.startswith("3,")]
    assert sorted(last) == sorted(result.history[-1]["valid"] for result in found.results)
    shown = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(shown.Scalars(f"valid/{child}")[-1].value for child in range(3)) == pytest.approx(sorted(last))
    assert not list(tmp_path.glob("*.part"))


def test_another_population_and_foreign_files_are_refused(tmp_path):
    _fit(_loss(), out=tmp_path)
    with pytest.raises(mg.MetricgradError, match=r"children was 3 and is now 2.*resume=False"):
        _fit(_loss(), out=tmp_path, children=2)
    with pytest.raises(mg.MetricgradError, match=r"lr was 0.02 and is now 0.001; .*children, stacked too"):
        mg.fit(_network(), *problem(), metric="accuracy", loss=_loss(), out=tmp_path, progress=False)
    assert len(_fit(_loss(), out=tmp_path, children=2, resume=False).results) == 2
    (tmp_path / "last.ckpt").unlink()
    with pytest.raises(mg.MetricgradError, match=r"no last\.ckpt.*resume=False"):
        _fit(_loss(), out=tmp_path, children=2)

    class Evil:
        def __reduce__(self):
            return (print, ("unpickled",))

    other = tmp_path / "other"
    other.mkdir()
    torch.save({"metricgrad": Evil()}, other / "last.ckpt")
    with pytest.raises(mg.MetricgradError, match=r"no checkpoint of ours.*resume=False"):
        _fit(_loss(), out=other)
