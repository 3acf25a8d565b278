"""Time and size of a large sweep's report: `python benchmarks/report.py [--cells 500] [--keep FOLDER]`.

A made-up sweep with configurations, curves, compositions and documents is written to a temporary folder, reported on without images, and
opened in the system's Chromium from disk. Floors: built in 20 s, opened in 2 s, 15 MB. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dsel.report.build import build

BUILD_SECONDS, OPEN_SECONDS, MEGABYTES = 20, 2, 15
ARMS = ["none", "random", *(f"method_{letter}" for letter in "abcdefgh")]
FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
SEEDS = range(5)
DOMAINS, BINS, STEPS = 24, 40, 400
FIRST_VIEWS = ("#result .mark", "#pareto .mark", "#table tbody tr")


@dataclass(frozen=True)
class Measured:
    """What a report of `cells` took: seconds to build, to open until its first views are drawn, and to filter; its megabytes."""

    cells: int
    build_seconds: float
    open_seconds: float
    filter_seconds: float
    megabytes: float

    @property
    def is_good(self) -> bool:
        """Whether every floor holds."""
        return self.build_seconds < BUILD_SECONDS and self.open_seconds < OPEN_SECONDS and self.megabytes < MEGABYTES


def write_sweep(home: Path, cells: int) -> Path:
    """The folder of a sweep of `cells`, with its artifacts beside it."""
    rng = np.random.default_rng(0)
    for at, (arm, fraction, seed) in enumerate(islice(product(ARMS, FRACTIONS, SEEDS), cells)):
        write_cell(home, at, arm, fraction, seed, rng)
    return home / "runs"


def write_cell(home: Path, at: int, arm: str, fraction: float, seed: int, rng: np.random.Generator) -> None:
    """A result and the artifacts that it names."""
    cell = home / "runs" / f"arm={arm},budget.fraction={fraction}" / f"seed={seed}"
    cell.mkdir(parents=True)
    gain = 0.06 * ARMS.index(arm) * (1 - fraction / 2)
    before, after = (start - gain + 0.05 * seed + rng.normal(0, 0.02) for start in (5.0, 4.7))
    artifacts = {}
    for phase, first, last in (("continue", 5.6, before), ("finetune", before, after)):
        artifacts[phase] = _folder(home, f"{phase}-{at}")
        _curve(first, last, rng).write_parquet(artifacts[phase] / "curve.parquet")
    artifacts["select"] = _folder(home, f"select-{at}")
    (artifacts["select"] / "composition.json").write_text(json.dumps(_composition(at, fraction, rng)))
    metrics = {"target_loss_before_ft": before, "target_loss_after_ft": after, "pool_loss_after_ft": 6 - after / 9}
    metrics |= {"selector_precision": rng.random(), "selector_recall": rng.random(), "selector_auc": rng.random()}
    record = {"name": "report_benchmark", "label": arm, "seed": seed, "fingerprint": f"{at:024x}", "metrics": metrics}
    record |= {"overrides": {"arm": arm, "budget.fraction": fraction, "seed": seed}, "config": _config(arm, fraction, seed)}
    record |= {"cost": _cost(fraction, rng), "report": {"x": "budget.fraction", "question": "How fast does a report open?"}}
    record["artifacts"] = {phase: f"../../../{path.relative_to(home)}" for phase, path in artifacts.items()}
    (cell / "result.json").write_text(json.dumps(record))


def _folder(home: Path, name: str) -> Path:
    path = home / "artifacts" / name
    path.mkdir(parents=True)
    return path


def _curve(first: float, last: float, rng: np.random.Generator) -> pl.DataFrame:
    step = np.arange(STEPS)
    loss = last + (first - last) * np.exp(-step / 80) + rng.normal(0, 0.01, STEPS)
    return pl.DataFrame({"step": step, "tokens": step * 2048, "train_loss": loss + 0.1, "target_loss": loss, "pool_loss": loss / 2 + 3})


def _composition(at: int, fraction: float, rng: np.random.Generator) -> dict[str, Any]:
    pool = rng.integers(50, 4000, DOMAINS)
    domains = [{"domain": f"domain_{n}", "pool": int(size), "selected": int(size * fraction * rng.random())} for n, size in enumerate(pool)]
    counts = {kind: rng.integers(0, 500, BINS).tolist() for kind in ("pool", "planted", "selected")}
    ranked = [_document(at, rank, rng) for rank in range(24)]
    length = {"pool_mean_tokens": 140.0, "selected_mean_tokens": 100 + 80 * rng.random()}
    histogram = {"edges": np.linspace(-3, 3, BINS + 1).tolist()} | counts
    return {"domains": domains, "length": length, "highest": ranked[:12], "lowest": ranked[12:], "histogram": histogram}


def _document(at: int, rank: int, rng: np.random.Generator) -> dict[str, Any]:
    text = " ".join(rng.choice(["data", "model", "token", "loss", "<b>", "select", "\n"], 100))
    known = {"rank": rank, "score": float(rng.normal()), "selected": rank < 12, "planted": rank < 3}
    return known | {"id": f"document.{at}.{rank}", "domain": f"domain_{rank % DOMAINS}", "text": text}


def _config(arm: str, fraction: float, seed: int) -> dict[str, Any]:
    """About as many keys as a real one: most are common, some hang on the arm."""
    common = {f"phase_{p}": {f"key_{k}": {"value": k, "name": f"some.module.Name{k}"} for k in range(20)} for p in range(6)}
    own = {f"option_{n}": f"{arm}_{n}" for n in range(20)}
    return common | {"scorer": own, "budget": {"fraction": fraction}, "seed": seed}


def _cost(fraction: float, rng: np.random.Generator) -> dict[str, Any]:
    names = ("pretrain", "score", "select", "continue", "before", "finetune", "after")
    phases = {
        name: {
            "seconds": 60 * rng.random(),
            "flops": 1e12 * fraction * (1 + rng.random()),
            "tokens": 100_000,
            "reused": bool(rng.random() < 0.3),
        }
        for name in names
    }
    sums = {unit: sum(phase[unit] for phase in phases.values()) for unit in ("seconds", "flops", "tokens")}
    return sums | {"optimizer_steps": 800, "phases": phases}


def measure(page: Path, cells: int, built: float) -> Measured:
    """Open the page in Chromium: until the views on the first screen are drawn, and until they are drawn anew for a filter."""
    from playwright.sync_api import sync_playwright

    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        sys.exit("report benchmark: no chromium; install it (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 1000})
        start = time.perf_counter()
        tab.goto(page.as_uri())
        for view in FIRST_VIEWS:
            tab.wait_for_selector(view)
        opened = time.perf_counter() - start
        start = time.perf_counter()
        tab.fill("#filter", "arm=method_c seed=1,2")
        tab.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        filtered = time.perf_counter() - start
        browser.close()
    return Measured(cells, round(built, 2), round(opened, 2), round(filtered, 2), round(page.stat().st_size / 1e6, 2))


def main() -> int:
    """Measure, print, and fail where a floor does not hold."""
    parser = argparse.ArgumentParser(description="Time and size of a large sweep's report.")
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="only see that it runs: 40 cells")
    parser.add_argument("--keep", type=Path, help="write the sweep here, and leave it")
    options = parser.parse_args()
    home = options.keep or Path(tempfile.mkdtemp())
    try:
        cells = 40 if options.quick else options.cells
        folder = write_sweep(home, cells)
        start = time.perf_counter()
        page = build(folder, formats=(), quiet=True)
        found = measure(page, cells, time.perf_counter() - start)
    finally:
        if not options.keep:
            shutil.rmtree(home)
    print(
        f"{found.cells} cells: built in {found.build_seconds} s (floor {BUILD_SECONDS}), {found.megabytes} MB (floor {MEGABYTES}), ", end=""
    )
    print(f"opened in {found.open_seconds} s (floor {OPEN_SECONDS}), filtered in {found.filter_seconds} s")
    print(json.dumps(asdict(found) | {"good": found.is_good}))
    return 0 if found.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
