"""Metrics that hang, raise or have no value: the run fails, the study goes on, and the table says it."""

import json
import signal
import threading
import time

import pytest
import torch
from torch import nn

import metricgrad as mg
from metricgrad.metrics.time_limit import MetricFailedError, time_limit, within_limit
from metricgrad.tasks.split import split


def data(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(90, 4, generator=generator)
    return split(x, x[:, :3].argmax(1), seed)


class Study:
    """A comparison by a metric that does something else where its count of calls says so."""

    def __init__(self, bad, when):
        self.bad, self.when, self.calls = bad, when, 0

    def __call__(self, labels, targets):
        self.calls += 1
        if self.when(self.calls):
            return self.bad()
        return float((labels == targets).float().mean())

    def compare(self, out, **more):
        metric = mg.as_metric(self, higher_is_better=True, reads="labels", name="mine")
        task = mg.Task("tiny", model=lambda: nn.Linear(4, 3), load=data, metric="accuracy", epochs=2, batch_size=30)
        settings = {"losses": ["cross_entropy", nn.MultiMarginLoss], "trials": 2, "seeds": 2, "controls": False}
        # without one the calls of a run can be counted: fitting one calls the metric too
        settings |= {"decision": "none"} | more
        return mg.compare(task, metric=metric, out=out, progress=False, **settings)


def spin():
    while True:
        pass


def sleep():
    time.sleep(1000)


def stubborn():
    while True:
        try:
            time.sleep(1000)
        except Exception:
            continue


def wait():
    threading.Event().wait()


def raises():
    raise KeyError("a colleague's metric")


def lines(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("bad", [spin, sleep, stubborn, wait])
def test_a_call_that_takes_too_long_is_given_up(bad):
    started = time.perf_counter()
    with time_limit(0.1), pytest.raises(MetricFailedError, match=r"longer than 0\.1 s"):
        within_limit(bad)
    assert time.perf_counter() - started < 5
    time.sleep(0.2)  # no alarm rings any more


@pytest.mark.parametrize("bad", [spin, sleep])
def test_so_it_is_outside_the_main_thread(bad):
    found = []

    def work():
        with time_limit(0.1):
            try:
                within_limit(bad)
            except MetricFailedError as error:
                found.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert found == ["a call took longer than 0.1 s"]


def test_a_person_s_own_alarm_still_rings():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with time_limit(5):
            assert within_limit(lambda: 3) == 3
        time.sleep(0.4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung == [1]


def test_after_one_call_that_hangs_the_others_do_not_wait_again():
    calls = []
    with time_limit(0.1) as limit:
        for _ in range(3):
            with pytest.raises(MetricFailedError):
                within_limit(lambda: (calls.append(1), sleep()))
        assert limit.expired
    assert calls == [1]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (sleep, "a call took longer than 0.2 s"),
        (raises, 'KeyError: "a colleague\'s metric"'),
        (lambda: float("inf"), "was inf on valid"),
        (lambda: [0.5, 0.5], "a metric is one number"),
    ],
)
def test_the_run_is_marked_failed_and_the_study_goes_on(bad, reason, tmp_path):
    # a run calls it twice on valid, and three times to see that its direction is what was said
    table = Study(bad, lambda call: call == 6).compare(tmp_path, metric_timeout=0.2)
    failed = [line for line in lines(tmp_path) if "failed" in line]
    assert [(line["loss"], line["valid"]) for line in failed] == [("cross_entropy", None)]
    assert reason in failed[0]["failed"]
    assert len(lines(tmp_path)) == 8
    assert any("cross_entropy failed in 1 of 2 trials; in trial 1: " in note and reason in note for note in table.notes)
    assert str(table).count(reason)


def test_a_test_part_without_a_value_is_said(tmp_path):
    # four trials call it 5 times each; then each final run as often, and once on test
    def study():
        return Study(lambda: float("nan"), lambda call: call == 4 * 5 + 6 + 6 + 6)

    table = study().compare(tmp_path)
    (failed,) = [line for line in lines(tmp_path) if "failed" in line]
    assert (failed["loss"], failed["seed"], failed["test"]) == ("MultiMarginLoss", 0, None)
    assert failed["valid"] is not None
    assert failed["failed"] == "metric 'mine' was nan on the test part"
    assert table["MultiMarginLoss"]["verdict"] == "failed in 1 of 2 seeds"
    again = study()
    assert again.compare(tmp_path).to_dict() == table.to_dict()
    assert not again.calls


@pytest.mark.parametrize("bad", [lambda: float("nan"), raises])
def test_a_metric_that_always_fails_ends_in_a_table_that_says_so(bad, tmp_path):
    table = Study(bad, lambda call: True).compare(tmp_path, trials=1, seeds=1)
    assert table["MultiMarginLoss"]["verdict"] == "failed in 1 of 1 seeds"
    assert table["cross_entropy"]["mean"] is None
    assert len(table.notes) >= 4
    json.dumps(table.to_dict(), allow_nan=False)


def test_a_metric_that_hangs_in_the_loss_fails_that_run_alone(tmp_path):
    study = Study(sleep, lambda call: call == 40)
    table = study.compare(tmp_path, losses=["cross_entropy", "uniloss"], trials=1, seeds=1, metric_timeout=0.5)
    assert [line["loss"] for line in lines(tmp_path) if "failed" in line] == ["uniloss"]
    assert "a call took longer than 0.5 s" in str(table)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "60"])
def test_a_limit_that_is_none_is_refused(timeout, tmp_path):
    with pytest.raises(mg.MetricgradError, match="metric_timeout"):
        Study(sleep, lambda call: False).compare(tmp_path, metric_timeout=timeout)
