"""BLEU of strings, as papers report it: by sacrebleu, which cuts them into words by itself."""

from __future__ import annotations

from collections.abc import Sequence

from metricgrad.errors import MetricgradError


def text_bleu(said: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU of detokenised strings, in [0, 100], with sacrebleu's defaults.

    Use it for the last word on a translation; train and select on the metric ``"bleu"``, which reads scores.

    Args:
        said: one string a sentence.
        references: one for each.

    Raises:
        MetricgradError: where the numbers differ or there is none, or sacrebleu is not installed.

    References:
        M. Post, "A Call for Clarity in Reporting BLEU Scores", WMT 2018.
    """
    if len(said) != len(references) or not references:
        raise MetricgradError(f"said has {len(said)} strings and references {len(references)}; give one for each")
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise MetricgradError("BLEU of text needs sacrebleu: run `pip install metricgrad[text]`") from error
    return float(BLEU().corpus_score(list(said), [list(references)]).score)
