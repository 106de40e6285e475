"""The sections of the report on ReLoss."""

from __future__ import annotations

from typing import Any

from report_text import estimate, number, said, short, table


def correlation(result: dict[str, Any]) -> str:
    """Rank correlations with each metric over blocks of 64 rows."""
    names = list(dict.fromkeys(name for row in result["rows"] for name in row["losses"]))
    rows = [
        [
            row["data"],
            short(row["metric"]),
            row["blocks"],
            *(estimate(row["losses"].get(name), ".2f") for name in names),
            estimate(row["over_rival"], "+.2f"),
            estimate(row["over_value"], "+.2f"),
        ]
        for row in result["rows"]
    ]
    head = ["data", "metric", "blocks", *names, "ReLoss minus standardised cross-entropy", "ReLoss minus regression"]
    sets = [
        row for row in result["rows"] if row["blocks"] == "wide" and row["metric"] not in ("accuracy", "pck:radius=2.0")
    ]
    high = sum(row["losses"]["ReLoss"]["mean"] >= 0.95 for row in sets)
    rivals = [row for row in result["rows"] if row["blocks"] == "narrow"]
    below = [f"{row['data']} {short(row['metric'])}" for row in rivals if row["over_rival"]["mean"] < 0]
    behind = [
        f"{row['data']} {short(row['metric'])}"
        for row in rivals
        if row["losses"]["ReLoss"]["mean"] < row["losses"]["standard loss"]["mean"]
    ]
    return "\n\n".join([
        "Spearman's correlation with the metric over 200 blocks of 64 rows: wide blocks are each of one moment of a "
        "training, narrow ones all of its end. No item is used for two of training, fitting and judging. For heat maps "
        "the standard loss, the squared error of a Gaussian, stands in for the standardised cross-entropy.",
        table(head, rows),
        f"Wide blocks, metrics of a set: {high} of {len(sets)} means are .95 or more. Narrow blocks, ReLoss below "
        f"standardised cross-entropy: {', '.join(below) or 'nowhere'}; below the standard loss as it is: "
        f"{', '.join(behind) or 'nowhere'}.",
    ])  # fmt: skip


def training(result: dict[str, Any]) -> str:
    """Test metrics of trainings on ReLoss and its opponents."""
    parts = [
        f"Every loss has {result['trials']} trials; seconds are of one run with recording and fitting, on a shared "
        "machine. `reloss:anchor=0.0` has no cross-entropy beside it, `reloss_value` regresses the metric's value, "
        "`reloss_from_…` was fitted on other data."
    ]
    for name, case in result["cases"].items():
        rows = [
            [
                row["loss"],
                f"{number(row['mean'])} ({number(row['low'])} … {number(row['high'])})",
                "" if row["difference"] is None else number(row["difference"], "+.4f"),
                row["verdict"],
                f"{case['seconds'][row['loss']]:.0f}" if row["loss"] in case["seconds"] else "",
            ]
            for row in case["summary"]
        ]
        parts += [f"**{case['about']}** ({name})", table(
            ["loss", f"test {short(case['metric'])}", "minus the best standard loss", "verdict", "seconds"], rows
        )]  # fmt: skip
        if case["over_value"]:
            words = f"Correlation objective minus value regression: {estimate(case['over_value'], '+.4f')}"
            parts.append(f"{words}, {said(case['over_value'])}.")
        if case["smooth"]:
            rough = ", ".join(f"{loss} {estimate(v, '.4f')}" for loss, v in case["smooth"]["roughness"].items())
            more = case["smooth"]["value_minus_reloss"]
            parts.append(
                f"Mean change of the validation metric between epochs of the second half: {rough}; value regression "
                f"minus ReLoss {estimate(more, '+.4f')}."
            )
    return "\n\n".join(parts)


def pitfalls(result: dict[str, Any]) -> str:
    """Each trap with the published way on and off."""
    fits, on, off = result["fits"], "as published", "here"
    names = {"cross-entropy": "cross-entropy", "on": on, "off": off}
    what = {
        "wide": "wide blocks", "narrow": "narrow blocks", "largest": "largest value of one row",
        "falling": "share of p where the loss falls", "tuned": "test accuracy, tuned AdamW",
        "usual": "test accuracy, SGD at 0.1",
    }  # fmt: skip
    rows = [[names[who], *(estimate(found.get(key), ".3f") for key in what)] for who, found in fits.items()]
    sets = [
        [short(metric), kind, *(estimate(found[switch][kind], ".2f") for switch in ("on", "off"))]
        for metric, found in result["sets"].items()
        for kind in ("wide", "narrow")
    ]
    signs, scales, sorting = result["signs"], result["scales"], result["sorting"]
    return "\n\n".join([
        "A penalty on the batch's mean, and labels that are the model's own predictions (`paper=True`; 60 steps of 256 "
        "values): the values of a row and the shape of the loss, correlation with accuracy over blocks, and accuracy "
        "of a new model.",
        table(["fit", *what.values()], rows),
        f"The sign: a short fit without a restart found no positive correlation in {signs['on']['wrong']} of "
        f"{signs['on']['of']} seeds with the absolute value at the output, {signs['off']['wrong']} with the monotone "
        "network.",
        "The scale: share of losses with a gradient of the soft Spearman when all are multiplied by "
        + ", ".join(scales["on"])
        + ": "
        + "; ".join(
            f"{name} {', '.join(number(v, '.2f') for v in scales[switch].values())}"
            for switch, name in (("on", "ranks of the raw values"), ("off", "of standardised ones"))
        )
        + ".",
        f"The sorting network: a larger score lowered a sorted value in {sorting['on']:.0%} of draws with logistic "
        f"swaps, in {sorting['off']:.0%} with the arc tangent.",
        "A mean over rows (ProbabilityNetwork) against a network of the set (SetNetwork), digit 8 against the rest:",
        table(["metric", "blocks", "mean over rows", "set"], sets),
    ])  # fmt: skip


def humanoid(result: dict[str, Any]) -> str:
    """PCKh on rendered humanoids: the squared error over the Gaussian's width, UniLoss, ReLoss."""
    best, counts = result["best"], result["counts"]
    rows = [
        [
            loss,
            number(row["lr"], "g"),
            estimate(row["pck"]),
            estimate(result["minus_best"].get(loss), "+.3f") if loss != best else "",
            number(row["seconds"], ".0f"),
        ]
        for loss, row in result["rows"].items()
    ]
    ranks = "; ".join(
        f"{loss} {estimate(row['rank_correlation']['correlation'])}, the squared error of the same run "
        f"{estimate(row['rank_correlation']['standard'])}"
        for loss, row in result["rows"].items()
        if "rank_correlation" in row
    )
    longer = "; ".join(f"{loss} {estimate(found, '+.3f')}" for loss, found in result["minus_longer"].items())
    return "\n\n".join([
        f"pybullet's humanoid in motion-capture poses, {result['size']} pixels, heat maps of 16 x 16, a one-stack "
        f"hourglass, {counts['train']} pictures, {result['epochs']} epochs, PCKh at half a head. Poses of the parts "
        "are no neighbours in time. Each loss at the best of three rates on validation pictures of the first seed; so "
        f"chosen is the sigma of {best}, which ReLoss's recording uses too. Seconds are of one core, and count "
        "ReLoss's recording and fit. Where the rate is 0.03 the list may have ended too early; the row with twice the "
        "epochs says how far the squared error is from its plateau.",
        table(["loss", "rate", "test PCKh", f"minus {best}, paired", "seconds"], rows),
        f"Against the squared error with twice the epochs: {longer}. UniLoss minus fitted ReLoss: "
        f"{estimate(result['uniloss_minus_reloss'], '+.3f')}. Rank correlation with PCK on heat maps kept apart: "
        f"{ranks}.",
    ])  # fmt: skip
