"""A state says what loss it is of, and another loss takes none of it."""

import copy

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.knobs.policy import Policy
from metricgrad.losses.composite.anchored import Anchored
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix


def _share(predictions, targets, beta=1):
    return float((predictions == targets).float().mean()) * beta


def _cost(predictions, targets):
    return float((predictions != targets).float().mean())


def _ala(**options):
    return mg.ALA("macro_f1", num_outputs=3, **options)


def _around(metric):
    return mg.Loss(Anchored(nn.CrossEntropyLoss(), mg.UniLoss(metric).form.form))


def _own(fn=_share, **options):
    return mg.UniLoss(mg.as_metric(fn, **{"higher_is_better": True, "reads": "labels", **options}))


@pytest.mark.parametrize(
    ("saved", "other", "told"),
    [
        (mg.UniLoss("f1"), mg.UniLoss("macro_f1"), "metric was 'f1' and is 'macro_f1'"),
        (mg.UniLoss("f1"), mg.UniLoss("f1", memory=64), "memory was 1024 and is 64"),
        (mg.UniLoss("f1"), mg.UniLoss("f1:pos_label=0"), "metric was 'f1' and is 'f1:pos_label=0'"),
        (_ala(), mg.ALA("accuracy", num_outputs=3), "aligner.metric was 'macro_f1' and is 'accuracy'"),
        (_ala(every=5), _ala(every=7), "every was 5 and is 7"),
        (_ala(warm_up=0), _ala(), "warm_up was 0 and is 3"),
        (_ala(form=CorrelationMatrix(3)), _ala(), "form was 'correlation_matrix' and is '"),
        (mg.AdaLFL(num_outputs=3), mg.AdaLFL(num_outputs=3, every=2), "aligner.every was 1 and is 2"),
        (mg.Loss(CorrelationMatrix(3), Policy("f1")), mg.Loss(CorrelationMatrix(3)), "aligner was 'policy'"),
        (_around("f1"), _around("macro_f1"), "metric='f1', .* and is .*metric='macro_f1'"),
        (_own(), _own(_cost, higher_is_better=False), r"is was 'Metric\(_share, .*_cost.*lower is better"),
        (_own(beta=1), _own(beta=2), "beta was 1 and is 2"),
    ],
)  # fmt: skip
def test_another_loss_is_named_and_left_as_it_was(saved, other, told):
    before, holder = copy.deepcopy(other.state_dict()), nn.ModuleDict({"loss": other})
    for load, state in ((other, saved.state_dict()), (holder, nn.ModuleDict({"loss": saved}).state_dict())):
        with pytest.raises(mg.MetricgradError, match=told):
            load.load_state_dict(state, strict=False)
    for name, value in other.state_dict().items():
        if name.endswith("_extra_state"):
            assert value == before[name]
            continue
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


def test_what_it_says_may_be_left_out_as_earlier_versions_did():
    saved, other = mg.UniLoss("f1", seed=3), mg.UniLoss("macro_f1")
    saved(torch.randn(8, requires_grad=True), torch.arange(8) % 2)
    state = saved.state_dict()
    del state["description"]
    other.load_state_dict(state)
    assert (int(other.steps), other.seed) == (1, 0)


def test_a_state_brings_its_seed_and_the_same_loss_takes_it():
    saved, again = mg.AdaLFL(num_outputs=3).train(), mg.AdaLFL(num_outputs=3)
    saved.seed = 5
    again.load_state_dict(torch.utils._pytree.tree_map(torch.clone, saved.state_dict()))  # all of it are tensors
    assert again.seed == 5


def test_what_no_loss_wrote_is_refused():
    state = mg.UniLoss("f1").state_dict()
    for spoiled in (torch.tensor([7], dtype=torch.uint8), torch.ones(3), "f1"):
        with pytest.raises(mg.MetricgradError, match="'description' is"):
            mg.UniLoss("f1").load_state_dict({**state, "description": spoiled})
