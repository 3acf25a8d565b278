"""The report of a single run, whatever it made: a selection from a stream, a ranking of source tasks, or an attribution."""

from __future__ import annotations

from pathlib import Path


def build_single(folder: Path, quiet: bool = False) -> Path | None:
    """Write the report of the run in `folder`, and print it unless `quiet`; returns the page, None where the run has nothing of its own
    to tell. Errors: InputError for a file that cannot be read."""
    from dsel.report.attribution import read_attribution
    from dsel.report.attribution_page import build_attribution
    from dsel.report.ranking import read_ranking
    from dsel.report.ranking_page import build_ranking
    from dsel.report.selection import build_selection, read_selection

    selection = read_selection(folder)
    if selection is not None:
        return build_selection(selection, quiet)
    ranking = read_ranking(folder)
    if ranking is not None:
        return build_ranking(ranking, quiet)
    attribution = read_attribution(folder)
    return None if attribution is None else build_attribution(attribution, quiet)
