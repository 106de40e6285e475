"""UniLoss's form: its value, its controls, and what it refuses."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score, coverage_error
from torch import nn

import metricgrad as mg
from metricgrad.metrics.layouts.layout import SENTENCES, SPANS
from metricgrad.refactoring.labels import Argmax, Threshold
from metricgrad.refactoring.peak import Peak
from metricgrad.refactoring.ranking.rankings import Ranking
from metricgrad.refactoring.top_k import TopK


def _ideal(targets, classes):
    return 1000.0 * nn.functional.one_hot(targets, classes).float()


@pytest.mark.parametrize("form", ["Interpolated", "Linearized", "PaperInterpolated"])
def test_a_form_is_of_a_metric_and_not_of_its_name(form):
    with pytest.raises(mg.MetricgradError, match="as_metric"):
        getattr(mg.forms, form)("f1")


@pytest.mark.parametrize("interpolation", ["local", "inverse_distance"])
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "quadratic_kappa", "top_k_accuracy:k=2", "mrr"])
def test_ideal_scores_cost_nothing(metric, interpolation):
    targets = torch.arange(20) % 4
    value = mg.UniLoss(metric, interpolation=interpolation, softness=1.0)(_ideal(targets, 4), targets)
    assert float(value) == pytest.approx(0, abs=1e-5)


def test_the_value_is_in_the_units_of_the_metric():
    targets = torch.arange(20) % 4
    scores = _ideal(torch.where(torch.arange(20) < 5, (targets + 1) % 4, targets), 4)
    assert float(mg.UniLoss("accuracy", softness=1.0, q=1.0)(scores, targets)) == pytest.approx(5 / 20)


@pytest.mark.parametrize("metric", ["mae", "mse"])
def test_a_metric_that_is_minimised_is_minimised(metric):
    scores, targets = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([0.0, 5.0])
    mg.UniLoss(metric)(scores, targets).backward()
    assert scores.grad[0] > 0 > scores.grad[1]


def _train(loss, epochs=8, seed=0):
    inputs, targets = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(inputs / 16, dtype=torch.float32)[:1000], torch.tensor(targets)[:1000]
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(epochs):
        for rows in torch.randperm(800).split(64):
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((model(inputs[800:]).argmax(1) == targets[800:]).float().mean())


@pytest.mark.parametrize("interpolation", ["local", "inverse_distance"])
def test_training_succeeds_with_the_metric_and_fails_with_its_values_shuffled(interpolation):
    metric = mg.as_metric("accuracy")
    assert _train(mg.UniLoss(metric, interpolation=interpolation)) > 0.8

    class Shuffled:
        """The same metric with its values dealt out at random over the score sets."""

        def __init__(self):
            self.generator = torch.Generator().manual_seed(0)

        def __call__(self, labels, targets, **context):
            values = metric._fn(labels, targets, **context)
            return values[torch.randperm(len(values), generator=self.generator)]

    shuffled = metric.answering(Shuffled())
    assert _train(mg.UniLoss(shuffled, anchored=False, interpolation=interpolation)) < 0.5


def test_a_constant_metric_warns_then_raises():
    metric = mg.as_metric("accuracy").answering(lambda labels, targets, **context: torch.full((len(labels),), 0.5))
    loss = mg.UniLoss(metric)
    scores, targets = torch.randn(8, 3, requires_grad=True), torch.arange(8) % 3
    with pytest.warns(UserWarning, match="same value"):
        assert float(loss(scores, targets)) == 0
    for _ in range(18):
        loss(scores, targets)
    with pytest.raises(mg.MetricgradError, match="20th time"):
        loss(scores, targets)


def test_a_model_that_has_reached_the_best_value_is_not_silent():
    loss = mg.UniLoss("hit_rate:k=3", softness=0.05)
    scores, targets = (40.0 * torch.eye(8)).requires_grad_(), torch.arange(8)
    for _ in range(25):
        assert float(loss(scores, targets).detach()) == 0


def test_where_no_single_move_helps_anchors_still_pull_to_the_ideal():
    targets = torch.arange(12) % 2
    scores = (-4.0 * (2.0 * targets - 1)).requires_grad_()  # neither class is ever found
    mg.UniLoss("g_mean", softness=0.1)(scores, targets).backward()
    assert bool((scores.grad * (2 * targets - 1) < 0).any())


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "mrr", "f1", "mcc", "g_mean", "spearman"])
def test_the_value_stays_within_the_range_of_the_metric(metric):
    targets = (torch.arange(64) % 3 == 0).long()
    judge = mg.as_metric(metric)
    for seed in range(10):
        scores = 10 * torch.randn(64, generator=torch.Generator().manual_seed(seed))
        against = targets if metric != "spearman" else scores.flip(0)
        apart = against + torch.linspace(0, 0.1, 64) - 0.5  # no ties, which average precision would average
        best, worst = (float(judge(sign * apart, against)) for sign in (1, -1))
        value = float(mg.UniLoss(metric)(scores, against))
        assert 0 <= value <= abs(best - worst) + 1e-6


@pytest.mark.parametrize("metric", ["f1", "mcc", "g_mean"])
def test_predictions_that_find_nothing_do_not_read_as_ideal(metric):
    targets = (torch.arange(60) % 3 == 0).long()
    assert float(mg.UniLoss(metric)(torch.zeros(60), targets)) > 0.2


def test_a_foreign_differentiable_metric_costs_nothing_at_its_ideal():
    from sklearn.metrics import r2_score

    targets = torch.linspace(-1, 1, 20)
    for metric in ("r2", r2_score):
        assert float(mg.UniLoss(metric)(targets, targets)) == pytest.approx(0, abs=1e-6)


def test_g_mean_trains_from_scratch():
    assert _train(mg.UniLoss("g_mean")) > 0.8


def test_batches_without_a_positive_do_not_count_as_silent():
    loss = mg.UniLoss("average_precision", anchored=False)
    scores = torch.randn(16, requires_grad=True)
    for _ in range(30):
        value = loss(scores, torch.zeros(16))
        value.backward()
    assert float(value) == 0
    assert scores.grad.abs().sum() == 0


@pytest.mark.parametrize(
    ("metric", "scores", "targets", "message"),
    [
        ("accuracy", torch.zeros(4, 3), torch.tensor([0, 1, 2, 3]), "0 to 2"),
        ("accuracy", torch.zeros(4, 3), torch.tensor([0, 1, 2, -100]), "mask"),
        ("f1", torch.zeros(4), torch.tensor([0, 1, 2, 1]), "0 and 1"),
        ("accuracy", torch.zeros(4, 3), torch.zeros(5), "shape"),
        ("accuracy", torch.zeros(4, 3, dtype=torch.long), torch.zeros(4), "floating"),
        ("accuracy", torch.tensor([[math.nan, 0.0]]), torch.tensor([0]), "NaN"),
    ],
)
def test_wrong_input_says_what_and_how_to_mend_it(metric, scores, targets, message):
    with pytest.raises(mg.MetricgradError, match=message):
        mg.UniLoss(metric)(scores, targets)


@pytest.mark.parametrize(
    "options",
    [{"q": 0}, {"share": 1.5}, {"softness": -1.0}, {"softness": "soft"}, {"interpolation": "cubic"},
     {"gradient": "released"}, {"warm_up": -1}],
)  # fmt: skip
def test_wrong_options_name_the_argument(options):
    with pytest.raises(mg.MetricgradError, match=next(iter(options))):
        mg.UniLoss("f1", **options)


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("metric", ["average_precision", "auroc", "ndcg:k=5", "mrr", "f1"])
def test_an_untrained_networks_small_scores_do_not_blow_up_the_gradient(metric, anchored):
    """Divided by their own spread it was some twenty times as long as cross-entropy's, and trainings diverged."""
    scores = 0.02 * torch.randn(16, generator=torch.Generator().manual_seed(0))
    targets = (torch.arange(16) == 3).long()
    scores.requires_grad_()
    mg.UniLoss(metric, anchored=anchored)(scores, targets).backward()
    assert float(scores.grad.abs().sum()) < 2


@pytest.mark.parametrize("anchored", [True, False])
def test_a_deep_network_trains_on_average_precision_at_a_rate_of_cross_entropys(anchored):
    digits = load_digits()
    x = torch.from_numpy(digits.data).float().repeat(1, 12) / 16
    y = torch.from_numpy((digits.target == 0).astype(int))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(768, 500), nn.ReLU(), nn.Linear(500, 300), nn.ReLU(), nn.Linear(300, 1))
    loss = mg.UniLoss("average_precision", anchored=anchored)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    largest = 0.0
    for index in torch.randperm(len(y))[: 60 * 16].split(16):
        optimizer.zero_grad()
        scores = model(x[index])[:, 0]
        loss(scores, y[index]).backward()
        optimizer.step()
        largest = max(largest, float(scores.abs().max()))
    assert largest < 20, "with a softness of 0.05 it was 45"


def test_softness_sets_itself_once_or_slowly_or_stays():
    scores, targets = 5 * torch.randn(64, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 2
    scores.requires_grad_()
    for softness, follows in (("once", False), ("auto", True), (2.0, False)):
        loss = mg.UniLoss("f1", softness=softness)
        loss(scores, targets)
        first = float(loss.form.log_softness)
        loss(10 * scores, targets)
        moved = abs(float(loss.form.log_softness) - first)
        assert (moved > 0) == follows
        assert moved < 0.1


def test_mask_leaves_entries_out():
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(4, 6, 5, generator=g), torch.randint(5, (4, 6), generator=g)
    mask = torch.rand(4, 6, generator=g) < 0.5
    padded = torch.where(mask, targets, -100)
    masked = mg.UniLoss("accuracy", softness=1.0)(scores, padded, mask=mask)
    plain = mg.UniLoss("accuracy", softness=1.0)(scores[mask], targets[mask])
    torch.testing.assert_close(masked, plain)


def test_groups_rank_each_query_by_itself():
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(40, generator=g, requires_grad=True), (torch.rand(40, generator=g) < 0.3).long()
    groups = torch.arange(40) // 8
    mg.UniLoss("mrr", softness=1.0)(scores, targets, groups=groups).backward()
    alone = scores.detach().clone().requires_grad_()
    first = slice(0, 8)
    mg.UniLoss("mrr", softness=1.0)(alone[first], targets[first], groups=groups[first]).backward()
    cosine = nn.functional.cosine_similarity(scores.grad[first], alone.grad[first], dim=0)
    assert cosine > 0.99


def test_warm_up_starts_as_cross_entropy_and_ends_as_the_metric():
    scores, targets = torch.randn(16, 4), torch.arange(16) % 4
    loss = mg.UniLoss("accuracy", warm_up=2, softness=1.0)
    bare = mg.UniLoss("accuracy", softness=1.0)
    values = [float(loss(scores, targets)) for _ in range(3)]
    standard, plain = float(nn.functional.cross_entropy(scores, targets)), float(bare(scores, targets))
    assert values == pytest.approx([standard, (standard + plain) / 2, plain])


def test_an_unmodified_scikit_learn_function_trains_within_its_calls_per_step():
    calls = []

    def counted(*args, **kwargs):
        calls.append(1)
        return balanced_accuracy_score(*args, **kwargs)

    metric = mg.as_metric(balanced_accuracy_score)
    metric._fn = counted
    loss = mg.UniLoss(metric, calls=48)
    assert _train(loss, epochs=4) > 0.8
    assert len(calls) <= int(loss.steps) * (48 + 2)


@pytest.mark.parametrize(
    ("refactoring", "scores"),
    [(Argmax(), torch.zeros(4)), (TopK(k=2), torch.zeros(4)), (Threshold(), torch.zeros(4, 3))],
)
def test_a_refactoring_chosen_by_hand_that_reads_other_shapes_is_refused(refactoring, scores):
    loss = mg.UniLoss("accuracy", refactoring=refactoring)
    with pytest.raises(mg.MetricgradError, match=f"{refactoring.name!r} reads scores and targets of"):
        loss(scores, torch.tensor([0, 1, 1, 0]))


@pytest.mark.parametrize("kind", [Threshold, Argmax, Peak, Ranking])
def test_a_refactoring_names_a_choice_it_does_not_know(kind):
    with pytest.raises(mg.MetricgradError, match="exchangeable is 'rows'; expected one of 'all', 'column'"):
        kind(exchangeable="rows")


@pytest.mark.parametrize("metric", mg.list_metrics())
def test_every_built_in_metric_costs_nothing_at_its_ideal_scores(metric):
    built = mg.as_metric(metric)
    classes, pairs = torch.arange(40) % 4, torch.arange(40) % 2
    labels = (torch.rand(40, 4, generator=torch.Generator().manual_seed(0)) < 0.4).long()
    labels[:, 0] = 1
    cases = [(_ideal(classes, 4), classes), (60.0 * (2 * pairs - 1), pairs), (60.0 * (2 * labels - 1), labels)]
    if built.structure.kind == "differentiable" and not built.structure.params.get("of_classes"):
        cases = [(torch.linspace(-1, 1, 20), torch.linspace(-1, 1, 20))]
    if built.structure.kind == "peak":
        points = torch.arange(20)[:, None] % torch.tensor([5, 4])
        cases = [(60.0 * torch.eye(20)[points[:, 1] * 5 + points[:, 0]].reshape(20, 4, 5), points)]
    if built.layout is SENTENCES:
        sentences = classes.reshape(8, 5)
        cases = [(_ideal(classes, 4).reshape(8, 5, 4), sentences)]
    if built.layout is SPANS:
        answers = torch.tensor([[0, 2], [1, 1], [3, 4], [2, 5]])
        cases = [(60.0 * torch.eye(6)[answers], answers)]
    served = 0
    for scores, targets in cases:
        try:
            built(scores, targets)
            value = mg.UniLoss(metric, softness=0.02 if built.reads == "embeddings" else 0.5)(scores, targets)
        except mg.MetricgradError:
            continue  # not a metric of this kind of problem
        served += 1
        assert float(value) == pytest.approx(0, abs=1e-5)
    assert served or built.structure.kind == "clusters"  # of which nothing trains


def test_lists_whose_order_is_beyond_doubt_have_no_move_left():
    metric = mg.as_metric(coverage_error)
    labels = torch.eye(6).repeat(10, 1)
    scores = (60.0 * (2 * labels - 1)).requires_grad_()
    value = mg.UniLoss(metric, softness=1.0)(scores, labels)
    value.backward()
    assert float(value) == 0


@pytest.mark.parametrize("metric", ["spearman", "ndcg"])
def test_a_warm_up_of_graded_targets_is_the_squared_error(metric):
    scores, targets = torch.randn(20, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 4
    value = mg.UniLoss(metric, warm_up=10)(scores, targets)
    torch.testing.assert_close(value, torch.nn.functional.mse_loss(scores, targets.float()))


def _masked(metric, scores, targets, mask):
    try:
        return float(mg.as_metric(metric)(scores, targets, mask=mask))
    except mg.MetricgradError:
        return None


@pytest.mark.parametrize("metric", ["mrr", "map", "macro_f1", "accuracy", "auroc", "f1"])
def test_a_mask_over_entries_means_the_same_to_the_loss_as_to_the_metric(metric):
    g = torch.Generator().manual_seed(0)
    targets = (torch.rand(5, 8, generator=g) < 0.4).long().index_fill(0, torch.tensor([0]), 1)
    mask = (torch.rand(5, 8, generator=g) < 0.8).index_fill(0, torch.tensor([0]), True)  # no column without a positive
    value = _masked(metric, 60.0 * (2 * targets - 1), targets, mask)
    if value is None:
        with pytest.raises(mg.MetricgradError):
            mg.UniLoss(metric)(60.0 * (2 * targets - 1), targets, mask=mask)
    else:
        loss = mg.UniLoss(metric, softness=0.5)
        assert value == pytest.approx(1)
        assert float(loss(60.0 * (2 * targets - 1), targets, mask=mask)) == pytest.approx(0, abs=1e-5)
        assert float(loss(60.0 * (1 - 2 * targets), targets, mask=mask)) > 0.1


@pytest.mark.parametrize("metric", ["mse", "r2", "spearman", "accuracy"])
def test_targets_that_are_no_numbers_are_named(metric):
    scores = torch.randn(6, 3) if metric == "accuracy" else torch.randn(6)
    targets = torch.tensor([0.0, 1.0, float("nan"), 1.0, 0.0, 1.0])
    with pytest.raises(mg.MetricgradError, match="targets"):
        mg.UniLoss(metric)(scores, targets)


@pytest.mark.parametrize("metric", ["mrr", "map", "hit_rate:k=3", "precision_at_k:k=3"])
def test_graded_targets_of_a_binary_ranking_count_as_positive_above_zero(metric):
    scores, targets = torch.randn(20, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 4
    value = mg.UniLoss(metric)(scores, targets)
    torch.testing.assert_close(value, mg.UniLoss(metric)(scores, (targets > 0).long()))


@pytest.mark.parametrize(
    "options",
    [{"q": "a"}, {"q": 0}, {"power": 0}, {"anchors": 1.5}, {"calls": 3}, {"gradient": "foo"}, {"softness": -1.0},
     {"refactoring": "labels"}, {"interpolation": "inverse_distance", "share": 0.5}, {"warm_up": -1}],
)  # fmt: skip
def test_an_option_out_of_range_is_named(options):
    with pytest.raises(mg.MetricgradError, match=next(reversed(options))):
        mg.UniLoss("f1", **options)


def test_a_refactoring_by_hand_is_not_lost_in_a_file(tmp_path):
    with pytest.raises(mg.MetricgradError, match="refactoring="):
        mg.UniLoss("accuracy", refactoring=Argmax(exchangeable="none")).save(tmp_path / "loss.safetensors")


def test_a_refactoring_is_inferred_of_a_name():
    assert mg.infer_refactoring("f1", torch.randn(8), torch.arange(8) % 2).name == "threshold"


def test_a_metric_that_nobody_described_is_asked_for_when_its_loss_is_loaded(tmp_path):
    metric = mg.as_metric("f1").undescribed()
    mg.UniLoss(metric, anchored=False).save(tmp_path / "loss.safetensors")
    with pytest.raises(mg.MetricgradError, match="metric"):
        mg.load_loss(tmp_path / "loss.safetensors")
    assert mg.load_loss(tmp_path / "loss.safetensors", metric).form.metric is metric


def test_top_k_looks_at_the_share_of_rows_nearest_to_their_edge():
    scores = torch.tensor([[3.0, 0.0, 1.0], [0.4, 0.3, 0.2], [-4.0, 2.0, 1.0], [0.0, 5.0, 0.1]], requires_grad=True)
    loss = mg.UniLoss("top_k_accuracy:k=2", share=0.25, softness=0.5)
    loss(scores, torch.tensor([0, 2, 0, 1])).backward()
    assert (scores.grad.abs().sum(1) > 1e-7).tolist() == [False, True, False, False]


@pytest.mark.parametrize("softness", ["once", "auto"])
@pytest.mark.parametrize("metric", ["retrieval_recall", "map_at_r", "f1", "macro_f1"])
def test_an_evaluation_before_the_first_step_has_the_softness_that_its_batch_sets(metric, softness):
    g = torch.Generator().manual_seed(0)
    shape = (12,) if metric == "f1" else (12, 3)
    scores, targets = 5 * torch.randn(shape, generator=g), torch.arange(12) % (2 if metric == "f1" else 3)
    loss = mg.UniLoss(metric, anchored=False, softness=softness)
    with torch.no_grad():
        before = loss(scores, targets)
    assert loss.form.log_softness.isnan()
    torch.testing.assert_close(before, loss(scores.clone().requires_grad_(), targets).detach())


@pytest.mark.parametrize("metric", ["retrieval_recall", "macro_f1"])
def test_a_softness_that_sets_itself_has_a_gradient(metric):
    loss = mg.UniLoss(metric, anchored=False)
    loss.form.log_softness.requires_grad_()
    scores, targets = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
    for _ in range(2):
        (slope,) = torch.autograd.grad(loss(scores.clone().requires_grad_(), targets), loss.form.log_softness)
        assert slope.isfinite()
        assert slope != 0
