"""Appraise: what a selection from a stream is worth, in numbers, before anything is trained on it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dsel.context import World
from dsel.error import InputError
from dsel.functional.cores import num_cores
from dsel.functional.divergence import kl_divergence
from dsel.functional.hashing import hash_texts
from dsel.functional.near_duplicates import JACCARD, SHINGLE, near_duplicates
from dsel.functional.ngrams import Ngrams
from dsel.functional.ranking import roc_auc_of_parts
from dsel.functional.tally import Domains, Histogram, Lengths, Range, length_edges
from dsel.phase.chosen import Chosen, Part, read_texts
from dsel.phase.scored import count_distinct
from dsel.pool import DOMAIN, TEXT
from dsel.protocol import Selector
from dsel.state import State

QUALITY, SAMPLES = "quality.json", "samples.json"
MOST_PIECES = 32  # that are read once more, for texts of the chosen
MOST_CHARACTERS = 2000  # of a text that are compared
SAMPLE_CHARACTERS = 300

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Appraise:
    """Compares what was chosen with the pool and with the target, in bounded memory, and changes nothing.

    Precision, recall and AUC where documents of the target's kind are known: those of the domain `positive`, or planted ones.
    The KL reduction (arXiv 2302.03169) is KL(target || random) - KL(target || chosen) over hashed unigrams and bigrams; it and
    the share of near-duplicates look at the beginnings of `documents` chosen ones, evenly by rank, and as many random ones.
    `samples` of the first, the last and the next documents are shown. 0 and false turn a part off.
    """

    selector: Selector
    positive: str | None = None
    documents: int = 10_000
    kl_reduction: bool = True
    near_duplicates: bool = True
    samples: int = 5

    def __post_init__(self) -> None:
        for key in ("documents", "samples"):
            if getattr(self, key) < 0:
                raise InputError(f"phases.quality.{key}={getattr(self, key)}: must be 0 or more")

    needs_checkpoint = False  # it reads scores and texts
    trains = False

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write quality.json and samples.json. Errors: no document is of the domain `positive`."""
        chosen = Chosen(state, world, self.selector)
        survey = _survey(chosen, self.positive)
        if self.positive is not None and not survey.num_positive:
            known = ", ".join(entry["domain"] for entry in survey.domains.record()) or "none; set data.domain_column="
            raise InputError(f"phases.{world.name}.positive={self.positive}: no document is of that domain; there are {known}")
        found = {key: chosen.record[key] for key in ("read", "documents")} | {"chosen": chosen.table.num_rows}
        found |= {"scores": _scores(chosen, survey), "domains": survey.domains.record(), **_tally(chosen, survey, self.positive)}
        if survey.num_positive:
            found["labels"] = {"positive": self.positive or "planted", **_find(chosen, survey, self.positive)}
        samples = _next(chosen, survey, self.samples)
        rng = np.random.default_rng(world.phase_seed("drawn"))
        drawn = _draw(chosen.table["piece"].to_numpy(), self.documents, rng) if self.kl_reduction or self.near_duplicates else _NONE
        texts = self._texts(chosen, world, drawn, samples)
        if len(drawn):
            found |= self._compare(texts, world, rng)
        (folder / QUALITY).write_text(json.dumps(found, indent=1), encoding="utf-8")
        (folder / SAMPLES).write_text(json.dumps(samples, indent=1), encoding="utf-8")
        return {"compared_documents": len(drawn)}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the main numbers as metrics."""
        found = json.loads((folder / QUALITY).read_text(encoding="utf-8"))
        labels = {f"selector_{key}": found["labels"][key] for key in ("precision", "recall", "auc")} if "labels" in found else {}
        others = {"kl_reduction": found.get("kl", {}).get("reduction"), "near_duplicates": found.get("near_duplicates", {}).get("selected")}
        return state.with_metrics(**labels, **{key: value for key, value in others.items() if value is not None})

    def _texts(self, chosen: Chosen, world: World, drawn: Places, samples: list[dict[str, Any]]) -> pa.Array:
        """The beginnings of the drawn texts; those of the samples are put into them."""
        places = chosen.table["place"].to_numpy()[drawn]
        wanted = np.unique(np.r_[places, np.array([sample["place"] for sample in samples], np.int64)])
        texts = read_texts(chosen, world, wanted, MOST_CHARACTERS)
        for sample in samples:
            at = np.searchsorted(wanted, [sample["place"]])
            sample["file"] = Path(world.stream.pieces[int(chosen.piece_of(wanted[at])[0])].path).name
            text = texts[int(at[0])].as_py()
            sample["text"] = text[:SAMPLE_CHARACTERS] + ("..." if len(text) > SAMPLE_CHARACTERS else "")
        return texts.take(pa.array(np.searchsorted(wanted, places)))

    def _compare(self, texts: pa.Array, world: World, rng: np.random.Generator) -> dict[str, Any]:
        """What depends on texts: the chosen beside as many random ones of the pool's sample."""
        source = world.corpus.source.table[TEXT]
        others = _begin(source.take(pa.array(np.sort(rng.permutation(len(source))[: len(texts)]))))
        found: dict[str, Any] = {"compared": {"selected": len(texts), "pool": len(others), "characters": MOST_CHARACTERS}}
        with ThreadPoolExecutor(num_cores()) as threads:  # all of it is compiled, and leaves the interpreter's lock
            kl = threads.submit(_kl, texts, others, world) if self.kl_reduction else None
            near = [threads.submit(near_duplicates, side) for side in (texts, others)] if self.near_duplicates else []
        found |= {"kl": kl.result()} if kl else {}
        if near:
            selected, pool = (float(side.result().mean()) for side in near)
            found["near_duplicates"] = {"selected": selected, "pool": pool, "jaccard": JACCARD, "shingle": SHINGLE}
        return found


_NONE = np.empty(0, np.int64)


@dataclass
class _Survey:
    """What has to be known of all documents before they can be counted."""

    pool: Range  # of scores
    selected: Range
    domains: Domains
    unit: str
    longest: int = 0
    num_positive: int = 0
    least: float = np.inf  # key of the chosen


def _survey(chosen: Chosen, positive: str | None) -> _Survey:
    unit = "tokens" if chosen.has("length") else "characters"
    survey = _Survey(Range(chosen.record["documents"]), Range(chosen.table.num_rows), Domains(), unit)
    for part in chosen:
        survey.pool.add(part.scores)
        survey.selected.add(part.scores[part.chosen])
        survey.longest = max(survey.longest, int(_lengths(part, survey.unit).max()))
        survey.num_positive += int(_positive(part, positive).sum())
        survey.least = min(survey.least, float(chosen.keys(part)[part.chosen].min(initial=np.inf)))
        if DOMAIN in part.table.column_names:
            survey.domains.add(part.table[DOMAIN], part.chosen)
    return survey


def _scores(chosen: Chosen, survey: _Survey) -> dict[str, Any]:
    """Lowest and highest of both sides, and that of the last chosen: a threshold, if the best are kept."""
    ranges = {"pool": survey.pool, "selected": survey.selected}
    return {side: [one.low, one.high] for side, one in ranges.items()} | {"threshold": chosen.table["score"][-1].as_py()}


def _lengths(part: Part, unit: str) -> Places:
    lengths: Places = part.table["length" if unit == "tokens" else "size"].to_numpy().astype(np.int64)
    return lengths


def _positive(part: Part, domain: str | None) -> npt.NDArray[np.bool_]:
    """Which documents are of the target's kind, as far as is known."""
    name = "planted" if domain is None else DOMAIN
    if name not in part.table.column_names:
        return np.zeros(len(part.scores), np.bool_)
    column = part.table[name] if domain is None else pc.fill_null(pc.equal(part.table[name], domain), False)
    return np.asarray(column.to_numpy(), dtype=np.bool_)


def _tally(chosen: Chosen, survey: _Survey, positive: str | None) -> dict[str, Any]:
    """Histogram of scores; mean, deciles and histogram of lengths; pool against selected."""
    scores = Histogram(survey.pool.edges())
    lengths = {"pool": Lengths(), "selected": Lengths()}
    kind = "planted" if positive is None else "positive"
    for part in chosen:
        scores.add("pool", part.scores)
        scores.add("selected", part.scores[part.chosen])
        if survey.num_positive:
            scores.add(kind, part.scores[_positive(part, positive)])
        values = _lengths(part, survey.unit)
        lengths["pool"].add(values)
        lengths["selected"].add(values[part.chosen])
    edges = length_edges(survey.longest)
    histogram = {"edges": edges.tolist()} | {side: counts.binned(edges) for side, counts in lengths.items()}
    length = {"unit": survey.unit} | {side: counts.record() for side, counts in lengths.items()}
    return {"histogram": scores.record(), "length": length | {"histogram": histogram}}


def _find(chosen: Chosen, survey: _Survey, positive: str | None) -> dict[str, Any]:
    """How well documents of the target's kind are found. A text that comes twice can be chosen once: it counts once for recall."""

    def names() -> Iterator[npt.NDArray[np.uint64]]:
        return (part.names[_positive(part, positive)] for part in chosen)

    hits = sum(int((part.chosen & _positive(part, positive)).sum()) for part in chosen)
    distinct = count_distinct(names, survey.num_positive)
    auc, error = roc_auc_of_parts(lambda: ((part.scores, _positive(part, positive)) for part in chosen))
    shares = {"precision": hits / chosen.table.num_rows, "recall": hits / distinct}
    return {"documents": distinct, **shares, "auc": auc if np.isfinite(auc) else None, "auc_error": error}


def _next(chosen: Chosen, survey: _Survey, count: int) -> list[dict[str, Any]]:
    """The `count` documents chosen first and last, and the ones that would have come next: kind, rank, place, score, domain, file."""
    table, size = chosen.table, chosen.table.num_rows
    ranks = [*range(min(count, size)), *range(max(count, size - count), size)] if count else []
    found = [{"kind": "first" if r < count else "last", "rank": r, "place": table["place"][r].as_py()} for r in ranks]
    keys, names, places = [np.empty(0)], [np.empty(0, np.uint64)], [_NONE]
    tied = [names[0]]
    for part in chosen if count else ():
        own = chosen.keys(part)
        tied.append(part.names[part.chosen & (own == survey.least)])
        others = np.flatnonzero(~part.chosen & (own <= survey.least))  # above it are repeats of chosen ones
        best = others[np.argsort(-own[others], kind="stable")[: 4 * count]]
        keys.append(own[best])
        names.append(part.names[best])
        places.append(chosen.first[part.number] + part.table["row"].to_numpy()[best])
    key, name, place = (np.concatenate(column) for column in (keys, names, places))
    fresh = (key < survey.least) | ~np.isin(name, np.concatenate(tied))
    order = np.lexsort((name, -key))
    order = order[fresh[order]]
    order = order[np.sort(np.unique(name[order], return_index=True)[1])][:count]
    found += [{"kind": "next", "rank": size + n, "place": int(place[at])} for n, at in enumerate(order)]
    return [sample | chosen.describe(sample["place"]) for sample in found]


def _draw(piece: npt.NDArray[np.int32], count: int, rng: np.random.Generator) -> Places:
    """Ranks of `count` of the chosen, evenly from first to last, from at most `MOST_PIECES` pieces."""
    pieces = np.unique(piece)
    ranks = np.arange(len(piece))
    if len(pieces) > MOST_PIECES:
        ranks = np.flatnonzero(np.isin(piece, rng.choice(pieces, MOST_PIECES, replace=False)))
    count = min(count, len(ranks))
    return ranks[np.linspace(0, len(ranks) - 1, count).round().astype(np.int64)]


def _begin(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_slice_codeunits(texts, 0, MOST_CHARACTERS)


def _kl(texts: pa.Array, others: pa.ChunkedArray, world: World) -> dict[str, Any]:
    """KL divergences from the target in nats; also from held-out target documents, which show what was learnt by heart."""
    ngrams, known = Ngrams(), world.corpus.target.table[TEXT]
    selected, pool, target = ngrams.count(texts), ngrams.count(others), ngrams.count(_begin(known))
    far, near = kl_divergence(target, pool), kl_divergence(target, selected)
    found = {"pool": far, "selected": near, "reduction": far - near, "buckets": ngrams.num_buckets, "max_ngram": ngrams.order}
    validation = world.corpus.validation.table[TEXT]
    held_out = ~np.isin(hash_texts(validation), hash_texts(known))
    if held_out.any():
        held = ngrams.count(_begin(validation.filter(pa.array(held_out))))
        found["held_out_reduction"] = kl_divergence(held, pool) - kl_divergence(held, selected)
    return found
