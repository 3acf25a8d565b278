"""A run: from a resolved config to a fold over phases, each found on disk or computed."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dsel import corpus as corpora
from dsel.artifact import Store, fingerprint, hash_code, hash_module, read_record
from dsel.build import build
from dsel.context import World
from dsel.error import InputError
from dsel.finished import CORPUS, TOKENIZER, Finished
from dsel.pool import Budget
from dsel.progress import here
from dsel.protocol import Phase, Stream
from dsel.state import State
from dsel.stream import PoolStream

log = logging.getLogger("dsel")

SHARED_CODE = (
    "dsel.functional", "dsel.training", "dsel.corpus", "dsel.tokens", "dsel.objective", "dsel.pool",
    "dsel.data.format", "dsel.data.text", "dsel.sieve", "dsel.features", "dsel.subset", "dsel.phase.fine_tune",
    "dsel.labelled", "dsel.base_encoder", "dsel.context", "dsel.phase.workbench",
    "dsel.attribution", "dsel.preconditioned", "dsel.phase.queries",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One cell. `config` is resolved and plain; nothing is read or imported before it is needed."""

    config: Mapping[str, Any]

    @cached_property
    def phases(self) -> dict[str, Phase]:
        """The phases of the pipeline, in order, without training that nobody looks at."""
        known = self.config["phases"]
        for name in self.config["pipeline"]:
            if name not in known:
                raise InputError(f"pipeline: there is no phase {name!r}; phases are {', '.join(known)}")
        if not self.config["pipeline"]:
            raise InputError("pipeline is empty; choose an experiment, e.g. experiment=demo (dsel alone lists them)")
        built = {name: build(known[name], self.config["allow"]) for name in self.config["pipeline"]}
        return {name: phase for name, phase in built.items() if not phase.trains or _is_read(name, built)}

    @cached_property
    def data(self) -> Any:
        """The data module."""
        return build(self.config["data"], self.config["allow"])

    @cached_property
    def keys(self) -> dict[str, str]:
        """Fingerprints of the corpus ("corpus"), the tokenizer and every phase: all that a result depends on, without computing it."""
        config = self.config
        shared = {module: hash_module(module) for module in SHARED_CODE}
        data = fingerprint(self.data.identity(), config["data"], config["split"], hash_code(config["data"]), shared)
        tokenizer = fingerprint(data, config.get("model"), hash_code(config.get("model")))
        keys, before = {"corpus": data, "tokenizer": tokenizer}, fingerprint(tokenizer, config["seed"])
        for name, phase in self.phases.items():
            node = config["phases"][name]
            parts = [own()] if (own := getattr(phase, "identity", None)) else []  # what it hangs on besides its options
            before = fingerprint(before, name, node, hash_code(node), *parts)
            keys[name] = before
        return keys

    @property
    def fingerprint(self) -> str:
        """That of the last phase, hence of the whole run."""
        return list(self.keys.values())[-1]

    def world(self, store: Store) -> World:
        """Prepare the corpus and the tokenizer, or find them."""
        from dsel.objective.language_modeling import LanguageModeling

        config, split, before = self.config, build(self.config["split"], self.config["allow"]), self.finished
        if before is None:
            data, found = store.get("corpus", self.keys["corpus"], lambda folder: corpora.prepare(self.data.read(), split, folder))
        else:
            data, found = before.place(CORPUS), True
        corpus = corpora.load(data)
        _say_corpus(corpus, found)
        of_model = config.get("model") or (before.model if before else None)
        model = build(of_model, config["allow"]) if of_model else None
        needs_tokens = any(phase.needs_checkpoint or phase.trains for phase in self.phases.values())
        if needs_tokens and model is None:
            raise InputError("model=null: the pipeline trains a model or reads one; set model=tiny or another one")
        tokens_budget = (config.get("budget") or {}).get("tokens") is not None
        tokenizer, tokenizer_key = None, self.keys["tokenizer"]
        if before is not None:
            tokenizer, tokenizer_key = _load_tokenizer(before.place(TOKENIZER)), before.place(TOKENIZER).name
        elif model is not None and (needs_tokens or tokens_budget):
            folder, _ = store.get(
                "tokenizer",
                self.keys["tokenizer"],
                lambda folder: model.tokenizer(corpus.source).save_pretrained(folder) and None,
            )
            tokenizer = _load_tokenizer(folder)
        executor = build(config["executor"], config["allow"])
        stream: Stream = getattr(self.data, "stream", None) or PoolStream(corpus.source, corpus.record["facts"].get("columns"))
        return World(
            "",
            config["seed"],
            corpus,
            model,
            model.objective if model else LanguageModeling(),
            executor,
            store,
            stream,
            tokenizer,
            tokenizer_key,
            config,
        )

    @property
    def finished(self) -> Finished | None:
        """The run that this one goes on from, if it does."""
        return getattr(self.data, "finished", None)

    def _first_state(self, store: Store) -> State:
        """What there is before the first phase: corpus and tokenizer, and where the run goes on from another, what that has trained."""
        if self.finished is not None:
            return State(self.keys["tokenizer"], self.finished.kept, self.finished.checkpoints)
        made = {name: store.path(name, self.keys[name]) for name in (CORPUS, TOKENIZER) if store.has(name, self.keys[name])}
        return State(self.keys["tokenizer"], made)

    def check_outputs(self, finished: bool) -> None:
        """Errors: a file stands where the run would write one, or the source would hold what is written. What this very run has
        put there is its own until it is finished."""
        for name, phase in self.phases.items():
            if refuse := getattr(phase, "refuse", None):
                refuse(None if finished else self.keys[name])
                _refuse_inside(phase.output, self.config)  # type: ignore[attr-defined]  # it writes one

    def fold(self, store: Store) -> State:
        """Run the phases in order; what is on disk already is read."""
        world = self.world(store)
        for phase in self.phases.values():
            if isinstance(budget := getattr(phase, "budget", None), Budget) and isinstance(world.stream, PoolStream):
                budget.count(len(world.corpus.source))  # more than there is: an error before hours of work
        state = self._first_state(store)
        for name, phase in self.phases.items():
            state = _step(phase, replace(state, fingerprint=self.keys[name]), replace(world, name=name), store)
        return state


def _refuse_inside(output: str, config: Mapping[str, Any]) -> None:
    """Errors: the next run would take `output` for a part of its source or target."""
    path = Path(output).absolute()
    for side in ("source", "target"):
        given = config.get(side)
        for item in [given] if isinstance(given, str) else given or []:
            place = Path(item).expanduser().absolute()
            if place == path or (place.is_dir() and path.is_relative_to(place)) or path.match(str(place)):
                raise InputError(f"output={output}: lies in {side}={item}, and would be read as a part of it; give another place")


def _is_read(name: str, phases: Mapping[str, Phase]) -> bool:
    """Whether a model trained in phase `name` is looked at later, or is what the run is for."""
    later = list(phases)[list(phases).index(name) + 1 :]
    return not later or any(phases[other].needs_checkpoint for other in later)


def _step(phase: Phase, state: State, world: World, store: Store) -> State:
    name = here.phase = world.name
    started, saved = time.monotonic(), store.saved

    def work(folder: Path) -> Mapping[str, Any]:
        cost = dict(phase.run(state, world, folder))
        return cost | {"seconds": round(time.monotonic() - started + store.saved - saved, 3)}  # as if nothing had been found

    folder, found = store.get(name, state.fingerprint, work)
    cost = read_record(folder) | {"reused": found}
    after = phase.read(replace(state, artifacts={**state.artifacts, name: folder}, cost={**state.cost, name: cost}), world, folder)
    gained = {key: value for key, value in after.metrics.items() if key not in state.metrics}
    told = "  ".join(f"{key} {value:.4g}" for key, value in gained.items())
    log.info("%-10s %s  %s", name, "reused" if found else f"{cost['seconds']:.1f} s", told)
    return after


def _say_corpus(corpus: corpora.Corpus, found: bool) -> None:
    kept = ", ".join(f"{name} {len(pool)}" for name, pool in corpus.pools().items() if len(pool))
    same = corpus.record["facts"].get("same_on_both_sides")
    lost = [f"{count} {reason} ({side})" for side, by in corpus.record["dropped"].items() for reason, count in by.items()]
    log.info(
        "%-10s %s  documents: %s; left out: %s",
        "corpus",
        "reused" if found else "read",
        kept,
        ", ".join(lost) or "none",
    )
    if same:
        log.warning("%d of the source's pairs have the same text on both sides; untranslated ones teach copying", same)


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if (folder / "tokenizer.json").is_file() and not (folder / "config.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)
