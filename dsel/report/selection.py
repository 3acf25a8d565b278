"""The report of a single selection from a stream: in the terminal, and a page of its own that needs no script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsel.artifact import write_atomic
from dsel.error import InputError
from dsel.outcome import RESULT
from dsel.report.cell import read_json, read_record
from dsel.report.svg import Series, draw_histogram
from dsel.report.template import fill, percent

if TYPE_CHECKING:
    from rich.table import Table as RichTable

QUALITY, SAMPLES, TEMPLATE = "quality.json", "samples.json", "selection.html.jinja"
SHOWN = 5  # domains in the terminal
OPTIONAL = ("labels", "compared", "kl", "near_duplicates")  # what a run may have left out
KINDS = {"first": "The first", "last": "The last", "next": "Just not chosen"}


@dataclass(frozen=True)
class Row:
    """A line of the table: a quantity in the pool and among the selected, as text."""

    name: str
    pool: str
    selected: str
    note: str = ""


@dataclass(frozen=True)
class Selection:
    """What a run's folder and its artifact `quality` hold."""

    folder: Path
    record: Mapping[str, Any]
    quality: Mapping[str, Any]
    samples: list[dict[str, Any]]

    @property
    def title(self) -> str:
        """The experiment and the method."""
        return f"{self.record['name']} by {self.record['label']}"


def read_selection(folder: Path) -> Selection | None:
    """What is told of the run in `folder`; None where it has no result, or selected without a look at the quality.

    Errors: a file that cannot be read.
    """
    if not (folder / RESULT).is_file():
        return None
    record = read_record(folder / RESULT)
    place = record.get("artifacts", {}).get("quality")
    if place is None:
        return None
    try:
        return Selection(folder, record, read_json(folder / place / QUALITY), read_json(folder / place / SAMPLES))
    except InputError as error:
        raise InputError(f"{folder / place}: {error}; run the selection again") from error


def build_selection(selection: Selection, quiet: bool = False) -> Path:
    """Write report.html into the run's folder; prints the table and the path unless `quiet`."""
    page = selection.folder / "report.html"
    write_atomic(page, render(selection))
    if not quiet:
        from rich.console import Console

        console = Console(highlight=False)
        console = console if console.is_terminal else Console(highlight=False, width=100)  # a log file has no edge
        console.print(to_rich(selection))
        console.print(f"report: {page}", markup=False, soft_wrap=True)
    return page


def rows(quality: Mapping[str, Any], num_domains: int = 0) -> list[Row]:
    """The numbers, pool beside selected; what was not measured is left out."""
    documents, chosen, length = quality["documents"], quality["chosen"], quality["length"]
    scores = quality["scores"]
    found = [Row("documents", f"{documents:,}", f"{chosen:,}", f"{percent(chosen / max(documents, 1))} of the pool")]
    pool, selected = (f"{low:.4g} to {high:.4g}" for low, high in (scores["pool"], scores["selected"]))
    found.append(Row("score", pool, selected, f"last chosen: {scores['threshold']:.4g}"))
    if labels := quality.get("labels"):
        base = labels["documents"] / max(documents, 1)
        found.append(Row(f"precision ({labels['positive']})", percent(base), percent(labels["precision"])))
        found.append(Row("recall", percent(chosen / max(documents, 1)), percent(labels["recall"]), f"of {labels['documents']:,}"))
        if labels["auc"] is not None:
            error = f"± {labels['auc_error']:.1g}" if labels["auc_error"] else ""
            found.append(Row("AUC", "0.5", f"{labels['auc']:.4f}", error))
    if kl := quality.get("kl"):
        held = f"; held-out target: {_closer(kl['held_out_reduction'])}" if "held_out_reduction" in kl else ""
        found.append(Row("KL from the target (nats)", f"{kl['pool']:.3f}", f"{kl['selected']:.3f}", _closer(kl["reduction"]) + held))
    if near := quality.get("near_duplicates"):
        sizes = quality["compared"]
        found.append(Row("near-duplicates", percent(near["pool"]), percent(near["selected"]), f"of {sizes['selected']:,} drawn"))
    sides = [length["pool"], length["selected"]]
    found.append(Row(f"{length['unit']}, median", *(f"{side['deciles'][5]:,}" for side in sides)))
    found.append(Row(f"{length['unit']}, mean", *(f"{side['mean']:,.1f}" for side in sides)))
    return found + [Row(f"domain {d['domain']}", percent(d["pool"]), percent(d["selected"])) for d in domain_shares(quality)[:num_domains]]


def _closer(reduction: float) -> str:
    return f"{abs(reduction):.3f} {'closer' if reduction >= 0 else 'further'}"


def domain_shares(quality: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Domain, and its shares in the pool and among the selected; those of which most was selected come first."""
    entries = quality["domains"]
    totals = {side: max(sum(entry[side] for entry in entries), 1) for side in ("pool", "selected")}
    shares = [{"domain": entry["domain"]} | {side: entry[side] / total for side, total in totals.items()} for entry in entries]
    return sorted(shares, key=lambda entry: (-entry["selected"], -entry["pool"]))


def to_rich(selection: Selection) -> RichTable:
    """For the terminal."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    table = RichTable(title=escape(selection.title), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("")
    for name in ("pool", "selected"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows(selection.quality, SHOWN):
        table.add_row(escape(row.name), row.pool, f"[bold]{row.selected}[/bold]", escape(row.note))
    return table


def headline(selection: Selection) -> list[str]:
    """What was found, in sentences."""
    quality = selection.quality
    chosen, documents = quality["chosen"], quality["documents"]
    found = [f"{chosen:,} of {documents:,} documents were chosen ({percent(chosen / max(documents, 1))})."]
    if labels := quality.get("labels"):
        found.append(
            f"{percent(labels['precision'])} of them are of the target's kind ({labels['positive']}), "
            f"of which {percent(labels['recall'])} are found."
        )
    if kl := quality.get("kl"):
        way = "closer to" if kl["reduction"] >= 0 else "further from"
        found.append(f"In hashed n-grams they are {abs(kl['reduction']):.3f} nats {way} the target than as many random documents.")
    if near := quality.get("near_duplicates"):
        found.append(f"{percent(near['selected'])} nearly repeat a better one ({percent(near['pool'])} in the pool).")
    return found


def render(selection: Selection) -> str:
    """The page: figures are SVG, text is escaped, nothing is asked of the network."""
    import yaml

    quality, record = selection.quality, selection.record
    shares = domain_shares(quality)
    groups = [(KINDS[kind], [sample for sample in selection.samples if sample["kind"] == kind]) for kind in KINDS]
    return fill(
        TEMPLATE,
        title=selection.title,
        headline=headline(selection),
        rows=rows(quality),
        quality=dict.fromkeys(OPTIONAL) | dict(quality),
        figures=_figures(quality),
        domains=shares,
        widest=max((max(entry["pool"], entry["selected"]) for entry in shares), default=1) or 1,
        percent=percent,
        groups=[(name, samples) for name, samples in groups if samples],
        phases=record.get("cost", {}).get("phases", {}),
        config=yaml.safe_dump(record.get("config", {}), sort_keys=False, allow_unicode=True, width=110),
        versions={**record.get("versions", {}), "git commit": record.get("git_commit"), "device": record.get("cost", {}).get("device")},
    )


def _figures(quality: Mapping[str, Any]) -> dict[str, str]:
    histogram, lengths = quality["histogram"], quality["length"]["histogram"]
    kinds = {
        "pool": ("pool", "pool"),
        "planted": ("planted", "known"),
        "positive": ("of the target's kind", "known"),
        "selected": ("selected", "selected"),
    }
    scores = [Series(*kinds[kind], histogram[kind]) for kind in kinds if kind in histogram]
    threshold = [(quality["scores"]["threshold"], "last chosen")]
    medians = [(quality["length"][side]["deciles"][5], f"median {side}") for side in ("pool", "selected")]
    sides = [Series(side, side, lengths[side]) for side in ("pool", "selected")]
    return {
        "scores": draw_histogram(histogram["edges"], scores, "score (larger = keep)", threshold),
        "lengths": draw_histogram(lengths["edges"], sides, f"{quality['length']['unit']} a document", medians[1:], log=True),
    }
