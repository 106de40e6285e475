"""ALA: which form and aligner it puts together, and what it refuses."""

import pytest
import torch

import metricgrad as mg
from metricgrad.aligners.policy import Policy
from metricgrad.aligners.random_walk import RandomWalk
from metricgrad.aligners.static import Static
from metricgrad.losses.classification_family import ClassificationFamily
from metricgrad.losses.correlation_matrix import CorrelationMatrix


def test_the_default_is_cross_entropy_under_a_policy():
    loss = mg.ALA("accuracy")
    assert isinstance(loss.form, ClassificationFamily)
    assert isinstance(loss.aligner, Policy)
    scores, targets = torch.randn(20, 10), torch.arange(20) % 10
    torch.testing.assert_close(loss(scores, targets), torch.nn.functional.cross_entropy(scores, targets))


def test_its_controls_have_the_same_form_and_the_same_steps():
    policy, walk, static = (mg.ALA("accuracy", aligner=name) for name in ("policy", "random_walk", "static"))
    assert isinstance(walk.aligner, RandomWalk)
    assert isinstance(static.aligner, Static)
    assert type(policy.form) is type(walk.form) is type(static.form)
    shared = walk.aligner.config()
    assert {name: policy.aligner.config()[name] for name in shared} == shared


def test_a_form_of_ones_own():
    form = CorrelationMatrix(4)
    assert mg.ALA("accuracy", form).form is form


def test_every_config_builds_the_aligner_again():
    for aligner in (Policy("f1", every=7, entropy=0.2, learner="reinforce", seed=3), RandomWalk("f1", looks=2)):
        assert type(aligner)(**aligner.config()).config() == aligner.config()
    with pytest.warns(UserWarning, match="collapse"):
        paper = Policy("f1", paper=True)
    with pytest.warns(UserWarning, match="collapse"):
        assert Policy(**paper.config()).config() == paper.config()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"aligner": "magic"}, "aligner is 'magic'"), ({"aligner": "static", "every": 3}, "every")],
)
def test_refusals_say_what_was_wrong(options, words):
    with pytest.raises(mg.MetricgradError, match=words):
        mg.ALA("accuracy", **options)
