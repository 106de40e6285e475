"""The sections of the report on our own claims."""

from __future__ import annotations

from typing import Any

import report_aa
import report_ala
from common import paired
from report_tables import REGRET, regret
from report_text import estimate, number, said, short, table

OURS = "uniloss"


def bars(name: str, result: dict[str, Any]) -> list[list[str]]:
    """Claims that hold or do not, for the top of the report."""
    if name == "aa_studies":
        return report_aa.bars(result)
    if name == "ala":
        return report_ala.bars(result)
    if name in ("cost", "look_ahead_cost", "large_batches"):
        return [[f"{text}: {number(value, '.4g')}", "yes" if met else "**no**"] for text, value, met in result["bars"]]
    if name == "controls":
        return [row for family in result["families"].values() for row in _control_bars(family)]
    if name == "where_it_pays":
        return [row for study in result["studies"].values() for row in _study_bars(study)]
    return []


def _study_bars(study: dict[str, Any]) -> list[list[str]]:
    ours = next(row for row in study["summary"] if row["loss"] == OURS)
    base = next(row for row in study["summary"] if row["verdict"] == "baseline")
    text = f"{study['about']}: UniLoss beats the best standard loss ({base['loss']}), corrected test"
    mark = {"better": "yes", "worse": "**no, it loses**"}.get(ours["verdict"], "**no**: " + ours["verdict"])
    return [[f"{text}: {number(ours['difference'], '+.4f')}", mark]]


def _control_bars(family: dict[str, Any]) -> list[list[str]]:
    rows = []
    first = family["metrics"][0]
    for name, found in family["losses"].items():
        if not name.startswith(("shuffled", "constant")):
            continue
        if "refused" in found:
            rows.append([f"{name} values, {short(first)}: training fails (the loss refuses)", "yes"])
            continue
        gap = family["right_minus"][first][name]
        ok = said(gap) == "better"
        rows.append([f"{name} values, {short(first)}: worse than UniLoss({short(first)}) by {estimate(gap)}",
                     "yes" if ok else "**no**"])  # fmt: skip
    for metric in family["metrics"]:
        for name, gap in family["right_minus"][metric].items():
            wrong = name.startswith("uniloss(") and "," not in name
            if wrong or name == "margin (no anchors)":
                text = f"on {short(metric)}, UniLoss({short(metric)}) beats {short(name)}: {estimate(gap)}"
                rows.append([text, {"better": "yes"}.get(said(gap), f"**no**: {said(gap)}")])
    for name, found in family["losses"].items():
        if not name.endswith("warm-up"):
            continue
        metric = name[len("uniloss(") : name.index(")")]
        for other in (*(f"uniloss({m})" for m in family["metrics"] if m != metric), "margin (no anchors)"):
            gap = paired(found[metric]["tests"], family["losses"][other][metric]["tests"])
            text = f"on {short(metric)}, UniLoss({short(metric)}, warm_up=100) beats {short(other)}: {estimate(gap)}"
            rows.append([text, {"better": "yes"}.get(said(gap), f"**no**: {said(gap)}")])
    return rows


def large_batches(result: dict[str, Any]) -> str:
    """Time and memory of a large batch in chunks."""
    names = {"whole": "at once", "parts": f"in chunks of {result['size']}"}
    rows = [
        [
            f"{result['rows']:,} rows {text}",
            number(result["milliseconds"][key], ".0f"),
            number(result["megabytes"][key], ".1f"),
        ]
        for key, text in names.items()
    ]
    small, loss = (number(result["megabytes"][key], ".1f") for key in ("small", "loss"))
    rows += [[f"{result['size']} rows at once", "", small], [f"the loss of {result['rows']:,} scores alone", "", loss]]
    return "\n\n".join([
        "UniLoss on average precision, five layers of 512. Paired repeats: the "
        f"median is {result['ratio']:.2f} times as long in chunks, the least {result['low']:.2f}, the most "
        f"{result['high']:.2f}.",
        table(["step", "ms", "MB"], rows),
    ])  # fmt: skip


def where_it_pays(result: dict[str, Any]) -> str:
    """One table a study, and what it says in words."""
    parts = [
        f"{result['trials']} trials for every loss over the same learning rates and weight decays, those with a "
        "softness tune it within the same number of trials; the trial is chosen on one draw of the split, then "
        f"{result['seeds']} further draws are trained and tested. Differences are from the standard loss that is best "
        'on validation. "Corrected" is Nadeau and Bengio\'s interval, which allows for the draws sharing their items, '
        "and decides the verdict; the plain paired t interval is shown beside it and is too narrow. All but the first "
        "column are with the decision that each draw's validation part chose."
    ]
    for study in result["studies"].values():
        base = next(row["loss"] for row in study["summary"] if row["verdict"] == "baseline")
        rows = []
        for row in study["summary"]:
            plain = paired(study["tests"][row["loss"]], study["tests"][base]) if row["loss"] in study["tests"] else None
            corrected = {"mean": row["difference"], "low": row["difference_low"], "high": row["difference_high"]}
            rows.append([
                f"{row['loss']}{' (control)' if row['role'] == 'control' else ''}",
                number(row["mean_undecided"], ".3f"),
                estimate({k: row[k] for k in ("mean", "low", "high")}),
                "" if row["loss"] == base else estimate(corrected, "+.3f"),
                "" if row["loss"] == base or plain is None else estimate(plain, "+.3f"),
                number(study["seconds"].get(row["loss"]), ".1f"), row["verdict"],
            ])  # fmt: skip
        parts += [f"**{study['about']}** ({study['epochs']} epochs, batch {study['batch']})",
                  table(["loss", f"test {study['metric']}, plain reading", "with its decision (corrected interval)",
                         "difference (corrected)", "difference (plain t)", "seconds a run", "verdict"], rows),
                  " ".join([_words(study, base), *study["notes"]])]  # fmt: skip
    return "\n\n".join([*parts, REGRET, regret(result["studies"])])


def _words(study: dict[str, Any], base: str) -> str:
    ours = next(row for row in study["summary"] if row["loss"] == OURS)
    mean = ours["mean"]
    standing = {"better": "beats", "worse": "loses to"}.get(ours["verdict"])
    out = [f"UniLoss {standing} {base}." if standing else f"UniLoss against {base}: {ours['verdict']}."]
    for row in study["summary"]:
        if row["role"] != "control":
            continue
        gap = paired(study["tests"][OURS], study["tests"][row["loss"]])
        verb = {"better": "above", "worse": "below"}.get(said(gap))
        if verb:
            out.append(f"It is {verb} the control {row['loss']} by {estimate(gap, '.3f')} (plain t).")
        else:
            shown = "does at least as well" if row["mean"] >= mean else "shows no clear difference from it"
            out.append(f"The control {row['loss']} {shown}, so this table does not show that the metric is what helps.")
    return " ".join(out)


def controls(result: dict[str, Any]) -> str:
    """End results of every loss by every metric, and the right metric against each other row."""
    parts = [
        "Linear scorers of Fashion-MNIST's principal components, which have to choose what to give up: shirts against "
        "the rest at 5 % (binary; 16 components, 10,000 items to train, 6,000 to choose, 20,000 to test), and ten "
        "classes thinned 20:1 (multiclass; 4 components; 6,000, 4,000 and 8,000 items); AdamW, 20 epochs, batch 512; "
        "four trials for every loss. A network that fits its training data (784-64, at an earlier commit) is best by "
        "all metrics at once and shows no difference between them. "
        "Shuffled permutes the values among the anchors or moves of each step; constant gives all of them one value, "
        "and then the gradient is exactly zero, and the loss stops the training with an error that says so."
    ]
    for name, family in result["families"].items():
        metrics = family["metrics"]
        rows = [
            [
                loss,
                *("refused: " + found["refused"][:60] if "refused" in found else estimate(found[m]) for m in metrics),
            ]
            for loss, found in family["losses"].items()
        ]
        rows.append(["untrained scorer", *(estimate(family["untrained"][m]) for m in metrics)])
        parts += [f"**{name}**", table(["trained on", *(f"test {short(m)}" for m in metrics)], rows)]
        gaps = [
            [short(m), short(other), estimate(gap, "+.3f"), said(gap)]
            for m in metrics
            for other, gap in family["right_minus"][m].items()
        ]
        parts.append(table(["judged on M", "against", "UniLoss(M) minus it, paired", "UniLoss(M) is"], gaps))
        held = [row[1] == "yes" for row in _control_bars(family)]
        parts.append(f"{sum(held)} of {len(held)} controls of this family hold." + (
            "" if all(held) else " Where the wrong metric or the blind margin is not beaten, the end result does not "
            "show that training on the metric helped, and we do not claim it."))  # fmt: skip
        parts.append(_against(family))
    return "\n\n".join(parts)


def _against(family: dict[str, Any]) -> str:
    out = []
    for other in ("cross-entropy", f"uniloss({family['metrics'][0]}), inverse distance"):
        shown = [f"{short(m)}: {said(gaps[other])}" for m, gaps in family["right_minus"].items() if other in gaps]
        out.append(f"Against {short(other)}, UniLoss(M) is on {', on '.join(shown)}.")
    above = [
        f"{name} on {short(metric)}"
        for name, found in family["losses"].items()
        if name.startswith("shuffled") and "refused" not in found
        for metric in family["metrics"]
        if found[metric]["low"] > family["untrained"][metric]["high"]
    ]
    if above:
        out.append(f"Clearly above an untrained network, though far below training: {', '.join(above)}; the best of "
                   "several epochs is kept, and shuffled values still say how large the changes are.")  # fmt: skip
    return " ".join(out)


def cosines(result: dict[str, Any]) -> str:
    """The table that justifies the default interpolation."""
    found = result["cosines"]
    head = ["gradients compared", *(f"{form.replace('_', ' ')}, N = {n}" for form, n in (k.split("/") for k in found))]
    names = list(dict.fromkeys(name for column in found.values() for name in column))
    rows = [
        [short(name).replace("|", "and"), *(estimate(column.get(name), ".2f") for column in found.values())]
        for name in names
    ]
    metrics = [name for name in names if "blind" not in name and "good" not in name]
    means = {k: sum(column[m]["mean"] for m in metrics) / len(metrics) for k, column in found.items()}
    words = "; ".join(f"{k.replace('_', ' ').replace('/', ', N = ')}: {value:.2f}" for k, value in means.items())
    text = (
        "Mean cosine over seeds (95 % interval) between gradients in the scores; same scores, same refactoring, same "
        "anchors or moves, softness 1. A metric against the bare mean sigmoid margin says how metric-blind it is; "
        '"good 1, else 0" gives good anchors the value 1 and all others 0, with the metric never called. AUROC is '
        "itself nearly the mean margin over pairs, so a cosine near 1 is right there."
    )
    return f"{text}\n\n{table(head, rows)}\n\nMean over the pairs of different metrics: {words}. Lower means that " \
        "the gradient depends more on which metric it is."  # fmt: skip


def _of_classes(cells: dict[str, dict[str, float]]) -> list[str]:
    """What a step of a metric of labels costs, by the number of classes."""
    names = list(dict.fromkeys(key.rpartition("/")[0] for key in cells))
    counts = sorted({int(key.rpartition("/")[2]) for key in cells})
    rows = [
        [name, *(f"{c['default']:.0f} / {c['alone']:.0f}" for c in (cells[f"{name}/{count}"] for count in counts))]
        for name in names
    ]
    if not rows:
        return []
    last = [cells[f"{name}/{counts[-1]}"] for name in names]
    most = max(max(c["alone_matrices"], c["default_matrices"]) for c in last)
    times = ", ".join(f"{cells[f'{names[0]}/{count}']['ce_ms']:.2f}" for count in counts)
    return [
        "64 rows, forward and backward, in times of cross-entropy's (median of paired steps in one process): UniLoss "
        "as it comes, and the metric alone (`anchored=False`). Classes that are neither a target nor a prediction "
        f"share a move. Cross-entropy takes {times} ms; with {counts[-1]:,} classes the peak rises by at most "
        f"{most:.0f} score matrices.",
        table(["metric", *(f"{count:,} classes" for count in counts)], rows),
    ]


def _of_labels(cells: dict[str, dict[str, float]]) -> list[str]:
    """What a step of a metric of labels costs as it comes, by the numbers of rows and classes."""
    if not cells:
        return []
    sizes = [tuple(map(int, key.split("/"))) for key in cells]
    names = ["ce_ms", *dict.fromkeys(name for times in cells.values() for name in times if name != "ce_ms")]
    rows = [
        [
            "cross-entropy, ms" if name == "ce_ms" else name,
            *(number(times.get(name), ".2f" if name == "ce_ms" else ".1f") for times in cells.values()),
        ]
        for name in names
    ]
    return [
        "UniLoss as it comes, its memory full, in processor time, in times of cross-entropy's: all losses of a column "
        "take turns in one process, and none finds the processor's caches as it left them; the median of three "
        "processes' medians. Cross-entropy alone in a loop is quicker than in turn, and ours cost more times of that: "
        "the table above.",
        table(["metric", *(f"{n:,} x {c:,}" for n, c in sizes)], rows),
    ]


def cost(result: dict[str, Any]) -> str:
    """Milliseconds and megabytes, and the ResNet step."""
    cells = result["cells"]
    sizes = sorted({int(key.split("/")[1]) for key in cells})
    rows = []
    for name in ("bce", "uniloss", "naive"):
        found = [cells.get(f"{name}/{n}") for n in sizes]
        rows.append([name, *(f"{c['ms']:.1f} / {c['mb']:.0f}" if c else "not run" for c in found)])
    errors = [cells[f"uniloss/{n}"].get("value_error") for n in sizes]
    rows.append(
        ["uniloss: value off the dense one by", *(number(e, ".1e") if e is not None else "not run" for e in errors)]
    )
    steps = " ".join(
        f"{name}(accuracy): {net['ce_ms']:.0f} ms a step with cross-entropy, {net['ours_ms']:.0f} ms with ours; median "
        f"ratio of {net['steps']} paired steps {net['ratio']:.3f} (quartiles {net['quartiles'][0]:.3f} to "
        f"{net['quartiles'][1]:.3f})."
        for name, net in result["resnet"].items()
    )
    return "\n\n".join([
        "Forward and backward of one batch, 5 % positives, in ms / added peak MB; one process a run, the median of the "
        "runs. naive is the same UniLoss(AP), the same moves, with every sum over pairs made from a stored tensor of "
        "all pairs; it is not run at 65,536, where each such tensor takes 1.6 GB.",
        table(["loss", *(f"N = {n:,}" for n in sizes)], rows),
        f"ResNet-20, batch 128, 32 x 32 random images. {steps}",
        *_of_classes(result.get("classes", {})),
        *_of_labels(result.get("labels", {})),
    ])  # fmt: skip
