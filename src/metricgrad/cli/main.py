"""The command line. stdout carries results alone; progress goes to stderr; an error is one line and exit code 2."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from typing import Annotated, NoReturn

import typer
from rich.table import Table

from metricgrad.cli import table_options
from metricgrad.cli.console import console, print_study, warnings_in_one_line
from metricgrad.cli.evaluate import evaluate
from metricgrad.cli.lists import losses, metrics, tasks
from metricgrad.cli.predict import predict
from metricgrad.cli.report import report
from metricgrad.cli.train import train
from metricgrad.errors import MetricgradError
from metricgrad.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Train on the metric you are judged by.",
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"metricgrad {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Train on the metric you are judged by."""


@app.command()
def compare(
    task: Annotated[
        str,
        typer.Argument(
            help="FILE.csv or FILE.parquet, with --target; a task of `metricgrad tasks`; path/to/file.py:task."
        ),
    ],
    metric: Annotated[
        str | None,
        typer.Option(help="What decides: a name, name:key=value, pkg.mod:fn or file.py:fn. Default: the task's."),
    ] = None,
    losses: Annotated[
        str | None,
        typer.Option(
            help="Names with commas between; auto for those that the task asks for, from the simplest on. Default: the "
            "task's standard loss, and uniloss."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Runs spent on tuning each loss.")] = 20,
    seeds: Annotated[int, typer.Option(help="Final runs of each loss, each with a fresh split.")] = 10,
    budget: Annotated[str | None, typer.Option(help="Time for it, as 10m; --trials and --seeds are the most.")] = None,
    jobs: Annotated[int, typer.Option(help="Workers; further machines share the work by the same command.")] = 1,
    out: Annotated[str, typer.Option(help="Folder for report.html, results.jsonl and compare.png.")] = "runs/compare",
    decision: Annotated[
        str,
        typer.Option(
            help="What every loss is delivered under: auto (what the metric asks for, where it pays on validation), "
            "none, or a kind, such as threshold or offsets."
        ),
    ] = "auto",
    margin: Annotated[
        float | None,
        typer.Option(help="A difference below it is none that matters. Default: .005 of the metric's range."),
    ] = None,
    metric_timeout: Annotated[
        float, typer.Option(help="Seconds that one call of a metric of your own may take; 0 is no limit.")
    ] = 60.0,
    controls: Annotated[bool, typer.Option(help="Add the metric-blind control.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout, and nothing else there.")] = False,
    target: table_options.Target = None,
    positive: table_options.Positive = None,
    classes: table_options.Classes = None,
    group: table_options.Group = None,
    weight: table_options.Weight = None,
    split: table_options.Split = None,
    time: table_options.Time = None,
    drop: table_options.Drop = None,
) -> None:
    """Compare losses on a task by a metric: same tuning budget, fresh seeds, paired and corrected test."""
    chosen = table_options.task_of(
        task, metric, target=target, positive=positive, classes=classes, group=group, weight=weight, split=split,
        time=time, drop=drop,
    )  # fmt: skip  # what is misspelt is told before the seconds that the next import takes
    from metricgrad.comparison.study import compare as run

    names = [chosen.standard, "uniloss"] if losses is None else named_losses(losses)
    table = run(
        chosen, metric=metric, losses="auto" if names == ["auto"] else names, trials=trials, seeds=seeds, budget=budget,
        jobs=jobs, out=out, controls=controls, decision=decision, margin=margin, metric_timeout=metric_timeout or None,
        command=shlex.join(["metricgrad", *sys.argv[1:]]),
    )  # fmt: skip
    print_study(table, as_json=as_json)


@app.command()
def diagnose(
    predictions: Annotated[
        str,
        typer.Argument(
            help="CSV or Parquet with columns target and score, or score_0, score_1, ...; or, with --target, what "
            "`metricgrad predict` wrote."
        ),
    ],
    metric: Annotated[str, typer.Option(help="What decides: a name, name:key=value, pkg.mod:fn or file.py:fn.")],
    losses: Annotated[
        str | None, typer.Option(help="Names with commas between. Default: the standard loss of the problem.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="The column of true labels in what `metricgrad predict` wrote, whose probabilities are read as such; "
            "`predict --keep` writes it there."
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option(help="The scores are probabilities: their logit (score) or log (score_0, ...) is taken.")
    ] = False,
    block: Annotated[int, typer.Option(help="Rows of one block; use the batch size of the training.")] = 64,
    blocks: Annotated[int, typer.Option(help="How many blocks are drawn.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the draws and the bootstrap.")] = 0,
    out: Annotated[str, typer.Option(help="The scatter plot, a PNG.")] = "diagnose.png",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout, and nothing else there.")] = False,
) -> None:
    """Say how well losses rank stored predictions as a metric does; nothing is trained."""
    from metricgrad.comparison.diagnose import diagnose as run

    names = () if losses is None else named_losses(losses)
    found = run(
        predictions, metric, names, target=target, probabilities=probabilities, block=block, blocks=blocks, seed=seed,
        out=out,
    )  # fmt: skip
    if as_json:
        print(json.dumps(found.to_dict(), allow_nan=False))
        return
    shown = Table("loss", f"correlation with {found.metric}", "95 % interval")
    for name, agreed in found.agreements.items():
        shown.add_row(name, f"{agreed.value:.3f}", f"[{agreed.low:.3f}, {agreed.high:.3f}]")
    screen = console()
    screen.print(shown)
    screen.print(f"{found.rows} rows, {len(found.target_loss)} blocks of {found.block}", highlight=False)
    screen.print(f"plot: {out}", highlight=False, soft_wrap=True)


for command in (train, predict, evaluate, report, tasks, metrics, losses):
    app.command()(command)


def split_losses(text: str) -> list[str]:
    """Names at commas; a comma before ``key=`` belongs to the parameters of the name before it.

    Example:
        >>> split_losses("focal:gamma=1,alpha=0.5,uniloss")
        ['focal:gamma=1,alpha=0.5', 'uniloss']
    """
    return [part.strip() for part in re.split(r",(?!\s*\w+=)", text) if part.strip()]


def named_losses(text: str) -> list[str]:
    """The names of an option that was given, one at least.

    Raises:
        MetricgradError: for none.
    """
    if not (names := split_losses(text)):
        raise MetricgradError(
            f"--losses is {text!r}; name one at least, such as --losses cross_entropy,uniloss, or leave it out"
        )
    return names


def main() -> None:
    """Everything but signals, which are its caller's."""
    try:
        command = typer.main.get_command(app)
        asked = sys.argv[1:] or ["--help"]
        with warnings_in_one_line(), command.make_context("metricgrad", asked) as context:
            command.invoke(context)  # Typer's own main answers a KeyboardInterrupt without a word
        sys.exit(0)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except MetricgradError as error:
        _fail(str(error))
    except BrokenPipeError:  # whoever reads stdout, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed: pip install 'metricgrad[train,compare]'")
    except Exception as error:
        message = getattr(error, "format_message", None)  # Typer's own usage errors, whichever click it carries
        if message is None:
            raise
        _fail(f"{message().rstrip('.')}; see `metricgrad --help`")


def _fail(message: str) -> NoReturn:
    print(f"metricgrad: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
