"""ALA: which form and aligner it puts together, and what it refuses."""

import warnings

import pytest
import torch

import metricgrad as mg
from metricgrad.aligners.knobs.policy import Policy
from metricgrad.aligners.knobs.random_walk import RandomWalk
from metricgrad.aligners.static import Static
from metricgrad.losses.families.classification import ClassificationFamily
from metricgrad.losses.families.correlation_matrix import CorrelationMatrix


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
    for aligner in (Policy("f1", every=7, entropy=0.2, learner="reinforce", seed=3), RandomWalk("f1", evaluations=2)):
        assert type(aligner)(**aligner.config()).config() == aligner.config()
    with pytest.warns(UserWarning, match="collapse"):
        paper = Policy("f1", paper=True)
    with pytest.warns(UserWarning, match="collapse"):
        assert Policy(**paper.config()).config() == paper.config()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"aligner": "magic"}, "aligner is 'magic'"),
        ({"evry": 5}, "no option 'evry'.*every"),
        ({"aligner": "static", "evry": 5}, "no option 'evry'"),
        ({"num_outputs": None, "paper": True}, "number of classes"),
        ({"num_outputs": 2.5}, "num_outputs is 2.5"),
    ],
)
def test_refusals_say_what_was_wrong(options, words):
    with pytest.raises(mg.MetricgradError, match=words):
        mg.ALA("accuracy", **options)


def test_controls_take_the_policys_options_and_leave_aside_what_they_cannot_use():
    options = {"lr": 1e-2, "learner": "reinforce", "every": 7}
    walk = mg.ALA("accuracy", aligner="random_walk", **options)
    assert walk.aligner.settings.every == 7
    assert isinstance(mg.ALA("accuracy", aligner="static", **options).aligner, Static)


@pytest.mark.parametrize("options", [{}, {"every": 20}, {"warm_up": 2}])
def test_a_walk_beside_the_published_policy_has_its_schedule(options):
    with pytest.warns(UserWarning, match="collapse"):
        policy = mg.ALA("accuracy", paper=True, **options).aligner
    walk = mg.ALA("accuracy", paper=True, aligner="random_walk", **options).aligner
    shared = walk.config()
    assert {name: policy.config()[name] for name in shared} == shared


def test_scores_of_another_width_come_with_the_remedy():
    with pytest.raises(mg.MetricgradError, match="num_outputs=None"):
        mg.ALA("f1")(torch.randn(8), torch.arange(8) % 2)


def test_options_that_the_bandit_ignores_are_named():
    with pytest.warns(UserWarning, match="entropy, lr do nothing.*learner='reinforce'"):
        mg.ALA("accuracy", num_outputs=3, lr=0.5, entropy=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mg.ALA("accuracy", num_outputs=3)
        mg.ALA("accuracy", num_outputs=3, lr=0.5, learner="reinforce")
