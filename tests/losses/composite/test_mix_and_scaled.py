"""Forms made of forms: their values, their knobs, and that they are saved with what is in them."""

import pytest
import torch
from torch.nn.functional import cross_entropy

import metricgrad as mg
from metricgrad.losses.composite.hand_made import HandMade
from metricgrad.losses.composite.mix import Mix
from metricgrad.losses.composite.scaled import Scaled
from metricgrad.losses.families.classification import ClassificationFamily
from metricgrad.losses.networks.sets import SetNetwork


def _batch():
    g = torch.Generator().manual_seed(0)
    return torch.randn(30, 3, generator=g), torch.randint(3, (30,), generator=g)


def _plain():
    return ClassificationFamily(3, turns=())


def test_a_mix_is_the_weighted_sum():
    scores, targets = _batch()
    uni, network = mg.UniLoss("accuracy", softness=1.0).form, SetNetwork()
    parts = [float(mg.Loss(form).eval()(scores, targets)) for form in (uni, network)]
    mixed = mg.Loss(Mix([uni, network], [1.0, 3.0])).eval()
    assert float(mixed(scores, targets)) == pytest.approx(0.25 * parts[0] + 0.75 * parts[1], rel=1e-5)


def test_project_makes_a_mixture_of_any_weights():
    form = Mix([_plain(), _plain()])
    for start, expected in (((0.2, 0.6), (0.25, 0.75)), ((-1.0, 0.4), (0.0, 1.0)), ((0.0, -1.0), (0.5, 0.5))):
        form.weights.copy_(torch.tensor(start))
        form.project()
        assert form.weights.tolist() == pytest.approx(expected)


def test_scaled_scales_the_value_and_sharpens_the_scores():
    scores, targets = _batch()
    loss = mg.Loss(Scaled(_plain()))
    assert torch.equal(loss(scores, targets), cross_entropy(scores, targets))
    loss.form.scale.fill_(torch.tensor(2.0).log())
    loss.form.sharpness.fill_(torch.tensor(3.0).log())
    torch.testing.assert_close(loss(scores, targets), 2 * cross_entropy(3 * scores, targets))


def test_a_policy_moves_them():
    for form in (Mix([mg.UniLoss("accuracy").form, _plain()]), Scaled(SetNetwork())):
        loss = mg.ALA("accuracy", form, warm_up=0)
        before = [float(k.parameter) for k in form.knobs().values()]
        for _ in range(4):
            loss.observe(*_batch())
        assert [float(k.parameter) for k in form.knobs().values()] != before


def test_nested_forms_are_saved_and_loaded(tmp_path):
    def share_right(labels, targets):
        return (labels == targets).float().mean()

    foreign = mg.as_metric(share_right, higher_is_better=True, reads="labels")
    inner = Mix([mg.UniLoss(foreign).form, Scaled(SetNetwork(seed=5))], [0.2, 0.8])
    loss = mg.ALA(foreign, Scaled(inner), warm_up=0)
    loss(*_batch())
    loss.observe(*_batch())
    loss.save(tmp_path / "loss.safetensors")
    with pytest.raises(mg.MetricgradError, match="pass it again"):
        mg.load_loss(tmp_path / "loss.safetensors")
    again = mg.load_loss(tmp_path / "loss.safetensors", metric=foreign)
    assert torch.equal(again.eval()(*_batch()), loss.eval()(*_batch()))
    assert again.form.form.weights.tolist() == pytest.approx([0.2, 0.8])


def test_a_plain_module_inside_cannot_be_saved(tmp_path):
    loss = mg.Loss(Scaled(HandMade(torch.nn.CrossEntropyLoss())))
    with pytest.raises(mg.MetricgradError, match="hand_made"):
        loss.save(tmp_path / "loss.safetensors")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Mix([_plain()]), "two forms"),
        (lambda: Mix([_plain(), _plain()], [1.0]), "weights"),
        (lambda: Mix([_plain(), _plain()], [-1.0, 2.0]), "weights"),
        (lambda: Scaled(torch.nn.CrossEntropyLoss()), "HandMade"),
    ],
)
def test_refusals_say_what_was_wrong(make, words):
    with pytest.raises(mg.MetricgradError, match=words):
        make()


@pytest.mark.parametrize(("make", "told"), [(lambda: mg.UniLoss("macro_f1").form, 1), (lambda: SetNetwork(), 0)])
def test_a_look_ahead_around_a_metric_is_told_once(make, told, recwarn):
    loss, model = mg.Loss(Scaled(make()), mg.aligners.LookAhead()), torch.nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss.attach(model, optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        loss(model(torch.randn(12, 4)), torch.arange(12) % 3).backward()
        optimizer.step()
    assert sum("the sharpness of Scaled is moved by its gradient" in str(w.message) for w in recwarn) == told
