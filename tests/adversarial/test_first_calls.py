"""What a loss or a metric says once: probabilities for logits, an aligner nobody attached, NaN, lists."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.fitting.rank_correlation import RankCorrelation
from metricgrad.aligners.knobs.policy import Policy
from metricgrad.aligners.lookahead.look_ahead import LookAhead
from metricgrad.losses.composite.hand_made import HandMade
from metricgrad.losses.composite.scaled import Scaled
from metricgrad.losses.networks.probabilities import ProbabilityNetwork

PROBABILITIES = "all scores lie from 0 to 1, as probabilities do, and .*torch.logit.*nothing was converted"


def drawn(n=60, columns=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn((n,) if columns is None else (n, columns), generator=g)
    return scores, torch.randint(columns or 2, (n,), generator=g)


def said(call, words):
    """How often the warning came, every time counted."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    found = [one for one in caught if words in str(one.message)]
    assert all(one.filename == __file__ for one in found), found  # it points at the user's own line
    return len(found)


LOSSES = {
    "f1": (lambda: mg.UniLoss("f1"), None),
    "macro_f1": (lambda: mg.UniLoss("macro_f1"), 3),
    "top_k": (lambda: mg.UniLoss("top_k_accuracy:k=2"), 3),
    "log_loss": (lambda: mg.UniLoss("log_loss"), 3),
    "auroc": (lambda: mg.UniLoss("auroc"), None),
    "ala": (lambda: mg.ALA("accuracy", num_outputs=3), 3),
    "adalfl": (lambda: mg.AdaLFL(num_outputs=3), 3),
    "network": (lambda: mg.ReLoss.pretrained("accuracy"), 3),
}


@pytest.mark.parametrize("name", LOSSES)
def test_probabilities_are_said_once_by_a_loss_and_change_nothing(name):
    make, columns = LOSSES[name]
    scores, targets = drawn(columns=columns)
    p = scores.sigmoid() if columns is None else scores.softmax(1)
    loss, words = make(), "all scores lie from 0 to 1"

    def calls(loss, scores, targets):
        return lambda: [loss(scores.clone().requires_grad_(), targets) for _ in range(4)]

    assert said(calls(loss, p, targets), words) == 1
    assert said(calls(make(), scores, targets), words) == 0
    assert said(calls(make(), p[:49], targets[:49]), words) == 1  # over its first calls it sees more than 50 rows
    assert said(lambda: make()(p[:49].clone().requires_grad_(), targets[:49]), words) == 0
    assert said(calls(make(), p.round(), targets), words) == 0


@pytest.mark.parametrize("spec", ["f1", "accuracy", "log_loss", "brier", "auroc"])
def test_probabilities_are_said_once_by_a_metric(spec):
    scores, targets = drawn()
    metric = mg.as_metric(spec)
    assert said(lambda: [metric(scores.sigmoid(), targets) for _ in range(3)], "all scores lie from 0 to 1") == 1
    assert torch.equal(metric(scores.sigmoid(), targets), metric.over(scores.sigmoid()[None], targets)[0])
    assert said(lambda: mg.as_metric(spec)(scores, targets), "all scores") == 0
    assert said(lambda: mg.as_metric(spec)(scores.sigmoid()[:49], targets[:49]), "all scores") == 0


def test_values_from_0_to_1_that_are_no_probabilities_are_nobody_s_business():
    values, targets = drawn()
    unit = values.sigmoid()
    embeddings = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    maps = torch.rand(60, 4, 5)
    cases = [
        ("mse", unit, values), ("mae", unit, unit.flip(0)), ("r2", unit, values), ("spearman", unit, values),
        ("map_at_r", embeddings, targets), ("ndcg", unit, targets), ("mrr", unit, targets),
        ("recall_at_k", unit, targets),
        ("pck", maps, torch.randint(4, (60, 2))),
    ]  # fmt: skip
    for spec, scores, truth in cases:
        assert said(lambda s=spec, a=scores, b=truth: mg.as_metric(s)(a, b), "all scores lie") == 0, spec
        loss = mg.UniLoss(spec)
        assert said(lambda a=scores, b=truth, f=loss: f(a.clone().requires_grad_(), b), "all scores lie") == 0, spec
    bce = mg.Loss(HandMade(nn.BCELoss()))  # torch's own takes probabilities
    assert said(lambda: bce(unit.clone().requires_grad_(), targets.float()), "all scores lie") == 0


def test_fit_says_it_too():
    x, y = drawn(n=80, columns=3)
    y = (y > 0).long()
    model = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid(), nn.Flatten(0))
    more = {"loss": nn.BCELoss(), "epochs": 2, "progress": False, "device": "cpu"}
    with pytest.warns(UserWarning, match=PROBABILITIES):
        mg.fit(model, (x, y.float()), (x, y), metric="f1", **more)


def trained(loss, steps=4):
    scores, targets = drawn(columns=3)
    return lambda: [loss(scores.clone().requires_grad_(), targets).backward() for _ in range(steps)]


UNATTENDED = {
    "adalfl": (lambda: mg.AdaLFL(num_outputs=3), "it was never attached"),
    "ala": (lambda: mg.ALA("accuracy", num_outputs=3), "nothing tells it how training goes"),
    "network": (lambda: mg.Loss(ProbabilityNetwork(), RankCorrelation("accuracy")), "never fitted"),
}


@pytest.mark.parametrize("name", UNATTENDED)
def test_a_loss_that_nothing_moves_says_so_once(name):
    make, words = UNATTENDED[name]
    loss = make()
    assert said(trained(loss), words) == 1
    assert said(trained(loss), words) == 0
    assert said(lambda: make().eval()(*drawn(columns=3)), words) == 0
    assert said(trained(pickle.loads(pickle.dumps(copy.deepcopy(loss)))), words) == 0  # it was said


def test_a_loss_that_something_moves_says_nothing():
    model, (x, y) = nn.Linear(3, 3), drawn(columns=3)
    words = ("never attached", "nothing tells", "never fitted")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def attached(loss):
        handle = loss.attach(model, optimizer, valid=[(x, y)])
        for _ in range(3):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        handle.detach()

    def observed():
        loss = mg.ALA("accuracy", num_outputs=3)
        loss.observe(x, y)
        trained(loss)()

    def by_step():
        loss = mg.AdaLFL(num_outputs=3)
        for _ in range(3):
            loss.step(model, optimizer, (x, y), (x, y))

    def offline():
        loss = mg.AdaLFL(num_outputs=3)
        loss.offline_start(lambda: nn.Linear(3, 3), lambda p: torch.optim.SGD(p, lr=0.1), [(x, y)], steps=3)
        trained(loss)()

    def looked():
        loss = mg.AdaLFL(num_outputs=3)
        for _ in range(3):
            loss.aligner.hypergradient(model, optimizer, (x, y), (x, y))

    runs = [
        lambda: attached(mg.AdaLFL(num_outputs=3)), lambda: attached(mg.ALA("accuracy", num_outputs=3)), observed,
        by_step, offline, looked, trained(mg.UniLoss("accuracy")), trained(mg.ReLoss.pretrained("accuracy")),
        trained(mg.Loss(mg.AdaLFL(num_outputs=3).form)),
    ]  # fmt: skip
    for run in runs:
        assert [said(run, word) for word in words] == [0, 0, 0]


def test_adalfl_without_validation_data_says_what_it_is_judged_on():
    model, (x, y) = nn.Linear(3, 3), drawn(columns=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = mg.AdaLFL(num_outputs=3)

    def attach(**more):
        return lambda: loss.attach(model, optimizer, **more).detach()

    words = "judges each step on the training batch that the step was taken on"
    assert said(attach(valid=[(x, y)]), words) == 0
    with pytest.warns(UserWarning, match=words):
        attach()()
    assert said(attach(), words) == 0


def test_nan_is_said_where_it_is_by_losses_and_metrics():
    scores, targets = drawn(columns=3)
    scores[7, 1] = scores[9, 1] = float("nan")
    where = r"scores hold NaN in 2 of 60 rows \(rows 7, 9\), in column 1; look at the inputs"
    for make in (lambda: mg.UniLoss("macro_f1"), lambda: mg.AdaLFL(num_outputs=3), lambda: mg.ALA("f1", num_outputs=3)):
        with pytest.raises(mg.MetricgradError, match=where):
            make()(scores.clone().requires_grad_(), targets)
    with pytest.raises(mg.MetricgradError, match="stored scores hold NaN in 2 of 60 rows"):
        mg.mismatch(nn.functional.cross_entropy, "accuracy", scores, targets)
    with pytest.raises(mg.MetricgradError, match="stored scores hold NaN in 2 of 60 rows"):
        mg.ReLoss.fit("accuracy", scores, targets)
    real, broken = torch.randn(60), torch.randn(60)
    broken[4] = float("nan")
    binary = (torch.randn(60) > 0).float()
    binary[4] = float("nan")
    where = r"targets hold NaN in 1 of 60 rows \(row 4\)"
    for loss, truth in (
        (mg.UniLoss("mse"), broken), (mg.UniLoss("f1"), binary), (mg.AdaLFL(kind="regression"), broken),
        (mg.AdaLFL(kind="binary"), binary), (mg.Loss(HandMade(nn.MSELoss())), broken), (mg.as_metric("f1"), binary),
        (mg.as_metric("log_loss"), binary), (mg.as_metric("ndcg"), binary),
    ):  # fmt: skip
        with pytest.raises(mg.MetricgradError, match=where):
            loss(real.clone().requires_grad_(), truth)


CALLS = {
    "metric": lambda s, t: mg.as_metric("accuracy")(s, t),
    "loss": lambda s, t: mg.UniLoss("accuracy")(s, t),
    "adalfl": lambda s, t: mg.AdaLFL(num_outputs=2)(s, t),
    "mismatch": lambda s, t: mg.mismatch(nn.functional.cross_entropy, "accuracy", s, t),
    "infer": lambda s, t: mg.infer_refactoring("accuracy", s, t),
    "fit": lambda s, t: mg.ReLoss.fit("accuracy", s, t),
    "prepare": lambda s, t: mg.Loss(ProbabilityNetwork(), RankCorrelation("accuracy")).prepare(s, t),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_tensor_of_numbers_is_refused_with_the_remedy(call):
    scores, targets = drawn(columns=2)
    words = np.array(["cat", "dog"] * 30)
    for s, t, message in (
        (scores.tolist(), targets, r"scores is a list; pass a tensor: torch\.as_tensor\(scores\)"),
        (scores.numpy(), targets, r"scores is a ndarray; pass a tensor"),
        (scores, targets.tolist(), r"targets is a list; pass a tensor: torch\.as_tensor\(targets\)"),
        (scores, words, r"targets hold text \('cat', 'dog'\).*LabelEncoder\(\)\.fit_transform\(targets\)"),
        (scores, words.tolist(), "targets hold text"),
        (scores, np.array([None, 1] * 30, dtype=object), "targets are an array of dtype object"),
        (scores, None, "targets is None"),
        (scores.long(), targets, "dtype|floating"),
        (scores, targets[:-1], "shape"),
    ):
        with pytest.raises(mg.MetricgradError, match=message):
            CALLS[call](s, t)


def test_record_scores_says_what_it_wants():
    model, optimizer = nn.Linear(3, 2), torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1)
    x, y = drawn(columns=3)
    with pytest.raises(mg.MetricgradError, match="model is the class Linear; give a module made of it"):
        mg.record_scores(nn.Linear, optimizer, [(x, y)])
    with pytest.raises(mg.MetricgradError, match="optimizer is a float"):
        mg.record_scores(model, 0.1, [(x, y)])
    with pytest.raises(mg.MetricgradError, match="batches is a generator"):
        mg.record_scores(model, optimizer, ((x, y) for _ in range(2)))
    with (
        pytest.raises(mg.MetricgradError, match="targets is a list"),
        mg.record_scores(model, optimizer, [(x, y.tolist())]),
    ):
        pass


def test_a_fitted_loss_works_without_its_metric_and_keeps_its_report(tmp_path):
    def accuracy(labels, targets):
        return (labels == targets).double().mean()

    metric = mg.as_metric(accuracy, higher_is_better=True, reads="labels")
    scores, targets = drawn(n=200, columns=3)
    scores = scores + 2 * nn.functional.one_hot(targets, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = mg.ReLoss.fit(metric, scores, targets, steps=20)
    loss.save(tmp_path / "loss.safetensors")
    loaded = mg.load_loss(tmp_path / "loss.safetensors")
    assert torch.equal(loaded(scores, targets), loss(scores, targets))
    assert loaded.report() == loss.report()
    assert loaded.report()["correlation"]["value"] > 0
    assert said(trained(loaded), "never fitted") == 0
    loaded.save(tmp_path / "again.safetensors")
    assert mg.load_loss(tmp_path / "again.safetensors").report() == loss.report()
    with pytest.raises(mg.MetricgradError, match=r"load_loss\(path, metric=\.\.\.\)"):
        loaded.prepare(scores, targets)
    again = mg.load_loss(tmp_path / "loss.safetensors", metric=metric)
    again.prepare(scores, targets)
    with pytest.raises(mg.MetricgradError, match="nothing was measured of this loss"):
        mg.UniLoss("f1").report()
    mg.UniLoss(metric).save(tmp_path / "uni.safetensors")
    with pytest.raises(mg.MetricgradError, match="pass it again"):
        mg.load_loss(tmp_path / "uni.safetensors")


def test_look_ahead_alone_is_unattended_too():
    loss = mg.Loss(ProbabilityNetwork(), LookAhead())
    assert said(trained(loss), "it was never attached") == 1


def test_a_model_and_an_optimizer_in_the_wrong_order_are_told():
    model = nn.Linear(3, 1)
    loss = mg.AdaLFL(num_outputs=1, kind="binary")
    with pytest.raises(
        mg.MetricgradError, match=r"model is a SGD and optimizer a Linear; .*attach\(model, optimizer\)"
    ):
        loss.attach(torch.optim.SGD(model.parameters(), 0.1), model)  # pyright: ignore[reportArgumentType]
    loss.attach(model, torch.optim.SGD(model.parameters(), 0.1), valid=[(torch.randn(4, 3), torch.ones(4))]).detach()


def test_mismatch_wants_a_function():
    with pytest.raises(mg.MetricgradError, match="loss is 'cross_entropy'; pass a function of"):
        mg.mismatch("cross_entropy", "f1", torch.randn(64), torch.arange(64) % 2)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("end", "warns"), [(nn.Identity(), False), (nn.Sigmoid(), True)])
def test_scores_of_a_linear_layer_are_logits_wherever_they_lie(end, warns, recwarn):
    layer = nn.Linear(3, 1)
    nn.init.constant_(layer.weight, 0.01)
    nn.init.constant_(layer.bias, 0.5)
    scores = nn.Sequential(layer, end)(torch.rand(60, 3)).squeeze(-1)
    mg.UniLoss("f1")(scores, (torch.arange(60) % 2))
    assert any("as probabilities do" in str(each.message) for each in recwarn) == warns


@pytest.mark.parametrize("aligner", [Policy("ndcg", every=1), LookAhead()])
@pytest.mark.parametrize("given", ["groups", "sample_weight", None])
def test_validation_batches_without_the_queries_of_training_are_told(aligner, given):
    aligner, x, y = copy.deepcopy(aligner), torch.randn(12, 4), torch.arange(12) % 3
    loss, model = mg.Loss(Scaled(mg.UniLoss("ndcg").form), aligner), torch.nn.Linear(4, 1)
    loss.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), valid=[(x, y[:, None])])
    groups = torch.arange(12) // 4
    context = {"groups": {"groups": groups}, "sample_weight": {"groups": groups, "sample_weight": torch.ones(3)}}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            loss(model(x)[:, 0], y, **context.get(given, {}))
    said = [str(each.message) for each in told if "scores and targets alone" in str(each.message)]
    assert len(said) == (given is not None)
    assert given is None or f"{given}, and the validation batches that {type(aligner).__name__} judges by" in said[0]
