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
    head = ["data", "metric", "blocks", *names, "ReLoss minus standardised standard loss", "ReLoss minus regression"]
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
        "training, narrow ones all of its end. No item is used for two of training, fitting and judging. The standard "
        "loss is cross-entropy, for heat maps the squared error of a Gaussian; standardised, it sees scores at unit "
        "spread (heat maps also at zero mean) over the block. Heat maps have no error rate.",
        table(head, rows),
        f"Wide blocks, metrics of a set: {high} of {len(sets)} means are .95 or more. Narrow blocks, ReLoss below "
        f"the standardised standard loss: {', '.join(below) or 'nowhere'}; below the standard loss as it is: "
        f"{', '.join(behind) or 'nowhere'}.",
    ])  # fmt: skip


def networks(result: dict[str, Any]) -> str:
    """Two data sets and two networks each, fitted on one and used on the other."""
    parts = [
        f"4,000 training images, {result['epochs']} epochs of SGD with momentum; `fashion` and `mnist` are multilayer "
        "perceptrons, `-cnn` small convolutional networks. Roughness is the mean change of the validation accuracy "
        "from epoch to epoch in the second half."
    ]
    for setting, found in result["tables"].items():
        rows = [
            [name, number(row["rate"], "g"), estimate(row["test"], ".4f"),
             *(["", ""] if name == "cross-entropy" else [estimate(row["difference"], "+.4f"), said(row["difference"])]),
             estimate(row["roughness"], ".4f")]
            for name, row in found.items()
        ]  # fmt: skip
        head = ["trained on", "rate", "test accuracy", "minus cross-entropy, paired", "it is", "roughness"]
        parts += [f"**{setting}**", table(head, rows)]
    return "\n\n".join(parts)


def training(result: dict[str, Any]) -> str:
    """Test metrics of trainings on ReLoss and its baselines."""
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


ACCURACIES = {"tuned": "test accuracy, tuned AdamW", "usual": "test accuracy, SGD at 0.1"}
RANKED = {"own": "own labels", "wide": "real labels, wide", "narrow": "real labels, narrow"}
CE = ("cross-entropy", "cross-entropy")


def pitfalls(result: dict[str, Any]) -> str:
    """Each pitfall of the published fit with the switch on and off."""
    fits = result["fits"]
    on, off = ("on", "paper=True"), ("off", "default")
    shape = {"largest": "largest value of one row", "falling": "share of p where the loss falls"}
    start, real = fits["unfitted"]["own"], [fits[name]["narrow"] for name in ("paper=True", "default", "cross-entropy")]
    return "\n\n".join([
        "On is `ReLoss.fit(..., paper=True)`, the released code in the library with its pitfalls; off is the default. "
        "Fits with the switch on have 40 steps of 256 blocks of 128 rows unless a row says otherwise, and end "
        "differently from seed to seed, hence their wide intervals. A row 'on, mended' mends the one thing in question "
        "and keeps the other pitfalls; 'off, spoiled' spoils it alone. Digits, accuracy, real labels, unless a table "
        "says otherwise; correlations are Spearman's with mean ranks over 200 blocks of 64 rows, as above.",
        "**1. The gradient penalty on the batch's mean** asks each row for a slope that grows with the block.",
        _fits(fits, [on, ("on, mended", "paper=True, penalty=0"), off, ("off, a penalty by rows",
              "default, penalty=0.1"), CE], {**shape, **ACCURACIES}),
        "**2. Labels that are the model's own predictions** are nearly trivial to rank: on such blocks a monotone "
        f"network that was never fitted has {estimate(start)}. What tells losses apart are real labels at the end of a "
        f"training: {estimate(real[0])} on, {estimate(real[1])} off, cross-entropy {estimate(real[2])}.",
        _fits(fits, [("unfitted", "unfitted"), on, off, CE], RANKED),
        "**3. The sign** of the absolute value at the output is not known before: fits of 20 steps of 32 values that "
        "end at a negative correlation. Off, the network never rises with p, and a wrong sign starts anew.",
        _signs(result["signs"]),
        "**4a. The scale of the losses**, by their spread: the share of losses that the soft correlation has a "
        "gradient for, and, of losses in the metric's own order, the share of neighbours whose swap it rewards.",
        _scales(result["scales"]),
        "**4b. Ties**, blocks of the end of a training: over 100 orders in which the same 200 blocks are listed, the "
        "hard correlation that chooses the weights, of a constant loss and from the lowest to the highest of "
        "cross-entropy.",
        _ties(result["ties"]),
        "What fits to small blocks, which tie more, are worth on blocks of 64 rows:",
        _fits(fits, [on, ("on", "paper=True, block=16"), off, ("off", "default, block=16")],
              {"wide": RANKED["wide"], "narrow": RANKED["narrow"], **ACCURACIES}),
        "**5. The sorting network.** " + _networks(result["networks"]),
        "**6. A mean over rows for metrics of a set**, the digit 8 against the rest; here the switch has blocks of 64 "
        "rows and 32 values, as the default.",
        _sets(result["sets"]),
    ])  # fmt: skip


def _fits(fits: dict[str, Any], chosen: list[tuple[str, str]], columns: dict[str, str]) -> str:
    rows = [
        [switch, "" if name == switch else f"`{name}`", *(estimate(fits[name].get(key)) for key in columns)]
        for switch, name in chosen
    ]
    return table(["switch", "fit", *columns.values()], rows)


def _signs(signs: dict[str, Any]) -> str:
    rows = []
    for size, found in signs.items():
        wrong = [f"{found[switch]['wrong']} of {found[switch]['of']}" for switch in ("on", "off")]
        reached = [f"{accuracy:.2f}" for accuracy in found["on"]["accuracy"]]
        rows.append([size, *wrong, ", ".join(reached) or "–"])
    return table(["rows of a block", "wrong, on", "wrong, off", "test accuracy after the wrong ones, on"], rows)


def _scales(scales: dict[str, Any]) -> str:
    rows = [
        [spread, *(f"{scales[switch][spread][what]:.2f}" for what in ("gradient", "swapped") for switch in scales)]
        for spread in scales["on"]
    ]
    return table(["spread", "gradient, on", "gradient, off", "swap rewarded, on", "swap rewarded, off"], rows)


def _ties(ties: dict[str, Any]) -> str:
    rows = []
    for size, found in ties.items():
        spans = [
            f"{found[switch]['low']['mean']:.2f} … {found[switch]['high']['mean']:.2f}" for switch in ("on", "off")
        ]
        constant = [estimate(found[switch]["constant"], ".2f") for switch in ("on", "off")]
        rows.append([size, f"{found['tied']['mean']:.0%}", *constant, *spans])
    head = ["rows of a block", "pairs that tie", "constant, on", "constant, off", "lowest … highest, on", "… off"]
    return table(head, rows)


def _networks(networks: dict[str, Any]) -> str:
    on, off = networks["on"], networks["off"]
    return (
        f"Raising one of 8 scores by 0.1 lowers a sorted value in {on['falling']:.0%} of draws with the switch's "
        f"logistic comparators, in {off['falling']:.0%} with those of `soft_rank_network`. The switch's soft ranks "
        f"leave the order of the scores in {on['inverted']:.0%} of draws, those by projection (`soft_rank`) in "
        f"{off['inverted']:.0%}; the default objective needs neither, it adds up pairs."
    )


def _sets(sets: dict[str, Any]) -> str:
    names = {"paper=True": "on", "default, a mean over rows": "off, spoiled: a mean over rows", "default": "off"}
    rows = [
        [short(metric), kind, *(estimate(found[name][kind], ".2f") for name in names)]
        for metric, found in sets.items()
        for kind in ("wide", "narrow")
    ]
    return table(["metric", "blocks", *names.values()], rows)


def humanoid(result: dict[str, Any]) -> str:
    """PCKh on rendered humanoids: two standard losses over the Gaussian's width, UniLoss, ReLoss."""
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
    longer, beside = (
        "; ".join(f"{loss} {estimate(found, '+.3f')}" for loss, found in result[name].items())
        for name in ("minus_longer", "minus_control")
    )
    return "\n\n".join([
        f"pybullet's humanoid in motion-capture poses, {result['size']} pixels, heat maps of 16 x 16, a one-stack "
        f"hourglass, {counts['train']} pictures, {result['epochs']} epochs, PCKh at half a head. Poses of the parts "
        "are no neighbours in time. Each loss at the best of four rates on validation pictures of the first seed; so "
        f"chosen is the sigma of {best}, which ReLoss's recording uses too, and that of the control, "
        f"{result['control']}, which never calls the metric. Seconds are of one core, and count ReLoss's recording and "
        "fit. The row with twice the epochs says how far the squared error is from its plateau.",
        table(["loss", "rate", "test PCKh", f"minus {best}, paired", "seconds"], rows),
        f"Against the control: {beside}. Against the squared error with twice the epochs: {longer}. UniLoss minus "
        f"fitted ReLoss: {estimate(result['uniloss_minus_reloss'], '+.3f')}. Rank correlation with PCK on heat "
        f"maps held out: {ranks}.",
    ])  # fmt: skip
