"""``RankCorrelation(paper=True)`` is the released code in each respect that goes wrong there; its default is not."""

import pytest
import torch

import metricgrad as mg
from metricgrad.aligners.fitting.blocks import ScoreStore
from metricgrad.aligners.fitting.labeled_blocks import LabeledBlocks
from metricgrad.aligners.fitting.rank_correlation import RankCorrelation
from metricgrad.losses.networks.probabilities import ProbabilityNetwork
from metricgrad.losses.networks.sets import SetNetwork

PAPER, OURS = RankCorrelation("accuracy", paper=True), RankCorrelation("accuracy", penalty=0.1)


def _blocks(*shape):
    """Scores in float64 with targets: classes where there are three axes, else 0 and 1."""
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(*shape, generator=g, dtype=torch.float64)
    return scores, torch.randint(shape[2] if len(shape) == 3 else 2, shape[:2], generator=g)


def _penalty_of_the_equation(form, scores, targets, reduce):
    """mean_n (||d L / d logits_n|| - 1)^2 block by block, L being the sum or the mean of |f(p_y)| over rows."""
    terms = []
    for logits, labels in zip(scores, targets, strict=True):
        leaf = logits.clone().requires_grad_()
        if leaf.ndim == 1:
            p = torch.where(labels == 1, leaf.sigmoid(), 1 - leaf.sigmoid())
        else:
            p = leaf.softmax(-1)[torch.arange(len(labels)), labels]
        (slopes,) = torch.autograd.grad(reduce(form.network.mlp(p[:, None]).abs()), leaf, create_graph=True)
        terms += [(torch.sqrt((row**2).sum()) - 1) ** 2 for row in slopes]
    return torch.stack(terms).mean()


@pytest.mark.parametrize("shape", [(3, 8, 4), (3, 8)])
@pytest.mark.parametrize(("aligner", "reduce"), [(OURS, torch.sum), (PAPER, torch.mean)])
def test_the_penalty_is_that_of_the_equation_on_the_sum_and_with_paper_on_the_mean(aligner, reduce, shape):
    form = ProbabilityNetwork(monotone=False, seed=2).double().requires_grad_()
    scores, targets = _blocks(*shape)
    leaf = scores.clone().requires_grad_()
    found = aligner.gradient_penalty(form.over(leaf, targets), leaf)
    expected = _penalty_of_the_equation(form, scores, targets, reduce)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    weights = form.network.mlp.weights[1]
    torch.testing.assert_close(*(torch.autograd.grad(value, weights)[0] for value in (found, expected)))


@pytest.mark.parametrize("rows", [8, 64])
def test_only_the_mean_asks_for_a_slope_that_grows_with_the_block(rows):
    """Of s (1 - p) for two classes at even odds a row's gradient has the norm s / sqrt(8)."""
    scores = torch.zeros(1, rows, 2, dtype=torch.float64, requires_grad=True)

    def penalty(aligner, slope):
        return aligner.gradient_penalty((slope * (1 - scores.softmax(-1)[..., 0])).mean(-1), scores).item()

    assert penalty(OURS, 8**0.5) == pytest.approx(0)
    assert penalty(PAPER, 8**0.5) == pytest.approx((1 / rows - 1) ** 2)
    assert penalty(PAPER, rows * 8**0.5) == pytest.approx(0)


@pytest.mark.parametrize(("aligner", "weight"), [(OURS, 0.1), (PAPER, 10.0), (RankCorrelation("accuracy"), 0.0)])
def test_the_objective_is_the_soft_correlation_and_the_weighted_penalty(aligner, weight):
    form = ProbabilityNetwork(monotone=False, seed=2).double()
    scores, targets = _blocks(6, 8, 4)
    target_loss = torch.tensor([0.5, 0.25, 0.5, 0.0, 0.75, 0.625]).double()
    leaf = scores.clone().requires_grad_()
    values = form.over(leaf, targets)
    expected = weight * aligner.gradient_penalty(values, leaf) - aligner.correlation(values, target_loss, soft=True)
    torch.testing.assert_close(aligner._objective(form, LabeledBlocks(scores, targets, target_loss)), expected)


def test_losses_are_standardised_only_without_paper():
    losses, target_loss = torch.randn(16, generator=torch.Generator().manual_seed(0)), torch.arange(16)
    far, near = (PAPER.correlation(losses * spread, target_loss, soft=True) for spread in (10, 0.1))
    assert abs(float(far - near)) > 0.05
    far, near = (OURS.correlation(losses * spread, target_loss, soft=True) for spread in (10, 0.1))
    torch.testing.assert_close(far, near)


@pytest.mark.parametrize("soft", [False, True])
def test_the_order_in_which_tied_blocks_are_listed_matters_only_with_paper(soft):
    losses, target_loss = torch.arange(8.0), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    turned = torch.arange(7, -1, -1)
    paper, ours = (
        [float(aligner.correlation(losses[o], target_loss[o], soft=soft)) for o in (torch.arange(8), turned)]
        for aligner in (PAPER, OURS)
    )
    assert abs(paper[0] - paper[1]) > 0.1
    assert ours[0] == pytest.approx(ours[1])


def test_a_loss_that_never_varies_has_a_hard_correlation_only_with_paper():
    target_loss = torch.tensor([0, 0, 0, 1])
    assert float(PAPER.correlation(torch.ones(4), target_loss, soft=False)) == pytest.approx(1)
    assert torch.isnan(OURS.correlation(torch.ones(4), target_loss, soft=False))


def _pairs(n=400, classes=4):
    g = torch.Generator().manual_seed(0)
    targets = torch.randint(classes, (n,), generator=g)
    return torch.randn(n, classes, generator=g) + 2 * torch.nn.functional.one_hot(targets, classes), targets


def _drawn(monkeypatch, **options):
    """Scores and targets of all blocks that a fit saw."""
    seen = []
    objective = RankCorrelation._objective

    def spied(self, form, drawn):
        seen.append((drawn.scores.flatten(0, 1), drawn.targets.flatten()))
        return objective(self, form, drawn)

    monkeypatch.setattr(RankCorrelation, "_objective", spied)
    scores, targets = _pairs()
    wrong = (scores.argmax(-1) + torch.randint(1, 4, targets.shape, generator=torch.Generator().manual_seed(1))) % 4
    some_right = torch.where(torch.arange(400) % 10 == 0, scores.argmax(-1), wrong)  # a metric that varies
    aligner = RankCorrelation("accuracy", steps=4, block=32, values=16, restarts=0, **options)
    try:
        mg.Loss(ProbabilityNetwork(monotone=False), aligner).prepare(scores, some_right)
    except mg.MetricgradError:
        assert not options  # nothing can be learned from labels that are wrong
    drawn, labels = (torch.cat(side) for side in zip(*seen, strict=True))
    stored = {tuple(row) for row in scores.tolist()}
    kept = sum(tuple(row) in stored for row in drawn.tolist()) / len(drawn)
    return float((drawn.argmax(-1) == labels).double().mean()), kept


def test_labels_are_the_models_own_with_a_share_made_wrong_only_with_paper(monkeypatch):
    right, as_stored = _drawn(monkeypatch, paper=True)
    assert right == pytest.approx(0.5, abs=0.1)
    assert as_stored == 1
    monkeypatch.undo()
    right, as_stored = _drawn(monkeypatch)
    assert right < 0.25
    assert as_stored == pytest.approx(0.5, abs=0.1)


class _Turned(ProbabilityNetwork):
    """Ranks the wrong way round, whatever its weights are."""

    def over(self, scores, targets):
        return -super().over(scores, targets)


def test_a_wrong_sign_is_kept_only_with_paper():
    options = {"steps": 2, "block": 32, "values": 8, "restarts": 2}
    loss = mg.Loss(_Turned(), RankCorrelation("accuracy", paper=True, penalty=0.0, **options))
    loss.prepare(*_pairs())
    assert mg.mismatch(loss, "accuracy", *_pairs()).value < -0.5
    with pytest.raises(mg.MetricgradError, match="3 attempts"):
        mg.Loss(_Turned(), RankCorrelation("accuracy", **options)).prepare(*_pairs())


@pytest.mark.filterwarnings("ignore:this surrogate")
def test_fit_takes_the_papers_form_of_rows_unscaled_and_alone_only_with_paper():
    scores, targets = _pairs(classes=4)
    binary = (scores[:, 0] - scores[:, 1], (targets == 0).long())
    paper, ours = (mg.ReLoss.fit("f1", *binary, steps=4, block=32, values=8, paper=p) for p in (True, False))
    assert isinstance(paper.form, ProbabilityNetwork)
    assert not paper.form.reader.monotone
    assert (float(paper.form.scale), float(paper.form.anchor)) == (1, 0)
    assert isinstance(ours.form, SetNetwork)
    assert float(ours.form.scale) != 1
    assert float(ours.form.anchor) == pytest.approx(0.1)


def test_the_papers_settings_are_defaults_that_may_be_changed():
    def settings(**options):
        config = RankCorrelation("accuracy", **options).config()
        return [config[name] for name in ("block", "values", "lr", "penalty")]

    assert settings(paper=True) == [128, 256, 0.01, 10.0]
    assert settings() == [64, 32, 1e-3, 0.0]
    assert settings(paper=True, block=16, penalty=0.0) == [16, 256, 0.01, 0.0]
    config = RankCorrelation("accuracy", paper=True, block=16).config()
    assert RankCorrelation(**config).config() == config


def test_mislabelled_blocks_keep_their_scores_and_lose_a_share_of_their_labels():
    scores = _pairs()[0]
    g = torch.Generator().manual_seed(3)
    drawn = [ScoreStore(scores, scores.argmax(-1)).draw(64, "label_noise", g) for _ in range(100)]
    stored = {tuple(row) for row in scores.tolist()}
    assert all(tuple(row) in stored for row in drawn[0][0].tolist())
    shares = torch.tensor([float((block.argmax(-1) == labels).double().mean()) for block, labels, _ in drawn])
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.1)
    assert float(shares.min()) < 0.1 < 0.9 < float(shares.max())
