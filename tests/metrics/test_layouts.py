"""What follows from the layout of a batch: padding, predictions, label noise, what is stored."""

import pytest
import torch

import metricgrad as mg
from metricgrad.metrics.layouts.embeddings import Embeddings
from metricgrad.metrics.layouts.layout import GIVEN, HEAT_MAPS, ROWS, SENTENCES, SPANS

ALL = [ROWS, GIVEN, HEAT_MAPS, SENTENCES, SPANS, Embeddings(ROWS)]


def _g(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("spec", "name"),
    [("f1", "rows"), ("pck", "maps"), ("bleu", "sentences"), ("span_f1", "spans"), ("map_at_r", "embeddings")],
)
def test_a_metric_has_its_layout_and_a_name_is_still_equal_to_it(spec, name):
    layout = mg.as_metric(spec).layout
    assert layout.name == name
    assert layout == name
    assert [other for other in ALL if other == layout] == [layout]


def test_a_callable_reads_batches_as_they_are_given_and_embeddings_are_of_that_layout_too():
    own = mg.as_metric(lambda s, t: s.mean(), higher_is_better=True, name="own")
    of_embeddings = mg.as_metric(lambda s, t: s.mean(), higher_is_better=True, reads="embeddings", name="own")
    assert own.layout is GIVEN
    assert of_embeddings.layout.base is GIVEN
    assert of_embeddings.layout == Embeddings(ROWS)


def test_what_scores_predict_by_hand():
    scores = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert ROWS.predicted(scores, torch.tensor([0, 1, -1])).tolist() == [1, 0, -1]  # padding stays padding
    assert ROWS.predicted(torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 0.0])).tolist() == [0.0, 1.0]
    assert HEAT_MAPS.predicted(scores[None], torch.zeros(1, 2)).tolist() == [[0.0, 1.0]]  # x 0, y 1
    assert SPANS.predicted(scores[None, :2], torch.zeros(1, 2).long()).tolist() == [[0, 0]]
    with pytest.raises(mg.MetricgradError, match="embeddings"):
        Embeddings(ROWS).predicted(scores, torch.arange(3))


def test_padding_is_of_classes_alone():
    scores, targets = torch.zeros(2, 3, 4), torch.tensor([[0, 1, -1], [2, 3, 3]])
    assert SENTENCES.padding(scores, targets).tolist() == [[True, True, False], [True] * 3]
    assert SENTENCES.padding(scores, targets.clamp(min=0)) is None
    assert HEAT_MAPS.padding(scores, torch.tensor([[-1.0, 2.0], [0.0, 0.0]])) is None  # a point beside the map
    assert Embeddings(ROWS).padding(torch.zeros(3, 2), torch.tensor([-5, 1, 1])) is None  # a class of any number


def test_label_noise_at_a_rate_of_1_replaces_every_label_and_whole_points():
    classes = torch.arange(3).repeat(50)
    noisy = ROWS.with_label_noise(torch.zeros(150, 3), classes, 1.0, _g())
    assert bool((noisy != classes).all())
    binary = torch.tensor([0.0, 1.0, 1.0])
    assert ROWS.with_label_noise(torch.zeros(3), binary, 1.0, _g()).tolist() == [1.0, 0.0, 0.0]
    padded = torch.tensor([-1, 0, -1])
    assert ROWS.with_label_noise(torch.zeros(3, 2), padded, 1.0, _g()).tolist() == [-1, 1, -1]
    points = torch.stack([torch.arange(40.0), 100 + torch.arange(40.0)], 1)
    moved = HEAT_MAPS.with_label_noise(torch.zeros(40, 5, 5), points, 0.5, _g())
    assert bool((moved[:, 1] - moved[:, 0] == 100).all())  # a point is replaced whole
    assert 0 < int((moved != points).any(1).sum()) < 40


@pytest.mark.parametrize("layout", ALL, ids=str)
def test_no_label_noise_changes_nothing(layout):
    scores, targets = torch.zeros(6, 2, 4), torch.randint(4, (6, 2), generator=_g())
    if layout.of_embeddings:
        scores, targets = scores[:, 0], targets[:, 0]
    assert torch.equal(layout.with_label_noise(scores, targets, 0.0, _g()), targets)


def test_an_image_shifts_as_a_whole_where_the_metric_takes_it_whole():
    image, labels = torch.zeros(6, 4, 5), torch.zeros(6, 4, 5)
    assert GIVEN.offset_shape(image, labels) == ()
    assert GIVEN.offset_shape(torch.zeros(6, 4, 5), torch.zeros(6, 4)) == (5,)
    assert ROWS.offset_shape(torch.zeros(6, 5), torch.zeros(6)) == (5,)
    assert GIVEN.rows_are_batches(labels)
    assert not GIVEN.rows_are_batches(labels[:, 0, 0])
