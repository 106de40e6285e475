"""Where classes stand in the scores, what is ignored, what is a yes: against torch, torchmetrics and scikit-learn."""

import copy

import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score
from torch import nn
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_jaccard_index,
    multiclass_matthews_corrcoef,
)

import metricgrad as mg
from metricgrad.losses.baselines.cross_entropy import CrossEntropy
from metricgrad.losses.baselines.lovasz import Lovasz
from metricgrad.refactoring.labels import Argmax

CLASSES = 4
REST = {"images": (6, 5), "sequences": (7,), "volumes": (3, 5, 2), "rows": ()}
OF_CLASSES = ("accuracy", "macro_f1", "micro_f1", "mcc", "kappa", "mean_iou", "dice", "top_k_accuracy:k=2", "auroc")


def batch(rest, seed=0, ignored=True):
    g = torch.Generator().manual_seed(seed)
    n = 3 if rest else 40
    scores = torch.randn(n, CLASSES, *rest, generator=g)
    targets = torch.randint(CLASSES, (n, *rest), generator=g)
    if ignored:
        targets[torch.rand(targets.shape, generator=g) < 0.3] = 255
    return scores, targets


def rows(scores, targets):
    flat, labels = scores.movedim(1, -1).reshape(-1, scores.shape[1]), targets.reshape(-1)
    return flat[labels != 255], labels[labels != 255]


@pytest.mark.parametrize("rest", REST.values(), ids=REST)
@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_metric_reads_what_cross_entropy_takes(name, rest):
    scores, targets = batch(rest, seed=1)
    expected = mg.as_metric(name)(*rows(scores, targets))
    metric = mg.as_metric(name, ignore_index=255)
    assert metric(scores, targets) == expected
    assert metric(scores.movedim(1, -1), targets) == expected
    assert metric.over(torch.stack([scores, -scores]), targets)[0] == expected
    given = torch.rand(targets.shape, generator=torch.Generator().manual_seed(5)) < 0.8
    masked = mg.as_metric(name)(scores.movedim(1, -1), targets, mask=given & (targets != 255))
    assert torch.equal(metric(scores, targets, mask=given), masked) or masked.isnan()


@pytest.mark.parametrize("rest", REST.values(), ids=REST)
def test_values_are_those_of_torchmetrics(rest):
    scores, targets = batch(rest, seed=3)
    for name, theirs in (
        ("accuracy", lambda s, t: multiclass_accuracy(s, t, CLASSES, average="micro", ignore_index=255)),
        ("macro_f1", lambda s, t: multiclass_f1_score(s, t, CLASSES, ignore_index=255)),
        ("mcc", lambda s, t: multiclass_matthews_corrcoef(s, t, CLASSES, ignore_index=255)),
        ("mean_iou", lambda s, t: multiclass_jaccard_index(s, t, CLASSES, ignore_index=255)),
    ):
        found = mg.as_metric(name, ignore_index=255)(scores, targets)
        assert float(found) == pytest.approx(float(theirs(scores, targets)), abs=1e-6), name


@pytest.mark.parametrize("rest", REST.values(), ids=REST)
def test_cross_entropy_is_torch_s(rest):
    scores, targets = batch(rest)
    expected = nn.functional.cross_entropy(scores, targets, ignore_index=255)
    assert float(CrossEntropy()(scores, targets, mask=targets != 255)) == pytest.approx(float(expected), rel=1e-6)
    whole = batch(rest, ignored=False)
    assert float(CrossEntropy()(*whole)) == pytest.approx(float(nn.functional.cross_entropy(*whole)), rel=1e-6)
    rowed = rows(*whole)
    assert float(Lovasz()(*whole)) == pytest.approx(float(Lovasz()(*rowed)), rel=1e-6)


LOSSES = {
    "uniloss": lambda m: mg.UniLoss(m),
    "uniloss alone": lambda m: mg.UniLoss(m, anchored=False, softness=1.0),
    "ala": lambda m: mg.ALA(m, num_outputs=CLASSES),
    "adalfl": lambda m: mg.AdaLFL(CLASSES, ignore_index=m.class_targets.ignore_index),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
def test_a_loss_reads_through_its_metric(make):
    scores, targets = batch((6, 5))
    scores.requires_grad_()
    value = make(mg.as_metric("macro_f1", ignore_index=255))(scores, targets)
    (gradient,) = torch.autograd.grad(value, scores)
    last = scores.movedim(1, -1)
    expected = make(mg.as_metric("macro_f1"))(last, targets.clamp(max=CLASSES - 1), mask=targets != 255)
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, scores)[0])
    assert not gradient.movedim(1, -1)[targets == 255].any()


def test_what_two_readings_fit_is_refused_with_both():
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(8, 8, 8, generator=g), torch.randint(8, (8, 8), generator=g)
    for called in (mg.as_metric("accuracy"), mg.UniLoss("accuracy"), CrossEntropy(), mg.AdaLFL(8)):
        with pytest.raises(mg.MetricgradError, match=r"8 classes on axis 1.*or 8 classes on the last axis.*class_dim"):
            called(scores, targets)
    first, last = (mg.as_metric("accuracy", class_dim=dim) for dim in (1, -1))
    assert float(first(scores, targets)) == pytest.approx(float((scores.argmax(1) == targets).double().mean()))
    assert float(last(scores, targets)) == pytest.approx(float((scores.argmax(-1) == targets).double().mean()))
    assert float(mg.UniLoss("accuracy", class_dim=1)(scores, targets)) == pytest.approx(
        1 - float(first(scores, targets))
    )
    assert float(mg.UniLoss(last)(scores, targets)) == pytest.approx(1 - float(last(scores, targets)))
    with pytest.raises(mg.MetricgradError, match="class_dim is -1, but"):
        last(scores[:, :3], targets % 3)
    with pytest.raises(mg.MetricgradError, match="class_dim is 2"):
        mg.as_metric("accuracy", class_dim=2)


def test_the_first_clear_reading_is_kept_in_state_dict():
    g = torch.Generator().manual_seed(0)
    clear = torch.randn(2, 4, 5, generator=g), torch.randint(4, (2, 5), generator=g)
    unclear = torch.randn(2, 4, 4, generator=g), torch.randint(4, (2, 4), generator=g)
    loss = mg.UniLoss("accuracy")
    loss(*clear)
    other = mg.UniLoss("accuracy")
    other.load_state_dict(loss.state_dict())
    for made in (loss, other):
        value = float(made(*unclear))
        assert value == pytest.approx(1 - float((unclear[0].argmax(1) == unclear[1]).double().mean()))
    loss(clear[0].movedim(1, -1), clear[1])  # a clear batch is read as it is
    old = {key: value for key, value in loss.state_dict().items() if key != "classes.axis"}
    mg.UniLoss("accuracy").load_state_dict(old)


def test_a_saved_loss_reads_as_it_did(tmp_path):
    scores, targets = batch((6, 5))
    loss = mg.AdaLFL(CLASSES, class_dim=1, ignore_index=255)
    loss.save(tmp_path / "loss.safetensors")
    again = mg.load_loss(tmp_path / "loss.safetensors")
    assert torch.equal(again(scores, targets), loss(scores, targets))
    metric = mg.as_metric("dice", ignore_index=255, class_dim=1)
    assert mg.as_metric(metric.spec)(scores, targets) == metric(scores, targets)


@pytest.mark.parametrize("make", [
    lambda name, **said: mg.UniLoss(name, **said),
    lambda name, **said: mg.ALA(name, num_outputs=CLASSES, **said),
], ids=["uniloss", "ala"])  # fmt: skip
def test_what_is_ignored_may_be_said_of_the_loss(make, tmp_path):
    scores, targets = batch((6, 5))
    loss, expected = make("macro_f1", ignore_index=255), make(mg.as_metric("macro_f1", ignore_index=255))
    assert torch.equal(loss(scores, targets), expected(scores, targets))
    loss.save(tmp_path / "loss.safetensors")
    again = mg.load_loss(tmp_path / "loss.safetensors")
    assert torch.equal(again(scores, targets), loss(scores, targets))


def test_a_callable_is_never_told_and_gets_what_is_left():
    scores, targets = batch((6, 5))
    seen = []

    def right(labels, truth):
        seen.append(labels.shape)
        return (labels == truth).double().mean()

    metric = mg.as_metric(right, higher_is_better=True, reads="labels", ignore_index=255)
    kept = targets != 255
    assert float(metric(scores, targets)) == pytest.approx(float((scores.argmax(1) == targets)[kept].double().mean()))
    assert seen == [(int(kept.sum()),)]

    def masked(labels, truth, mask):
        return ((labels == truth) & mask).sum((1, 2)).double().div(mask.sum((1, 2))).mean()

    by_image = mg.as_metric(masked, higher_is_better=True, reads="labels", ignore_index=255)
    each = [(scores[i].argmax(0) == targets[i])[kept[i]].double().mean() for i in range(3)]
    assert float(by_image(scores, targets)) == pytest.approx(float(sum(each) / 3))


@pytest.mark.parametrize("pos_label", [0, 1])
@pytest.mark.parametrize(("name", "theirs"), [("f1", f1_score), ("jaccard", jaccard_score)])
def test_pos_label_is_scikit_learn_s(name, theirs, pos_label):
    g = torch.Generator().manual_seed(4)
    scores, targets = torch.randn(60, generator=g).round(), torch.randint(2, (60,), generator=g)
    metric, expected = mg.as_metric(name, pos_label=pos_label), theirs(targets, scores > 0, pos_label=pos_label)
    assert float(metric(scores, targets)) == pytest.approx(expected)
    both = torch.stack([torch.zeros(60), scores], 1)
    assert float(metric(both, targets)) == pytest.approx(expected)
    ours = mg.as_metric(theirs, pos_label=pos_label)  # its own argument, which it gets
    assert float(ours(scores, targets)) == pytest.approx(expected)


def test_pos_label_of_other_numbers():
    g = torch.Generator().manual_seed(4)
    scores, yes = torch.randn(40, generator=g), torch.randint(2, (40,), generator=g)
    auroc = mg.as_metric("auroc", pos_label=255)
    assert float(auroc(scores, yes * 255)) == pytest.approx(roc_auc_score(yes, scores))
    loss = mg.UniLoss(mg.as_metric("f1", pos_label=255))
    assert float(loss(scores, yes * 255)) == pytest.approx(float(mg.UniLoss("f1")(scores, yes)))
    with pytest.raises(mg.MetricgradError, match="pos_label is 2, and the scores are of 3 classes"):
        mg.as_metric("f1", pos_label=2)(torch.randn(5, 3), torch.randint(3, (5,)))


def test_a_network_with_one_channel_gives_yes_or_no():
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(2, 1, 4, 5, generator=g), torch.randint(2, (2, 4, 5), generator=g)
    assert mg.as_metric("dice")(scores, targets) == mg.as_metric("dice")(scores[:, 0], targets)
    assert float(CrossEntropy()(scores, targets)) == pytest.approx(
        float(nn.functional.binary_cross_entropy_with_logits(scores[:, 0], targets.float())), rel=1e-6
    )


@pytest.mark.parametrize("name", ["mse", "pck", "span_f1"])
def test_targets_that_are_no_classes_ignore_none(name):
    with pytest.raises(mg.MetricgradError, match=r"takes no ignore_index.*mask="):
        mg.as_metric(name, ignore_index=255)


@pytest.mark.parametrize("number", [True, 2.5, "255"])
def test_an_ignored_target_is_a_whole_number(number):
    with pytest.raises(mg.MetricgradError, match="expected a whole number"):
        mg.as_metric("dice", ignore_index=number)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [
    lambda m: mg.ALA(m, num_outputs=CLASSES, every=2, warm_up=0),
    lambda m: mg.AdaLFL(CLASSES, ignore_index=255),
    lambda m: mg.AdaLFL(CLASSES, ignore_index=255, every=2),
], ids=["ala", "adalfl", "adalfl every 2"])  # fmt: skip
def test_an_aligner_sees_read_batches(make):
    inputs = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    _, targets = batch((5, 5))
    targets = targets.repeat(2, 1, 1)
    torch.manual_seed(0)
    model = nn.Conv2d(3, CLASSES, 3, padding=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = make(mg.as_metric("macro_f1", ignore_index=255))
    handle = loss.attach(model, optimizer, valid=[(inputs[3:], targets[3:])], total_steps=8)
    before = [p.detach().clone() for p in loss.form.parameters()]
    for _ in range(8):
        optimizer.zero_grad()
        loss(model(inputs[:3]), targets[:3]).backward()
        optimizer.step()
    handle.detach()
    assert any(not torch.equal(old, new) for old, new in zip(before, loss.form.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore")
def test_reloss_and_decisions_of_images():
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (12, 6, 5), generator=g)
    scores = torch.randn(12, 3, 6, 5, generator=g) + 2 * nn.functional.one_hot(targets, 3).movedim(-1, 1)
    targets[:, 0] = 255
    metric = mg.as_metric("macro_f1", ignore_index=255)
    loss = mg.ReLoss.fit(metric, scores, targets, steps=5, block=32, values=8)
    rows_of = mg.ReLoss.fit("macro_f1", *rows(scores, targets), steps=5, block=32, values=8)
    assert float(loss(scores, targets)) == pytest.approx(float(rows_of(*rows(scores, targets))), rel=1e-5)
    assert mg.infer_refactoring(metric, scores, targets).name == "argmax"
    decision = mg.fit_decision(metric, scores, targets)
    decided = metric(decision(scores), targets)
    assert float(decided) >= float(metric(scores, targets)) - 0.02
    assert decision.predict(scores).shape == targets.shape


COUNTED = ("dice", "mean_iou", "f1", "macro_f1", "accuracy", "jaccard", "mcc", "balanced_accuracy", "fbeta:beta=2")


@pytest.mark.parametrize("name", COUNTED)
def test_groups_give_the_mean_over_images(name):
    classes = 2 if name in ("f1", "jaccard", "fbeta:beta=2") else 3
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(4, classes, 5, 6, generator=g), torch.randint(classes, (4, 5, 6), generator=g)
    scores[3], targets[3] = torch.tensor([1.0, *[0.0] * (classes - 1)])[:, None, None], 0  # nothing but background
    metric, images = mg.as_metric(name), torch.tensor([4, 0, 2, 9])
    each = torch.stack([metric(scores[i : i + 1], targets[i : i + 1]) for i in range(4)])
    assert float(metric(scores, targets, groups=images)) == pytest.approx(float(each.nanmean()))
    by_number = torch.tensor([1.0, 2.0, 0.0, 1.0])
    weight = by_number[images.argsort().argsort()]
    there = ~each.isnan()
    expected = (each * weight)[there].sum() / weight[there].sum()
    rows = images[:, None, None].expand(targets.shape).reshape(-1)
    found = metric(scores.movedim(1, -1).flatten(0, 2), targets.reshape(-1), groups=rows, sample_weight=by_number)
    assert float(found) == pytest.approx(float(expected))


@pytest.mark.parametrize("kind", ["classes", "masks"])
def test_a_loss_of_image_means_trains_on_the_mean_over_images(kind):
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (4, 6, 6), generator=g)
    targets[1:, 1:] = 0  # objects of 36 to 6 pixels, which count alike
    scores = torch.randn((4, 2, 6, 6) if kind == "classes" else (4, 6, 6), generator=g).requires_grad_()
    metric, images = mg.as_metric("dice"), torch.arange(4)
    loss, optimizer = mg.UniLoss(metric, anchored=False, softness=1.0), torch.optim.Adam([scores], 0.2)
    assert float(metric(scores.detach(), targets, groups=images)) < 0.6
    for _ in range(30):
        optimizer.zero_grad()
        loss(scores, targets, groups=images).backward()
        optimizer.step()
    assert float(metric(scores.detach(), targets, groups=images)) > 0.95


def test_entries_of_one_group_stand_for_each_other():
    g = torch.Generator().manual_seed(0)
    scores, targets = torch.randn(24, 2, generator=g), torch.randint(2, (24,), generator=g)
    images = torch.arange(24) // 8
    exact = mg.UniLoss("dice", anchored=False, softness=1.0, refactoring=Argmax(exchangeable="none"))
    shared = mg.UniLoss("dice", anchored=False, softness=1.0)
    for loss in (exact, shared):
        loss.eval()
    gradients = []
    for loss in (exact, shared):
        leaf = scores.clone().requires_grad_()
        loss(leaf, targets, groups=images).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_a_state_in_which_nothing_was_shown_is_shown_again():
    loss, targets = mg.UniLoss("macro_f1"), torch.arange(12).reshape(4, 3) % 5
    fresh = copy.deepcopy(loss.state_dict())
    loss(torch.randn(4, 5, 3), targets)
    assert int(loss.classes.axis) == 1
    loss.load_state_dict(fresh)
    assert int(loss.classes.axis) == 0
    loss(torch.randn(4, 3, 5), targets)
    assert int(loss.classes.axis) == 2
