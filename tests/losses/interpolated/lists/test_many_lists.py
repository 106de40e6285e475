"""The loss of many lists is what calls of the metric after each move give, in closed form."""

import pytest
import torch

import metricgrad as mg
from metricgrad.losses.interpolated.lists import pairs
from metricgrad.losses.interpolated.lists import ranked_lists as lists_of
from metricgrad.losses.interpolated.lists.list_losses import many_lists
from metricgrad.losses.interpolated.lists.ranked_lists import ranked_lists
from metricgrad.metrics.of_counts import OfCounts
from metricgrad.refactoring.batch import Batch, checked
from metricgrad.refactoring.from_structure import for_batch

COLUMNS = ["average_precision", "auroc", "recall_at_precision:precision=0.5"]
ROWS = ["mrr", "map", "hit_rate:k=2", "recall_at_k:k=3", "precision_at_k:k=3"]
GRADED = ["ndcg", "ndcg:k=3", "ndcg:k=5,exponential=True"]


def found(metric, batch, q=0.5):
    path = metric.fast_path
    if isinstance(path, OfCounts) and path.by_gain:
        path = path.by_gain
    lists = ranked_lists(batch, for_batch(metric.structure, batch, metric), path)
    return many_lists(path, metric.fixed, batch, lists, q=q)


def by_calls(metric, batch, q=0.5):
    """The gradient where the metric itself is called after each move."""
    leaf = batch.scores.clone().requires_grad_()
    by_calls = mg.UniLoss(metric._copy(fast_path=None), anchored=False, softness=1.0, q=q)
    value = by_calls(leaf, batch.targets, **batch.context)
    value.backward()
    in_closed_form = mg.UniLoss(metric, anchored=False, softness=1.0, q=q)(batch.scores, batch.targets, **batch.context)
    torch.testing.assert_close(in_closed_form, value.detach(), rtol=1e-4, atol=1e-6)
    return -leaf.grad


def draw(seed, rows=14, columns=6, levels=2, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    targets = torch.randint(levels, (rows, columns), generator=g)
    return torch.randn(rows, columns, generator=g, dtype=dtype) + 0.5 * targets, targets


def queries(seed, levels=2, weighted=False):
    """Of 1 to some 20 items; the last is without anything relevant."""
    scores, targets = (part.flatten() for part in draw(seed, 20, 5, levels))
    g = torch.Generator().manual_seed(seed)
    groups = (8 * torch.rand(100, generator=g) ** 2).long() * 3
    targets[groups == groups.max()] = 0
    context = {"groups": groups}
    if weighted:
        context["sample_weight"] = torch.rand(30, generator=g, dtype=torch.float64)[groups]
    return Batch(scores, targets, context)


def check(metric, batch):
    metric = mg.as_metric(metric)
    ours = found(metric, batch)
    torch.testing.assert_close(-ours.gradient, by_calls(metric, batch), rtol=1e-4, atol=1e-7)  # metrics end in float32
    value = metric(batch.scores, batch.targets, **batch.context)
    torch.testing.assert_close(ours.now.float(), value.float(), rtol=1e-6, atol=1e-7)
    leaf = batch.scores.clone().requires_grad_()
    (expected,) = torch.autograd.grad(ours.loss(leaf), leaf)
    torch.testing.assert_close(ours.gradient, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("metric", [*COLUMNS, *ROWS])
def test_columns_and_rows(metric, seed):
    check(metric, Batch(*draw(seed), {}))


@pytest.mark.parametrize("metric", COLUMNS)
def test_class_numbers_are_columns(metric):
    scores, _ = draw(0, 30, 5)
    check(metric, Batch(scores, torch.arange(30) % 4, {}))  # no row is of the last class


@pytest.mark.parametrize("metric", [*ROWS, "ndcg"])
def test_class_numbers_are_rows_with_one_relevant_item(metric):
    (scores, _), metric = draw(0, 30, 5), mg.as_metric(metric)
    targets = torch.arange(30) % 4
    ours, one_hot = (found(metric, Batch(scores, t, {})) for t in (targets, torch.nn.functional.one_hot(targets, 5)))
    assert torch.equal(ours.gradient, one_hot.gradient)
    torch.testing.assert_close(ours.now.float(), metric(scores, targets).float())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", ROWS)
def test_queries(metric, weighted):
    check(metric, queries(1, weighted=weighted))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", GRADED)
def test_graded_queries(metric, weighted):
    check(metric, queries(2, levels=4, weighted=weighted))


@pytest.mark.parametrize("metric", [*GRADED, "spearman"])
def test_graded_rows_columns_and_one_list(metric):
    scores, targets = draw(3, levels=4)
    check(metric, Batch(scores, targets, {}))
    check(metric, Batch(scores.flatten(), targets.flatten(), {}))


@pytest.mark.parametrize("metric", ["map", "ndcg"])
def test_weights_of_rows(metric):
    check(metric, Batch(*draw(4), {"sample_weight": torch.rand(14, dtype=torch.float64)}))


@pytest.mark.parametrize(("held", "long"), [(200, 10**6), (10**6, 30)])
@pytest.mark.parametrize("metric", ["average_precision", "map", "ndcg"])
def test_in_parts_and_by_near_linear_sums_it_is_the_same(metric, held, long, monkeypatch):
    batch, metric = Batch(*draw(5), {}), mg.as_metric(metric)
    whole = found(metric, batch)
    monkeypatch.setattr(pairs, "_HELD", {"cpu": held})
    monkeypatch.setattr(pairs, "_LONG", long)
    parts = found(metric, batch)
    torch.testing.assert_close(parts.gradient, whole.gradient)
    torch.testing.assert_close(parts.loss(batch.scores), whole.loss(batch.scores))


@pytest.mark.parametrize("metric", ["map", "ndcg"])
def test_ties_depend_on_no_order_of_the_rows_and_pull_apart(metric):
    batch, metric = queries(6, levels=3), mg.as_metric(metric)
    tied = Batch((batch.scores * 2).round() / 2, batch.targets, batch.context)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    turned = Batch(tied.scores[order], tied.targets[order], {"groups": -tied.context["groups"][order]})
    gradient = found(metric, tied).gradient
    torch.testing.assert_close(found(metric, turned).gradient, gradient[order], rtol=1e-9, atol=1e-12)
    value = metric(tied.scores, tied.targets, **tied.context)
    torch.testing.assert_close(found(metric, tied).now.float(), value.float())
    flat = Batch(torch.zeros_like(tied.scores), tied.targets, tied.context)
    step = flat.scores - found(metric, flat).gradient
    assert metric(step, tied.targets, **tied.context) > metric(flat.scores, tied.targets, **tied.context)


@pytest.mark.parametrize("spec", [*COLUMNS, *ROWS, *GRADED])
def test_training_on_many_lists_raises_the_metric(spec):
    scores, targets = draw(7, 24, 8, dtype=torch.float32)
    loss, metric = mg.UniLoss(spec, base_weight=0.0), mg.as_metric(spec)
    leaf = torch.randn(scores.shape, generator=torch.Generator().manual_seed(8)).requires_grad_()
    before, optimizer = float(metric(leaf, targets)), torch.optim.Adam([leaf], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(leaf, targets)
        value.backward()
        optimizer.step()
    assert float(metric(leaf, targets)) > before + 0.1


@pytest.mark.parametrize("spec", ["average_precision", "auroc", "map"])
def test_lists_without_a_value_count_as_the_metric_says(spec):
    scores, targets = draw(9)
    targets[:, 0], targets[0] = 0, 0
    check(spec, Batch(scores, targets, {}))


@pytest.mark.parametrize("spec", [*COLUMNS, *ROWS])
def test_ideal_lists_are_at_no_distance(spec):
    """Not at that of another rounding, with which such a batch would be one that no move changes."""
    metric = mg.as_metric(spec)
    for seed in range(12):
        scores, targets = draw(seed, rows=11 + seed)
        weight = torch.rand(len(targets), generator=torch.Generator().manual_seed(seed))
        context = {} if spec in COLUMNS else {"sample_weight": weight}
        of = found(metric, checked(metric, scores + 100.0 * targets, targets, context, check_finite=True))
        assert of.now == of.ideal


def test_where_no_list_has_a_value_it_is_said_and_nothing_moves():
    scores, targets = draw(10)
    leaf = scores.requires_grad_()
    with pytest.warns(UserWarning, match="undefined"):
        mg.UniLoss("spearman", base_weight=0.0)(leaf, targets * 0).backward()
    assert torch.equal(leaf.grad, torch.zeros_like(leaf))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("kind", "spec"), [("labels", "map"), ("labels", "macro_f1"), ("classes", "map"), ("queries", "map")]
)
def test_what_it_rides_on_is_cross_entropy(kind, spec, weighted):
    scores, targets = draw(11)
    context, base = {}, torch.nn.functional.binary_cross_entropy_with_logits
    if kind == "classes":
        targets, base = targets.sum(1).clamp(max=5), torch.nn.functional.cross_entropy
    elif kind == "queries":
        scores, targets, context = scores.flatten(), targets.flatten(), {"groups": torch.arange(84) // 7}
    weight = torch.ones(len(scores), dtype=torch.float64)
    if weighted:  # those of a query are the same
        weight = context["sample_weight"] = context.get("groups", torch.arange(len(scores))) % 3 + 0.5
    leaf, again = (scores.clone().requires_grad_() for _ in range(2))
    mg.UniLoss(spec, weight=0.0)(leaf, targets, **context).backward()
    each = base(again, targets if kind == "classes" else targets.double(), reduction="none")
    each = each.mean(1) if each.ndim > 1 else each
    ((each * weight).sum() / weight.sum()).backward()
    torch.testing.assert_close(leaf.grad, again.grad)


@pytest.mark.parametrize("spec", [*COLUMNS, "map", "mrr"])
def test_single_entries_may_be_masked(spec):
    scores, targets = draw(12, 20, 5)
    mask = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0)) < 0.8
    leaf, again, base = (scores.clone().requires_grad_() for _ in range(3))
    batch = checked(mg.as_metric(spec), leaf, targets, {"mask": mask}, check_finite=True)
    (ours,) = torch.autograd.grad(batch.scores, leaf, -found(mg.as_metric(spec), batch).gradient)
    metric = mg.as_metric(spec)._copy(fast_path=None)
    mg.UniLoss(metric, anchored=False, softness=1.0)(again, targets, mask=mask).backward()
    torch.testing.assert_close(ours, -again.grad, rtol=1e-4, atol=1e-7)
    mg.UniLoss(spec, weight=0.0)(leaf, targets, mask=mask).backward()
    torch.nn.functional.binary_cross_entropy_with_logits(base[mask], targets[mask].double()).backward()
    torch.testing.assert_close(leaf.grad, base.grad)


@pytest.mark.parametrize("spec", ["average_precision", "auroc", "map"])
def test_a_long_list_may_have_no_negatives(spec):
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (3, 600), generator=g)
    targets[1] = 1
    scores = torch.randn(3, 600, generator=g)
    if spec in COLUMNS:
        scores, targets = scores.mT, targets.mT
    leaf = scores.clone().requires_grad_()
    mg.UniLoss(spec, base_weight=0.0, weight=1.0)(leaf, targets).backward()
    assert leaf.grad.isfinite().all()
    assert leaf.grad.any()


def test_bytes_may_be_numbers_of_many_classes():
    scores = torch.randn(40, 300, generator=torch.Generator().manual_seed(0))
    values = [mg.UniLoss("mrr")(scores, (torch.arange(40) * 6).to(kind)) for kind in (torch.int64, torch.uint8)]
    assert values[0] == values[1]


def test_where_nothing_is_ordered_a_correlation_is_as_far_from_ideal_as_chance():
    targets = torch.randn(20, generator=torch.Generator().manual_seed(0))
    leaf = torch.zeros(20, requires_grad=True)
    value = mg.UniLoss("spearman", weight=1.0)(leaf, targets)
    value.backward()
    assert float(value.detach()) == pytest.approx(1)
    assert leaf.grad.any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spec", ["average_precision", "auroc", "map", "spearman", "ndcg"])
def test_torch_has_nothing_to_complain_of(spec):
    mg.UniLoss(spec)(torch.randn(30, 4).requires_grad_(), torch.randint(2, (30, 4))).backward()


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("metric", ["spearman", "kendall"])
def test_class_numbers_are_no_values_to_correlate(metric, anchored):
    scores = torch.randn(9, 4, requires_grad=True)
    with pytest.raises(mg.MetricgradError, match=r"scores and targets of one shape, got \(9, 4\) and \(9,\)"):
        mg.UniLoss(metric, anchored=anchored)(scores, torch.arange(9) % 4)


@pytest.mark.parametrize("name", ["ndcg", "ndcg:k=2"])
def test_ndcg_of_relevant_items_and_others_is_of_the_pairs_between_them(name):
    """Where items tie too, and in rows without any; what is not relevant is not pushed by what is not either."""
    scores, targets = draw(11, 12, 6)
    scores, targets[3] = scores.round(), 0
    found = mg.UniLoss(name)(scores, targets)
    metric = mg.as_metric(name)
    ideal = metric(targets.double(), targets)
    assert float(found) == pytest.approx(float(ideal - metric(scores, targets)), abs=1e-6)

    one = torch.tensor([[3.0, 1.0, 0.9, -4.0]], dtype=torch.float64, requires_grad=True)  # the first is relevant
    loss = mg.UniLoss(name, base_weight=0.0, weight=1.0)
    (own,) = torch.autograd.grad(loss(one, torch.tensor([[1, 0, 0, 0]])), one)
    assert own[0, 0] < 0 < own[0, 1:].min()


def test_answers_of_a_batch_as_each_others_negatives_train_on_ndcg():
    """As well as on cross-entropy, of which a tenth is left."""

    def trained(loss):
        g = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        queries = torch.randn(2500, 16, generator=g)
        answers = queries @ torch.randn(16, 24, generator=g) / 4 + 0.45 * torch.randn(2500, 24, generator=g)
        left, right = (
            torch.nn.Sequential(torch.nn.Linear(d, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32)) for d in (16, 24)
        )
        model = torch.nn.ModuleList([left, right])
        optimizer = torch.optim.Adam(model.parameters(), 0.003)
        if isinstance(loss, mg.Loss):
            loss.attach(model, optimizer, total_steps=150)

        def similarities(rows):
            a, b = (torch.nn.functional.normalize(x, dim=1) for x in (left(queries[rows]), right(answers[rows])))
            return 10 * a @ b.T

        for _ in range(150):
            rows = torch.randint(2000, (64,), generator=g)
            optimizer.zero_grad()
            loss(similarities(rows), torch.arange(64)).backward()
            optimizer.step()
        with torch.no_grad():
            return float(mg.as_metric("ndcg")(similarities(torch.arange(2000, 2500)), torch.arange(500)))

    ours, standard = trained(mg.UniLoss("ndcg")), trained(torch.nn.CrossEntropyLoss())
    assert ours > standard - 0.02 > 0.8


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("metric", "levels"), [("map", 2), ("mrr", 2), ("precision_at_k:k=3", 2), ("ndcg", 2), ("ndcg", 4)]
)
def test_queries_of_like_length_lie_together(metric, levels, weighted, monkeypatch):
    """However they are dealt to buckets, they are one mean."""
    metric, batch = mg.as_metric(metric), queries(3, levels=levels, weighted=weighted)
    whole = found(metric, batch, q=None if levels == 2 else 0.5)
    monkeypatch.setattr(lists_of, "_SPARE", (0, 0))
    dealt = found(metric, batch, q=None if levels == 2 else 0.5)
    path = metric.fast_path.by_gain or metric.fast_path
    assert len(ranked_lists(batch, for_batch(metric.structure, batch, metric), path)) > 2
    torch.testing.assert_close(dealt.gradient, whole.gradient)
    torch.testing.assert_close((dealt.now, dealt.ideal), (whole.now, whole.ideal))
    assert torch.equal(dealt.informs, whole.informs)
    leaf = batch.scores.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(dealt.loss(leaf), leaf)[0], whole.gradient)
    check(metric, batch)


def test_one_long_query_among_many_short_ones_costs_no_more_than_its_own():
    """Side by side they would take 10 million places."""
    sizes = torch.cat([torch.full((2000,), 4), torch.tensor([5000])])
    groups = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    batch = Batch(torch.randn(len(groups)), (torch.arange(len(groups)) % 3 == 0).long(), {"groups": groups})
    metric = mg.as_metric("map")
    lists = ranked_lists(batch, for_batch(metric.structure, batch, metric), metric.fast_path)
    assert sum(some.relevance.numel() for some in lists) < 2 * len(groups)
    assert float(found(metric, batch).now) == pytest.approx(float(metric(batch.scores, batch.targets, groups=groups)))


@pytest.mark.parametrize("softness", [1e-3, 1.0])
@pytest.mark.parametrize("spec", [*COLUMNS, *ROWS, "ndcg"])
def test_infinite_scores_are_worth_what_very_large_ones_are(spec, softness):
    """Let through in float64, as under loss scaling: no sum of distances overflows."""
    scores, targets = draw(0)
    scores[0], scores[3, :3], scores[5, 2] = torch.inf, -torch.inf, torch.inf

    def value(scores):
        loss = mg.UniLoss(spec, anchored=False, softness=softness, check_finite=False)
        loss.check_finite = False
        return loss(scores.requires_grad_(), targets)

    assert value(scores).item() == pytest.approx(value(scores.detach().clamp(-1e60, 1e60)).item(), rel=1e-12)
