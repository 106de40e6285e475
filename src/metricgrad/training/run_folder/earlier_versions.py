"""What version 0.1 wrote into the folder of a run, under today's names."""

from __future__ import annotations

import json
import math
from typing import Any

from metricgrad.decisions.identity import Identity
from metricgrad.decisions.kinds import stored
from metricgrad.decisions.threshold import Threshold
from metricgrad.json_types import fits
from metricgrad.losses.interpolated.interpolated import Interpolated
from metricgrad.losses.interpolated.paper import from_version_0_1

_RENAMED = {"looks": "evaluations"}
"""Options of losses by the names that version 0.1 wrote, and today's."""


def config_of_today(config: dict[str, Any]) -> dict[str, Any]:
    """What a run was asked for: losses with today's options, and a decision for ``threshold``."""
    config = {**config, "loss": _loss_of_today(config.get("loss"))}
    if "threshold" not in config:
        return config
    threshold = config.pop("threshold")
    names = {"auto": "auto", None: "none"}
    return {**config, "decision": names[threshold] if threshold in names else Threshold(threshold).described()}


def _loss_of_today(loss: Any) -> Any:
    try:
        found = json.loads(loss, object_hook=lambda options: {_RENAMED.get(k, k): v for k, v in options.items()})
    except (TypeError, ValueError, RecursionError):  # a loss by name, or no loss of ours
        return loss
    match found:
        case {"form": [Interpolated.kind, dict(options)]}:
            found["form"] = list(from_version_0_1(options))
    return json.dumps(found, sort_keys=True) if isinstance(found, dict | list) else loss


def result_of_today(found: Any) -> Any:
    """``result.json``: its threshold is a decision."""
    if not isinstance(found, dict) or "decision" in found or not fits(found.get("threshold", ""), float | None):
        return found
    threshold = found["threshold"]
    return {**found, "decision": stored(Identity() if threshold is None else Threshold(threshold))}


def checkpoint_of_today(found: Any, ended: bool) -> Any:
    """``last.ckpt``; where a run ended, thresholds are what it delivered."""
    if not isinstance(found, dict) or "record" in found:
        return found
    if "population" in found:
        rest = dict(found["population"])
        record = {name: rest.pop(name) for name in ("epoch", "stale", "best", "kept")}
        for kept in record["kept"]:
            threshold = kept.pop("threshold")
            kept["decision"] = result_of_today({"threshold": threshold})["decision"] if ended else None
        return {"config": found["config"], "record": record, "population": rest}
    history, best = found["history"], found["best"] or {"value": math.nan, "epoch": -1, "state": {}}
    kept = {name: best[name] for name in ("value", "state")}
    record = {"epoch": len(history), "stale": len(history) - 1 - best["epoch"], "best": best["value"]}
    return {"config": found["config"], "record": {**record, "kept": [{**kept, "history": history}]}}
