"""The catalogue's names, and which rows a comparison gets."""

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.knobs.policy import Policy
from metricgrad.aligners.knobs.random_walk import RandomWalk
from metricgrad.aligners.static import Static
from metricgrad.comparison.candidates import average, averaged_loss, candidates, maker
from metricgrad.comparison.catalogue import role_of, space_of
from metricgrad.losses.baselines.margin import Margin
from metricgrad.losses.composite.residual import LearnedRate
from metricgrad.systems.by_name import REGISTRY, find, make_loss
from metricgrad.tasks.registry import get_task
from tests.tables.frames import people

ACCURACY = mg.as_metric("accuracy")


def rows(losses, task="digits", metric="macro_f1", controls=True):
    return [(row.name, row.role) for row in candidates(losses, get_task(task), mg.as_metric(metric), controls=controls)]


def test_the_blind_control_joins_a_new_loss_and_no_other():
    assert rows(["cross_entropy", "uniloss"]) == [
        ("cross_entropy", "candidate"),
        ("uniloss", "candidate"),
        ("uniloss_margin", "control"),
    ]
    assert rows(["cross_entropy"]) == [("cross_entropy", "candidate")]
    assert rows(["cross_entropy", "uniloss"], controls=False)[-1] == ("uniloss", "candidate")
    assert rows(["margin", "uniloss"])[0] == ("cross_entropy", "candidate")
    assert rows(["mse", "uniloss"], task="diabetes", metric="accuracy")[-1] == ("uniloss", "candidate")


def test_ala_is_run_beside_its_controls():
    assert rows(["cross_entropy", "ala"], task="digits-noisy", metric="accuracy") == [
        ("cross_entropy", "candidate"),
        ("ala", "candidate"),
        ("ala_random_walk", "control"),
        ("ala_static", "control"),
    ]
    assert role_of("ala:aligner=random_walk", ACCURACY) == "control"
    assert isinstance(make_loss("ala", ACCURACY, seed=3).aligner, Policy)
    walk = make_loss("ala_random_walk", ACCURACY, seed=3)
    assert isinstance(walk.aligner, RandomWalk)
    assert walk.aligner.settings.seed == 3
    assert isinstance(make_loss("ala_static", ACCURACY).aligner, Static)
    tuned = make_loss("ala_grid", ACCURACY, exponent=0.7)
    assert [(name, round(float(k.parameter), 3)) for name, k in tuned.form.knobs().items()] == [("exponent", 0.7)]
    with pytest.raises(mg.MetricgradError, match=r"exponent is 2\.0"):
        make_loss("ala_grid", ACCURACY, exponent=2.0)


def test_adalfl_is_run_beside_a_learned_rate():
    assert rows(["cross_entropy", "adalfl"]) == [
        ("cross_entropy", "candidate"),
        ("adalfl", "candidate"),
        ("adalfl_rate", "control"),
    ]
    rate = make_loss("adalfl_rate", ACCURACY, meta_lr=0.02)
    assert isinstance(rate.form, LearnedRate)
    assert rate.aligner.lr == make_loss("adalfl", ACCURACY, meta_lr=0.02).aligner.lr == 0.02
    scores, targets = torch.randn(6, 3), torch.arange(6) % 3
    assert float(rate(scores, targets)) == pytest.approx(float(nn.functional.cross_entropy(scores, targets)))


def test_trees_of_a_table_are_standard_and_claim_nothing_of_the_metric():
    pytest.importorskip("lightgbm", reason="the opponent of tables")
    task = mg.task_of_table(people(60), target="left", metric="f1")
    (row,) = candidates(["lightgbm"], task, ACCURACY, controls=True)
    assert row.standard
    assert set(row.space) >= {"learning_rate", "num_leaves"}
    with pytest.raises(mg.MetricgradError, match="unknown loss 'lightgbm'"):
        rows(["lightgbm"])


def test_an_average_asks_for_no_control_and_is_named_by_what_it_is_of():
    (row, *_) = candidates(["uniloss"], get_task("digits"), ACCURACY, controls=False)[1:]
    mean = average(row, 3)
    assert (mean.name, mean.controls, mean.claims, mean.standard) == ("uniloss x3", (), False, False)
    assert averaged_loss(mean.name) == ("uniloss", 3)


@pytest.mark.parametrize("start", ["triplet", "distance_margin"])
def test_losses_of_embeddings_with_ala_are_run_beside_a_random_walk(start):
    metric = mg.as_metric("retrieval_recall:k=1")
    assert rows([start, f"ala_{start}"], task="digits-retrieval", metric=metric) == [
        (start, "candidate"),
        (f"ala_{start}", "candidate"),
        (f"ala_{start}:aligner=random_walk", "control"),
    ]
    ours, walk = (make_loss(f"ala_{start}:aligner={kind}", metric, seed=3) for kind in ("policy", "random_walk"))
    assert isinstance(ours.aligner, Policy)
    assert isinstance(walk.aligner, RandomWalk)
    embeddings, classes = torch.randn(12, 4), torch.arange(12) % 3
    assert float(ours(embeddings, classes)) == pytest.approx(float(make_loss(start, metric)(embeddings, classes)))
    own = next(iter(space_of(start)))
    tuned = make_loss(f"ala_{start}", metric, **{own: 0.7})
    assert getattr(tuned.form, own) == 0.7


def test_another_metric_makes_a_control():
    assert role_of("uniloss:metric=accuracy", mg.as_metric("macro_f1")) == "control"
    assert role_of("uniloss:metric=accuracy", ACCURACY) == "candidate"
    assert rows(["cross_entropy", "uniloss:metric=accuracy"])[1][1] == "control"


def test_what_a_spec_fixes_is_not_tuned():
    assert set(space_of("margin")) == {"softness"}
    assert space_of("margin:softness=0.5") == {}
    loss = make_loss("margin:softness=0.5", ACCURACY, softness=2.0)
    assert isinstance(loss, Margin)
    assert loss.softness == 0.5


def test_every_entry_says_what_it_is_and_tunes_what_it_takes():
    for name, entry in REGISTRY.items():
        assert entry.summary, name
        assert entry.kinds, name
        for bounds in entry.space.values():
            assert 0 < bounds.low < bounds.default < bounds.high, name
    for name in ("mse", "mae", "margin", "uniloss"):
        make_loss(name, ACCURACY, **{key: bounds.default for key, bounds in space_of(name).items()})


@pytest.mark.parametrize("spec", ["uniloss:sofness=1", "margin:temperature=2"])
def test_unknown_parameters_are_refused(spec):
    with pytest.raises(mg.MetricgradError, match=r"takes .*softness"):
        find(spec)


def test_a_module_is_copied_for_each_run():
    module = nn.CrossEntropyLoss()
    (row, *_) = candidates([module, "cross_entropy"], get_task("digits"), ACCURACY, controls=False)
    assert row.name == "CrossEntropyLoss"
    made = maker(module, get_task("digits"), ACCURACY)({}, 0, None)
    assert isinstance(made, nn.CrossEntropyLoss)
    assert made is not module


def test_margin_by_hand():
    scores = torch.tensor([2.0, -1.0, 0.5], requires_grad=True)
    targets = torch.tensor([1, 1, 0])
    items = torch.sigmoid(torch.tensor([-2.0, 1.0, 0.5])).mean()
    assert torch.allclose(Margin()(scores, targets), items)
    pairs = torch.sigmoid(torch.tensor([-1.5, 1.5]) / 0.5).mean()
    assert torch.allclose(Margin(0.5, "pairs")(scores, targets), pairs)
    rows = Margin(2.0)(torch.tensor([[1.0, 3.0, 0.0]]), torch.tensor([0]))
    assert torch.allclose(rows, torch.sigmoid(torch.tensor([2.0, -1.0]) / 2).mean())
    nothing = Margin(between="pairs")(scores, torch.ones(3))
    assert nothing == 0
    nothing.backward()
    with pytest.raises(mg.MetricgradError, match="softness must be above 0"):
        Margin(0.0)


def test_reloss_is_fitted_on_the_training_part_alone_and_its_time_is_counted(monkeypatch):
    from metricgrad.comparison import catalogue
    from metricgrad.training import reloss_of_task

    found = []

    def kept(*given, **options):
        found.append(reloss_of_task.network_of_training(*given, **options))
        return found[0]

    monkeypatch.setattr(reloss_of_task, "_STEPS", 16)
    monkeypatch.setitem(catalogue.FITTED_ON_TRAINING, "reloss", kept)
    task = get_task("digits")
    (row,) = (row for row in candidates(["reloss"], task, ACCURACY, controls=False) if row.name == "reloss")
    assert set(row.space) == {"lr", "weight_decay", "anchor"}
    inputs, targets = task.load(0)[0]
    loss = maker("reloss", task, ACCURACY)({"anchor": 0.3}, 0, (inputs, targets))
    assert isinstance(loss, mg.ReLoss)
    assert float(loss.form.anchor) == pytest.approx(0.3)
    recordings = 6  # at steps 0, 1, 2, 4, 8 and 16, of two fifths of the rows; three tenths of those for a report
    assert len(found[0].held_out) == pytest.approx(0.3 * 0.4 * len(targets) * recordings, abs=3)


def test_reloss_without_a_task_is_the_shipped_one_or_says_which_there_are():
    loss = make_loss("reloss:anchor=0.5", ACCURACY)
    assert float(loss.form.anchor) == 0.5
    with pytest.raises(mg.MetricgradError, match="no loss pretrained for 'mcc'"):
        make_loss("reloss", "mcc")
