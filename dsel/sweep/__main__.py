"""`python -m dsel.sweep status|retry|table|sql FOLDER`: how a sweep stands, run what did not end, and ask its results."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dsel.error import InputError

DESCRIPTION = "Ask a sweep, or many: FOLDER is outputs/runs/NAME, or outputs/runs for all."


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    at = given.index("--") if "--" in given else len(given)
    options = _parser().parse_args(given[:at])
    try:
        code: int = options.run(options, given[at + 1 :])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # piped into `head`
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dsel.sweep", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    status = commands.add_parser("status", help="cells done, running, failed (with the cause), waiting, and an estimate of the time left")
    status.add_argument("--json", action="store_true", help="print it as JSON")
    status.set_defaults(run=_status)
    retry = commands.add_parser("retry", help="run what failed, was killed or never began; what stands behind -- is added to the command")
    retry.add_argument("--dry-run", action="store_true", help="only print the commands")
    retry.set_defaults(run=_retry)
    table = commands.add_parser("table", help="mean and spread over seeds of any metrics, by any keys")
    table.add_argument("--keys", type=_names, default=(), help="what makes a row: config keys, label or name (default: what varies)")
    table.add_argument("--metrics", type=_names, default=(), help="columns: metrics, or cost.KEY (default: all that a report shows)")
    table.add_argument("--columns", help="a key whose values become columns, of the first metric")
    table.add_argument("--where", action="append", default=[], metavar="KEY=VALUE", help="only such cells; may be given several times")
    table.add_argument("--format", choices=("text", "csv", "markdown", "latex"), default="text")
    table.set_defaults(run=_table)
    sql = commands.add_parser("sql", help="a query on the table `results`, a row a cell: name, label, seed, metrics, cost, config")
    sql.add_argument("query", help="e.g. 'SELECT label, AVG(\"metrics.target_loss_after_ft\") FROM results GROUP BY label'")
    sql.set_defaults(run=_sql)
    for command in (status, retry):
        command.add_argument("folder", type=Path, help="of the sweep, such as outputs/runs/demo")
    for command in (table, sql):
        command.add_argument("folders", type=Path, nargs="+", help="of sweeps, or of many of them, such as outputs/runs")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _status(options: argparse.Namespace, _more: list[str]) -> int:
    from dsel.sweep.status import read_status

    status = read_status(options.folder)
    if options.json:
        record = {"counts": status.counts, "seconds_left": status.seconds_left, "cells": [asdict(cell) for cell in status.cells]}
        print(json.dumps(record, indent=1))
        return 0
    from dsel.sweep.tell import tell

    tell(status)
    return 0


def _retry(options: argparse.Namespace, more: list[str]) -> int:
    from dsel.sweep.retry import find_retries, run_retries

    retries = find_retries(options.folder)
    if not retries:
        print("nothing to run: no cell failed, died or waits")
        return 0
    if options.dry_run:
        for retry in retries:
            print(" ".join(retry.command(more)))
        return 0
    return run_retries(retries, more)


def _table(options: argparse.Namespace, _more: list[str]) -> int:
    from dsel.report.many import make_table, read_many, select
    from dsel.report.table import to_csv, to_latex, to_markdown, to_rich

    frame = select(read_many(options.folders), options.where)
    table = make_table(frame, options.keys, options.metrics, options.columns)
    if options.format == "text":
        from rich.console import Console

        console = Console(highlight=False)
        Console(highlight=False, width=console.width if console.is_terminal else 10_000).print(to_rich(table, ""))
    else:
        print({"csv": to_csv, "markdown": to_markdown, "latex": to_latex}[options.format](table), end="")
    return 0


def _sql(options: argparse.Namespace, _more: list[str]) -> int:
    from dsel.report.many import query, read_many

    print(query(read_many(options.folders), options.query).write_csv(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
