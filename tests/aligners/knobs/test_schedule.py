"""Looking at validation data costs less than a tenth of training, counted in rows and steps, never by a clock."""

import math

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.aligners.knobs.policy import Policy
from metricgrad.aligners.knobs.schedule import FEWEST, period_and_rows
from metricgrad.systems.by_name import make_loss
from tests.aligners.lookahead.toys import OneKnob

A_THIRD = 1 / 3  # of what a row costs in training is what it costs to be scored


@pytest.mark.parametrize("batch", [1, 16, 64, 512, 8192])
@pytest.mark.parametrize("total", [None, 100, 510, 5_000, 100_000])
@pytest.mark.parametrize(("rows", "evaluations"), [(1024, 1), (1024, 5), (100, 1), (20_000, 1)])
def test_the_default_is_below_a_tenth(batch, total, rows, evaluations):
    period, scored = period_and_rows(total, batch, rows, evaluations)
    assert period >= 20
    assert evaluations <= period
    assert min(rows, FEWEST) <= scored <= rows
    assert A_THIRD * scored * evaluations / (period * batch) < 0.1


def test_long_trainings_have_a_hundred_periods_on_all_the_rows_asked_for():
    assert period_and_rows(10_000, 64, 1024, 1) == (100, 1024)
    assert period_and_rows(100_000, 64, 1024, 1) == (200, 1024)


def test_what_is_asked_for_is_done():
    for given, expected in (({"every": 3}, (3, 1024)), ({"every": 3, "rows": None}, (3, None))):
        loss = mg.ALA("accuracy", num_outputs=3, **given)
        loss.aligner.state.batch = 2
        schedule = loss.aligner.schedule(1000)
        assert (schedule.period, schedule.rows) == expected
    assert period_and_rows(None, 64, None, 1) == (50, None)


@pytest.mark.parametrize(("batch", "held_out"), [(8, 300), (32, 2000), (64, 250)])
@pytest.mark.parametrize("split", [True, False])
def test_a_plain_loop_scores_few_rows_beside_those_it_trains_on(batch, held_out, split):
    counted = {True: 0, False: 0}
    model = nn.Linear(5, 3)
    model.register_forward_hook(
        lambda _, args, __: counted.update({torch.is_grad_enabled(): counted[torch.is_grad_enabled()] + len(args[0])})
    )
    inputs = torch.randn(held_out, 5, generator=torch.Generator().manual_seed(0))
    targets = inputs[:, :3].argmax(1)
    valid = list(zip(inputs.split(100), targets.split(100), strict=True)) if split else [(inputs, targets)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = mg.ALA("accuracy", num_outputs=3)
    loss.attach(model, optimizer, valid=valid, total_steps=400)
    for step in range(400):
        some = torch.randint(held_out, (batch,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss(model(inputs[some]), targets[some]).backward()
        optimizer.step()
    assert loss.aligner.periods >= 1
    assert 0 < A_THIRD * counted[False] / counted[True] < 0.1
    assert loss.aligner.periods <= 400 / 20


def test_fewer_rows_are_spread_evenly_over_a_sorted_validation_part():
    targets = torch.arange(3).repeat_interleave(400)
    inputs = torch.zeros(1200, 5)
    model, seen = nn.Linear(5, 3), []
    metric = mg.as_metric(
        lambda scores, y: seen.append(y) or scores.sum() * 0.0, higher_is_better=True, reads="scores", name="noting"
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss = mg.Loss(mg.ALA("accuracy", num_outputs=3).form, mg.ALA(metric, num_outputs=3).aligner)
    loss.attach(model, optimizer, valid=list(zip(inputs.split(500), targets.split(500), strict=True)), total_steps=100)
    for _ in range(20):
        loss(model(inputs[:64]), targets[:64]).backward()
        optimizer.step()
    counts = torch.bincount(next(y for y in seen if len(y) == 256))
    assert counts.tolist() == pytest.approx([100, 100, 56], abs=1)  # of the first 1,024 rows
    assert not any(math.isnan(v) for v in loss.aligner.history["metric"])


def test_what_compares_all_rows_with_all_gets_few():
    loss = make_loss("ala_triplet", "retrieval_recall:k=1")
    loss.aligner.state.batch = 4096
    schedule = loss.aligner.schedule(10_000)
    assert (schedule.period, schedule.rows) == (100, FEWEST)
    sizes = []

    class Noting(OneKnob):
        def forward(self, scores, targets, *, call, **context):
            sizes.append(len(scores))
            return super().forward(scores, targets, call=call, **context)

    aligner = Policy("accuracy", warm_up=0)
    for batch in (0, 300):
        aligner.state.batch = batch
        aligner.observe(Noting(), torch.randn(1000, 3), torch.arange(1000) % 3, 0.5)
    assert sizes == [256, 300]
