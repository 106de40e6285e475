"""Metrics of embeddings: each row looks for its own class among the other rows.

Scores are embeddings ``(N, D)`` with D of 2 or more, targets class numbers ``(N,)`` of any size; nothing says that a
class has a column. Embeddings are normalised to length 1 here, so neighbours are the nearest by cosine and, what is the
same, by Euclidean distance on the sphere. A row is never its own neighbour. A row whose class has no other row cannot
find anything and is left out, as in pytorch-metric-learning; where no row is left the value is NaN. Among equally
similar neighbours those of other classes come first, so that embeddings which all coincide earn nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from metricgrad.errors import MetricgradError
from metricgrad.functional.cosines import unit_rows, without_rounding
from metricgrad.metrics.families import counts
from metricgrad.metrics.families.retrieval import check_k
from metricgrad.metrics.of_counts import MeanOverPositives, OfNeighbours
from metricgrad.metrics.registry import register
from metricgrad.metrics.types import Structure
from metricgrad.precision import wide

_PAIRS = 2**22


def first_hit(similar: Tensor, relevant: Tensor, *, k: int = 1) -> Tensor:
    """``(M,)``: 1 where one of the k most similar items of a row is relevant, else 0.

    Args:
        similar: ``(M, n)``; an item at minus infinity is no item.
        relevant: ``(M, n)`` booleans.
        k: from 1 up.
    """
    keys = _keys(similar, relevant)
    best = torch.where(relevant, keys, -torch.inf).amax(-1, keepdim=True)
    ahead = (~relevant & (keys > best)).sum(-1)
    return wide((relevant.any(-1) & (ahead < k)).float())


def precision_to_r(similar: Tensor, relevant: Tensor) -> Tensor:
    """``(M,)``: average precision of a row's R most similar items, R its number of relevant ones; 0 without any."""
    count = relevant.sum(-1, keepdim=True)
    most = relevant.shape[-1]
    if relevant.device.type == "cpu" and count.numel():  # elsewhere a whole sort is quicker than a wait for the count
        most = int(count.max())
    found = relevant.gather(-1, _keys(similar, relevant).topk(most).indices)
    place = torch.arange(1, most + 1, device=similar.device)
    precision = wide(found.cumsum(-1).float()) / place
    return (precision * found * (place <= count)).sum(-1) / count.squeeze(-1).clamp(min=1)


def _keys(similar: Tensor, relevant: Tensor) -> Tensor:
    """Sort keys in which, among similarities equal but for rounding, the relevant items come last."""
    similar, apart = without_rounding(wide(similar))
    return similar - relevant * (apart / 2)


def _mean_over_queries(score: Callable[..., Tensor], read: Tensor, targets: Tensor) -> Tensor:
    """Mean of ``score`` over the rows that have another row of their class, a block of rows at a time."""
    _check(read, targets)
    count = len(targets)
    values = []
    for embeddings in read:
        units = unit_rows(wide(embeddings))
        total, asked = units.new_zeros(()), units.new_zeros(())
        for rows in torch.arange(count, device=targets.device).split(max(1, _PAIRS // count)):
            similar = (units[rows] @ units.T).scatter(1, rows[:, None], -torch.inf)
            relevant = (targets[rows, None] == targets).scatter(1, rows[:, None], False)
            total += score(similar, relevant).sum()
            asked += relevant.any(-1).sum()
        values.append(torch.where(asked > 0, total / asked.clamp(min=1), torch.nan))
    return torch.stack(values) if values else wide(read.new_zeros(0))


def _check(read: Tensor, targets: Tensor) -> None:
    if read.ndim != 3 or targets.ndim != 1:
        raise MetricgradError(
            f"a metric of embeddings needs scores (N, D), D of 2 or more, and class numbers (N,), got "
            f"{tuple(read.shape[1:])} and {tuple(targets.shape)}"
        )
    if not bool(read.isfinite().all()):
        raise MetricgradError("scores hold infinity or NaN: embeddings have no direction there; has training diverged?")


@register(
    "retrieval_recall",
    reads="embeddings",
    structure=Structure("neighbours", "none"),
    targets="classes",
    fast_path=OfNeighbours(MeanOverPositives(counts.first_hit, "negatives_first")),
)
def retrieval_recall(read: Tensor, targets: Tensor, *, k: int = 1) -> Tensor:
    """Recall@k of embeddings: share of rows with one of their class among the k other rows nearest by cosine.

    Cost: O(N^2 D) time for each score set; memory of 4 million similarities.

    References:
        K. Musgrave, S. Belongie and S.-N. Lim, "A Metric Learning Reality Check", ECCV 2020, section 2.3 (k = 1).
    """
    check_k("retrieval_recall", k)
    return _mean_over_queries(lambda similar, relevant: first_hit(similar, relevant, k=k), read, targets)


@register(
    "map_at_r",
    reads="embeddings",
    structure=Structure("neighbours", "none"),
    targets="classes",
    fast_path=OfNeighbours(MeanOverPositives(counts.precision_to_r, "negatives_first")),
)
def map_at_r(read: Tensor, targets: Tensor) -> Tensor:
    """MAP@R of embeddings: average precision of each row's R nearest by cosine, R being how many are of its class.

    Cost: as for ``retrieval_recall``, and a selection of the R largest of each row.

    References:
        K. Musgrave, S. Belongie and S.-N. Lim, "A Metric Learning Reality Check", ECCV 2020, Eq. 3 and 4.
    """
    return _mean_over_queries(precision_to_r, read, targets)


@register("nmi", reads="embeddings", structure=Structure("clusters", "none"), targets="classes")
def nmi(read: Tensor, targets: Tensor, *, restarts: int = 4, seed: int = 0) -> Tensor:
    """Normalised mutual information of the classes with k-means clusters of the embeddings, as many as classes.

    scikit-learn's k-means++ with ``restarts`` starts; the rows are put in an order of their own first, so that the
    value does not depend on how the data are ordered. Nothing trains on it: see ``map_at_r``.

    Cost: O(N C D) for each of some tens of rounds, C classes; slow from some thousand classes up.

    Raises:
        MetricgradError: where scikit-learn is not installed.
    """
    _check(read, targets)
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import normalized_mutual_info_score
    except ImportError as error:
        raise MetricgradError("nmi needs scikit-learn: run `pip install metricgrad[train]`") from error
    values = []
    for embeddings in read:
        units = unit_rows(wide(embeddings))
        order = (units @ units.sum(0)).argsort(stable=True)
        means = KMeans(len(targets.unique()), n_init=restarts, random_state=seed)  # type: ignore[arg-type]  # stubs say str
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fewer distinct embeddings than classes: a poor value, not an accident
            clusters = means.fit_predict(units[order].cpu().numpy())
        values.append(float(normalized_mutual_info_score(targets[order].cpu().numpy(), clusters)))
    return wide(read.new_tensor(values))
