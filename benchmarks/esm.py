"""Ranking sources by embedding space maps: `python benchmarks/esm.py [--quick] [--package FOLDER]`. The last line is JSON.

Maps of random numbers lie in files, a folder each; reading them counts. `--package` is a folder in which hf-dataset-selector 0.2.1 lies
unpacked (as it pins numpy 2.0.0, it cannot be installed here); else an installed `hfselect` stands beside, if there is one. It scores the
same maps by its `compute_scores`, in which a table of the base model's embeddings is the base model, with all cores. As its time grows in
proportion to the number of maps, it is given a few of them only, in turns with some by ours and with the floor.

Floor of a source: the float32 product (rows x dim x dim) and one tridiagonal form of a Gram matrix (dim x dim), as many at a time as there
are cores. LogME over tuned models loads a model of the size of bert-base-multilingual-uncased and embeds the rows for each source; some
rows are embedded, and the time of all extrapolated. Neither tokens nor maps mean anything: times and sizes do not hang on them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from esm_ranking import make_target
from overhead import seconds
from table import Row, print_json, show
from threadpoolctl import threadpool_limits

from dsel.functional.cores import num_cores
from dsel.functional.lapack import tridiagonalise
from dsel.functional.logme import logme
from dsel.functional.map_file import WEIGHTS, save
from dsel.functional.space_map import SpaceMap, fit_ridge, fit_sgd

PENALTIES = [10.0**power for power in range(-4, 4)]
FLOORS = 24  # sources of which the floor is measured


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    maps: int = 1500
    some: int = 100  # maps that we score in a round
    few: int = 10  # and that the package does
    rounds: int = 3
    rows: int = 1000
    dim: int = 768
    classes: int = 2
    tokens: int = 64
    embedded: int = 128  # rows, by a tuned model
    vocabulary: int = 105_879
    layers: int = 12
    source_rows: int = 10_000


QUICK = Size(maps=8, some=4, few=2, rounds=1, rows=100, dim=24, tokens=4, embedded=8, vocabulary=50, layers=1, source_rows=200)


def write_maps(size: Size, folder: Path) -> None:
    """As many folders as there are maps."""
    rng = np.random.default_rng(1)
    for number in range(size.maps):
        weight = rng.standard_normal((size.dim, size.dim), np.float32) / size.dim**0.5
        space_map = SpaceMap((weight,), rng.standard_normal(size.dim, np.float32))
        save(folder / f"{number:05}", space_map, {"base_model_name": "random", "task_id": str(number)})


def apart(way: str, size: Size, num_maps: int, folder: Path, package: Path | None) -> dict[str, Any]:
    """What `esm_ranking` prints, in a process of its own."""
    paths = [*([str(package.resolve())] if package else []), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    sizes = map(str, (num_maps, size.rows, size.dim, size.classes))
    command = [sys.executable, str(Path(__file__).resolve().with_name("esm_ranking.py")), way, str(folder), *sizes]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment, cwd=folder.parent)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_floor(size: Size) -> float:
    """Seconds a source."""
    base, _ = make_target(size.rows, size.dim, size.classes)
    weights = [np.random.default_rng(number).standard_normal((size.dim, size.dim), np.float32) for number in range(FLOORS)]
    grams = [np.asfortranarray(weight.T @ weight, np.float64) for weight in weights]

    def one(number: int) -> None:
        base @ weights[number].T
        tridiagonalise(grams[number], np.empty((size.dim, 0), order="F"))

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(num_cores()) as threads:
        return seconds(lambda: list(threads.map(one, range(FLOORS)))) / FLOORS


def measure_in_turns(size: Size, folder: Path, package: Path | None, beside: bool) -> dict[str, list[dict[str, Any]]]:
    """Of each what `esm_ranking` prints in each round; of the floor the seconds of a source."""
    turns: dict[str, list[dict[str, Any]]] = {"ours": [], "package": [], "floor": []}
    for _ in range(size.rounds):
        turns["floor"].append({"each": measure_floor(size)})
        for way, num_maps in {"ours": size.some, **({"package": size.few} if beside else {})}.items():
            found = apart(way, size, num_maps, folder, package)
            turns[way].append({**found, "each": found["seconds"] / num_maps})
    return turns


def measure_ranking(size: Size, package: Path | None, beside: bool) -> Iterator[Row]:
    """All maps once; some beside the floor and the package, in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "maps"
        write_maps(size, folder)
        turns = measure_in_turns(size, folder, package, beside)
        found = apart("ours", size, size.maps, folder, None)
    yield Row("ranking_s", f"ranking {size.maps:,} maps", f"{found['seconds']:.1f} s", "", found["seconds"])
    yield Row("memory_mb", "its peak memory", f"{found['peak']:,.0f} MB", "", found["peak"], "< 1000")
    each = {way: statistics.median(turn["each"] for turn in of) for way, of in turns.items() if of}
    told = f"{1000 * each['ours']:.1f} ms a map, of {size.some}"
    floor = f"{1000 * each['floor']:.1f} ms a map (product and tridiagonal form)"
    yield Row("ranking_vs_floor", "ranking", told, floor, each["ours"] / each["floor"])
    if not beside:
        return
    theirs, scores = turns["package"][0], turns["package"][0]["scores"]
    all_of_them = (
        f"{1000 * each['package']:.0f} ms a map, of {size.few} (hf-dataset-selector); {size.maps * each['package']:,.0f} s for all"
    )
    yield Row("ranking_vs_package", "ranking", told, all_of_them, each["package"] / each["ours"], ">= 10")
    yield Row("package_memory_mb", "its peak memory", "", f"{theirs['peak']:,.0f} MB, {size.few} maps", theirs["peak"])
    difference = max(abs(one - other) for one, other in zip(found["scores"], scores, strict=False))
    yield Row("largest_difference", "largest difference of scores", "", f"scores of {min(scores):.4f} to {max(scores):.4f}", difference)


def measure_models(size: Size, ranking: float) -> Iterator[Row]:
    """Seconds and bytes a source of LogME over tuned models, over ours with `ranking` seconds a map."""
    import transformers

    base, labels = make_target(size.rows, size.dim, size.classes)
    tokens = torch.randint(size.vocabulary, (size.embedded, size.tokens), generator=torch.Generator().manual_seed(0))
    config = transformers.BertConfig(
        vocab_size=size.vocabulary, hidden_size=size.dim, num_hidden_layers=size.layers, intermediate_size=4 * size.dim
    )

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        transformers.BertModel(config).save_pretrained(folder)
        model = None

        def read() -> None:
            nonlocal model
            model = transformers.BertModel.from_pretrained(folder).eval()

        read_s = min(seconds(read) for _ in range(2))
        embed_s = seconds(lambda: [model(input_ids=batch).pooler_output for batch in tokens.split(32)]) * size.rows / size.embedded
        model_bytes = Path(folder, "model.safetensors").stat().st_size
        save(Path(folder, "map"), SpaceMap((np.eye(size.dim, dtype=np.float32),), np.zeros(size.dim, np.float32)), dict.fromkeys(
            ("base_model_name", "task_id"), "random"))  # fmt: skip
        map_bytes = Path(folder, "map", WEIGHTS).stat().st_size
    logme_s = min(seconds(lambda: logme(base, labels, regression=False)) for _ in range(2))
    theirs, ours = read_s + embed_s + logme_s, embed_s / size.maps + ranking
    parts = f"read {read_s:.2f}, embed {embed_s:.1f} (from {size.embedded} rows), LogME {logme_s:.2f}"
    told = f"{1000 * ours:.1f} ms a source, of which {1000 * embed_s / size.maps:.1f} embed the target once for {size.maps:,}"
    yield Row("time_vs_logme", "a source", told, f"LogME on tuned models {theirs:.1f} s: {parts}", theirs / ours, "paper: 10")
    disk = f"{map_bytes / 1e6:.2f} MB", f"{model_bytes / 1e6:,.0f} MB (tuned model)"
    yield Row("disk_vs_logme", "a source's file", *disk, model_bytes / map_bytes, "paper: 278")


def measure_fits(size: Size) -> Iterator[Row]:
    """Seconds and held-out error of a map in closed form and by SGD; both fit twice, as for the error rows are held out."""
    rng = np.random.default_rng(2)
    base, _ = make_target(size.source_rows, size.dim, size.classes)
    bent = np.tanh(base @ rng.normal(size=(size.dim, size.dim)) / size.dim**0.5)
    tuned = (base + bent + 0.1 * rng.normal(size=base.shape)).astype(np.float32)
    fits = {"ridge": lambda: fit_ridge(base, tuned, PENALTIES), "sgd": lambda: fit_sgd(base, tuned, held_out_share=0.1)}
    spent, errors = {}, {}
    for name, fit in fits.items():
        found: list[SpaceMap] = []
        spent[name] = seconds(lambda fit=fit, found=found: found.append(fit()))  # type: ignore[misc]
        errors[name] = found[0].held_out_error
    title = f"map of {size.source_rows:,} rows"
    ours, theirs = (f"{name} {spent[name]:.2f} s, error {errors[name]:.5f}" for name in fits)
    yield Row("ridge_vs_sgd", f"{title}: seconds", ours, theirs, spent["sgd"] / spent["ridge"])
    yield Row("ridge_error_vs_sgd", f"{title}: held-out error", ours, theirs, errors["ridge"] / errors["sgd"], "<= 1")
    for name in fits:
        yield Row(f"{name}_s", f"{name}, seconds", f"{spent[name]:.2f}", "", spent[name])
        yield Row(f"{name}_error", f"{name}, held-out error", f"{errors[name]:.5f}", "", errors[name])


def main() -> None:
    """Measure, print the table, and last a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; shows that it works, not how fast")
    parser.add_argument("--package", type=Path, metavar="FOLDER", help="hf-dataset-selector 0.2.1, unpacked there")
    parser.add_argument("--maps", type=int, help="how many sources")
    parser.add_argument("--classes", type=int, help="how many classes the target has")
    given = parser.parse_args()
    size = QUICK if given.quick else Size()
    size = replace(size, **{name: value for name in ("maps", "classes") if (value := getattr(given, name))})
    beside = bool(given.package) or find_spec("hfselect") is not None
    size = replace(size, some=min(size.maps, size.some), few=min(size.maps, size.few))
    rows = list(measure_ranking(size, given.package, beside))
    rows += [*measure_models(size, rows[0].value / size.maps), *measure_fits(size)]
    show(rows, f"{size.rows:,} rows, {size.dim} dimensions, {size.classes} classes, {num_cores()} cores")
    if not beside:
        print("hf-dataset-selector was not measured: give the folder in which it lies unpacked, --package FOLDER")
    print_json(rows)


if __name__ == "__main__":
    main()
