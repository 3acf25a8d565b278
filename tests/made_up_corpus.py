"""What the core tests share: a made-up corpus from a template grammar, and runs on a scale of seconds."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from dsel import cli
from dsel.artifact import Store
from dsel.pipeline import Run
from dsel.pool import Pool, fingerprint_table
from dsel.state import State

WORDS = {
    "kitchen": (["cook", "baker", "waiter"], ["stirs", "salts", "bakes"], ["soup", "dough", "onion", "pepper"]),
    "harbour": (["sailor", "pilot", "diver"], ["moors", "paints", "tows"], ["barge", "anchor", "buoy", "ferry"]),
    "orchard": (["gardener", "picker", "beekeeper"], ["prunes", "waters", "shakes"], ["apple", "plum", "hive", "ladder"]),
    "stars": (["astronomer", "observer", "student"], ["measures", "charts", "dims"], ["comet", "nebula", "lens", "orbit"]),
}
POOL_DOMAINS, TARGET_DOMAIN = ("kitchen", "harbour", "orchard"), "stars"
ADVERBS, TIMES = ["slowly", "twice", "gladly", "again"], ["at dawn", "before noon", "late at night", "in winter"]


def sentence(domain: str, rng: random.Random) -> str:
    """One sentence of the grammar."""
    who, does, what = (rng.choice(words) for words in WORDS[domain])
    return f"The {who} {rng.choice(ADVERBS)} {does} the {what} number {rng.randrange(100)} {rng.choice(TIMES)}."


def documents(domain: str, count: int, seed: int = 0) -> list[dict[str, str]]:
    """`count` documents of one to four sentences, some rows with an id of the form `<domain>-<number>`."""
    rng = random.Random(f"{domain} {seed}")
    texts = [" ".join(sentence(domain, rng) for _ in range(rng.randint(1, 4))) for _ in range(count)]
    return [{"id": f"{domain}-{number}", "domain": domain, "text": text} for number, text in enumerate(texts)]


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """The rows, a line each."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_files(folder: Path, per_domain: int = 70, num_target: int = 120) -> tuple[Path, Path]:
    """`source.jsonl` and `target.jsonl`."""
    pool = [row for domain in POOL_DOMAINS for row in documents(domain, per_domain)]
    random.Random(0).shuffle(pool)
    return write_jsonl(folder / "source.jsonl", pool), write_jsonl(folder / "target.jsonl", documents(TARGET_DOMAIN, num_target))


TINY = [
    "model.num_layers=1", "model.dim=32", "model.num_heads=2", "model.context=32", "model.vocab_size=300",
    "steps.total=20", "steps.finetune=4", "trainer=debug", "data=files",
]  # fmt: skip
SMALL_PHASE = {"batch_size": 4, "every": 5, "eval_tokens": 512, "warmup": 2, "max_tokens": 2000}
SMALL_SCORER = {
    "num_steps": 20,
    "learning_rate": 3e-3,
    "every": 10,
    "sample": 150,
    "num_buckets": 4,
    "blocks_per_bucket": 4,
    "max_length": 48,
    "batch_size": 8,
}


def resolve(overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved config of `dsel` with these overrides."""
    cli.register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = compose("config", overrides=list(overrides), return_hydra_config=True)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    try:
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    finally:
        HydraConfig.instance().cfg = before
        GlobalHydra.instance().clear()
    return resolved


def tiny_config(source: Path, target: Path, outputs: Path, *overrides: str, experiment: str | None = "demo") -> dict[str, Any]:
    """The resolved config that `dsel experiment=... overrides` would run, made small."""
    chosen = [] if experiment is None else [f"experiment={experiment}"]
    files = [f"source={source}", f"target={target}", f"paths.outputs={outputs}"]
    resolved = resolve([*chosen, *TINY, *files, *overrides])
    given = {override.split("=")[0].lstrip("+") for override in overrides}
    if "scorer.num_steps" not in given:
        _shrink(resolved["scorer"], SMALL_SCORER)
    for name, phase in resolved["phases"].items():
        _shrink(phase, {key: value for key, value in SMALL_PHASE.items() if f"phases.{name}.{key}" not in given})
        if "scorer" in phase:
            phase["scorer"] = resolved["scorer"]
    if resolved["split"]["planted"]:
        resolved["split"]["planted"] = 20
    return resolved


def _shrink(node: Any, sizes: Mapping[str, float]) -> None:
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key in sizes and isinstance(value, int | float):
            node[key] = sizes[key]
        elif key not in ("optimizer", "trainer"):
            _shrink(value, sizes)


def run_tiny(config: dict[str, Any]) -> tuple[Run, State]:
    """Run a cell in this process."""
    run = Run(config)
    return run, run.fold(Store(Path(config["paths"]["artifacts"])))


def artifact_names(config: dict[str, Any]) -> list[str]:
    """Finished artifacts, by name of the phase."""
    return sorted(path.parent.name.rpartition("-")[0] for path in Path(config["paths"]["artifacts"]).glob("*/done.json"))


def make_pool(rows: Sequence[dict[str, Any]], name: str = "source") -> Pool:
    """A pool in memory, with the columns that a run's has."""
    filled = [{"dsel_row": number, "dsel_planted": False, "id": str(number), **row} for number, row in enumerate(rows)]
    table = pa.Table.from_pylist(filled)
    return Pool(name, table, fingerprint_table(table))


def permuted(pool: Pool, seed: int = 5) -> tuple[Pool, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The pool in another order, and that order."""
    order = np.random.default_rng(seed).permutation(len(pool))
    table = pool.table.take(pa.array(order)).combine_chunks()
    return Pool(pool.name, table, fingerprint_table(table)), order


@dataclass(frozen=True)
class RandomState:
    """Global random state of Python, numpy and torch."""

    python: Any
    numpy: bytes
    torch: bytes

    @staticmethod
    def now() -> RandomState:
        """As it is."""
        legacy = np.random.get_state()  # noqa: NPY002  # the global generator is what must not change
        return RandomState(random.getstate(), legacy[1].tobytes() + bytes([legacy[2] % 256]), torch.get_rng_state().numpy().tobytes())  # type: ignore[index,union-attr,call-overload,operator]
