"""The sections of the report on AdaLFL."""

from __future__ import annotations

from typing import Any

from report_text import estimate, number, said, table


def claims(result: dict[str, Any]) -> str:
    """Test error by step, and at the end against every baseline."""
    parts = [
        f"AdaLFL starts from {result['offline_rounds']} offline rounds. Every loss tries the same learning rates on a "
        "draw that is not among the seeds; half of its validation rows feed the aligner, the other half chooses. No "
        "momentum, except in the settings that say so."
    ]
    for name, found in result["tables"].items():
        steps = list(next(iter(found.values()))["at"])
        rows = [
            [
                loss.replace("_", " "),
                number(row["lr"], "g"),
                *(estimate(row["at"][step]) for step in steps),
                estimate(row["adalfl_minus_it"], "+.3f") if loss != "adalfl" else "",
            ]
            for loss, row in found.items()
        ]
        seeds = max(row["at"][steps[0]]["n"] for row in found.values())
        head = ["trained on", "rate", *(f"test error at {step}" for step in steps), "AdaLFL minus it, at the end"]
        parts += [f"**{name}**, {seeds} seeds", table(head, rows)]
    return "\n\n".join([*parts, held(result)])


def clean(result: dict[str, Any]) -> str:
    """Test accuracy where validation rows are cleaner than those of training, and AdaLFL against each."""
    parts = [
        "40 % of the training labels drawn anew (noise) or moved to the next digit (pairs), a fiftieth of the nines "
        "and of the others as much more as they come earlier (imbalance), the images moved by an eighth of their width "
        "(shift), or nothing spoilt (clean); the 200 validation rows are clean and in place, 20 of each digit. SGD "
        "without momentum, except where the name has another optimiser (momentum 0.9, AdamW). Rows that say so train "
        f"on both parts together. Rate and stop (of {', '.join(map(str, result['stops']))} steps) are chosen jointly "
        "on two draws that are no seeds, by the half of the validation rows that the training has not seen; more "
        "rates are tried while the best is at an edge. Test accuracy in percent; the usual one is cross-entropy on "
        "both parts. Differences are paired and, where seeds redraw the split of the same items, corrected. Settings "
        "and rows not shown have not been run."
    ]
    for name, found in result["tables"].items():
        rows = [
            [
                loss,
                number(row["lr"], "g") + (" (edge)" if row["edge"] else ""),
                str(row["stop"]),
                str(row["accuracy"]["n"]),
                estimate(row["accuracy"], ".2f"),
                _difference(row["adalfl_minus_it"]) if loss != "AdaLFL" else "",
                _difference(row["minus_usual"]) if loss != "cross-entropy on both" else "",
            ]
            for loss, row in found.items()
        ]
        head = ["trained on", "rate", "stop", "seeds", "test accuracy", "AdaLFL minus it", "it minus the usual one"]
        parts += [f"**{name}**", table(head, rows)]
    return "\n\n".join(parts)


def _difference(value: dict[str, Any] | None) -> str:
    return "" if value is None else f"{estimate(value, '+.2f')}, {said(value)}"


def long(result: dict[str, Any]) -> str:
    """Test error after the paper's number of steps, beside cross-entropy at the authors' rate and at a tuned one."""
    rivals = ("cross-entropy at 0.01", "cross-entropy, tuned")
    parts = [
        f"MNIST, 8,000 training digits, {result['steps']:,} steps of plain SGD at batches of {result['batch']}; "
        f"AdaLFL's paper rows after {result['offline_rounds']:,} offline rounds, each of a new model."
    ]
    for model, found in result["tables"].items():
        rows = [
            [loss, number(row["rate"], "g"), estimate(row["test"], ".2f"),
             *(estimate(row[f"minus {rival}"], "+.2f") if loss != rival else "" for rival in rivals)]
            for loss, row in found.items()
        ]  # fmt: skip
        head = ["trained on", "rate", "test error, %", *(f"minus {rival}" for rival in rivals)]
        parts += [f"**{model}**", table(head, rows)]
    return "\n\n".join([*parts, "![Test error by step](results/adalfl_long.png)"])


def toward(result: dict[str, Any]) -> str:
    """AdaLFL toward the metric against AdaLFL toward cross-entropy, UniLoss alone and tuned cross-entropy."""
    parts = [f"{result['trials']} trials each on {result['draws']} draws that are no seeds; {result['steps']} steps."]
    for name, found in result["tables"].items():
        rows = [
            [loss, estimate(row["test"]), estimate(row.get("toward_metric_minus_it"), "+.3f")]
            for loss, row in found["rows"].items()
        ]
        parts += [f"**{name}**", table(["trained on", "test metric", "toward the metric minus it"], rows)]
    return "\n\n".join([*parts, held(result)])


def phenomena(result: dict[str, Any]) -> str:
    """What was seen of the three, each with its figure."""
    names = list(dict.fromkeys(what for row in result["measured"].values() for what in row))
    rows = [[what, *(estimate(row.get(what)) for row in result["measured"].values())] for what in names]
    figures = " · ".join(
        f"[{which.replace('_', ' ')}](results/adalfl_{which}.png)"
        for which in ("schedule", "early_stopping", "label_smoothing")
    )
    head = ["quantity", *(loss.replace("_", " ") for loss in result["measured"])]
    return "\n\n".join([
        f"Digits, clean and with 40 % wrong training labels; {result['steps']} steps of SGD at {result['rate']}; "
        f"nothing is tuned. Means of {result['seeds']} seeds decide. The implied rate is negative where a step goes "
        "past the least objective on its way, as most do at this rate: the gradient's norm tells of the schedule. "
        f"Figures of the first seed: {figures}.",
        table(head, rows),
        held(result),
    ])  # fmt: skip


def cost(result: dict[str, Any]) -> str:
    """Time and memory of a step, as multiples of a plain one."""
    rows = [
        [
            *(word.replace("_", " ") for word in name.split("/")),
            f"{cell['time']:.2f} ({cell['time_low']:.2f} … {cell['time_high']:.2f})",
            number(cell["memory"], ".2f") if "memory" in cell else "",
            number(cell["agrees"], ".1e") if "agrees" in cell else "",
        ]
        for name, cell in result["cells"].items()
    ]
    head = ["model", "step", "time, plain = 1", "peak memory, plain = 1", "its hypergradient is off ours by"]
    absent = f" Not installed where this ran: {', '.join(result['absent'])}." if result.get("absent") else ""
    return "\n\n".join([
        "Median and quartiles of paired steps; plain is the same learned loss, not attached. The aim is 2.5 in time "
        "under SGD, 3.2 under AdamW, and 1.6 in memory; of ALA, which stands beside cross-entropy and looks at 500 "
        "rows every 50 steps, 1.5 in time. Memory is that of tensors, parameters and batches included; a "
        "step of this MLP needs little beside its parameters, of which a look ahead keeps a copy; under SGD without "
        "clipping the gradient of the wide layer is kept as factors, under AdamW it is not. higher and TorchOpt come "
        f"with `pip install --no-deps higher torchopt optree graphviz`.{absent}",
        table(head, rows),
        held(result),
    ])  # fmt: skip


def held(result: dict[str, Any]) -> str:
    """Each claim, its number, and whether it was found."""
    rows = [[text, number(value, ".4g"), "yes" if met else "**no**"] for text, value, met in result.get("bars", [])]
    return table(["claim", "measured", "holds"], rows) if rows else ""
