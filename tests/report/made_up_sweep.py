"""A made-up sweep on disk: arms x budgets x seeds, as `dsel.run` would leave it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ARMS = {"none": (4.95, 4.62), "random": (4.90, 4.60), "cds": (4.60, 4.50), "domain_classifier": (4.66, 4.44)}
BUDGETS, SEEDS = (0.03, 0.3), (0, 1, 2)
DOMAINS = ("numpy", "scipy", "torch", "sympy", "networkx", "html <b>")
NASTY = "<script>alert('x')</script> & </script> def f(x):\n    return x  " + "word " * 40


def write_sweep(folder: Path) -> Path:
    """Every cell of the sweep under `folder`."""
    for arm in ARMS:
        for budget in BUDGETS:
            for seed in SEEDS:
                write_cell(folder, arm, budget, seed)
    return folder


def losses(arm: str, budget: float, seed: int) -> dict[str, float]:
    """The numbers of a cell; larger budgets are better in the end."""
    rng = np.random.default_rng([seed, len(arm), int(100 * budget)])
    shift = 0.1 * seed + rng.normal(0, 0.01) - 0.05 * (budget > 0.1) * (arm not in ("none", "random"))
    before, after = ARMS[arm]
    found = {"target_loss_before_ft": before + shift, "target_loss_after_ft": after + shift}
    found |= {
        "pool_loss_before_ft": 5.4 + 0.3 * (5 - before) + shift,
        "pool_loss_after_ft": 5.6 + 0.3 * (5 - before) + shift,
    }
    if arm != "none":
        quality = {"random": 0.05, "cds": 0.7, "domain_classifier": 0.8}[arm] + rng.normal(0, 0.02)
        found |= {
            "selector_precision": quality,
            "selector_recall": quality * (0.4 + budget),
            "selector_auc": 0.5 + quality / 2.2,
        }
    return found


def write_cell(folder: Path, arm: str, budget: float, seed: int) -> None:
    """One `result.json` with its artifacts beside the sweep, by relative paths."""
    home = folder / f"arm={arm},budget.fraction={budget}" / f"seed={seed}"
    store = folder.parent / "artifacts"
    key = f"{arm}-{budget}-{seed}"
    metrics = losses(arm, budget, seed)
    paths = {phase: store / f"{phase}-{key}" for phase in ("continue", "finetune", "select")}
    for path in (home, *paths.values()):
        path.mkdir(parents=True)
    before, after = metrics["target_loss_before_ft"], metrics["target_loss_after_ft"]
    speed = 12 if budget < 0.1 else 5  # little data: fast, then stuck
    _curve(paths["continue"], 5.3 + 0.1 * seed, before, speed, 400, seed)
    _curve(paths["finetune"], before, after, 6, 100, seed)
    artifacts = {phase: f"../../../artifacts/{path.name}" for phase, path in paths.items() if arm != "none" or phase != "select"}
    if arm != "none":
        (paths["select"] / "composition.json").write_text(json.dumps(_composition(arm, budget, seed)))
    phases = {
        "pretrain": {"seconds": 40.0, "tokens": 1000000, "optimizer_steps": 400, "reused": arm != "none"},
        "score": {
            "seconds": 0.5 if arm == "random" else 20.0 + seed,
            "tokens": 0,
            "optimizer_steps": 0,
            "reused": budget > 0.1,
        },
        "continue": {"seconds": 30.0 + seed, "tokens": 400000, "optimizer_steps": 400, "reused": False},
        "finetune": {"seconds": 8.0, "tokens": 100000, "optimizer_steps": 100, "reused": False},
    }
    record = {
        "name": "selection_size", "label": arm, "seed": seed, "fingerprint": key,
        "overrides": {"arm": arm, "budget.fraction": budget, "seed": seed}, "metrics": metrics,
        "cost": {"seconds": 98.5 + seed, "tokens": 1500000, "optimizer_steps": 900, "scoring_passes": 2.0,
                 "flops": 1.2e13, "peak_memory_mb": 1900.0, "device": "cpu", "phases": phases},
        "report": {"question": "How much should one select?", "claim": "Little is fast, much lasts: the curves cross.",
                   "x": "budget.fraction", "by": "label"},
        "config": {"seed": seed, "budget": {"fraction": budget}, "scorer": {"_target_": f"dsel.scorer.{arm}"}},
        "versions": {"torch": "2.13.0"}, "git_commit": "0123abc", "artifacts": artifacts,
    }  # fmt: skip
    (home / "result.json").write_text(json.dumps(record))


def _curve(folder: Path, start: float, end: float, speed: float, steps: int, seed: int) -> None:
    step = np.arange(0, steps + 1, steps // 40)
    fall = 1 - np.exp(-speed * step / steps)
    target = start + (end - start) * fall / fall[-1] + 0.004 * np.random.default_rng(seed).normal(size=len(step)) * (step > 0)
    columns: dict[str, Any] = {"step": step, "tokens": step * 1000, "train_loss": target + 0.1, "target_loss": target}
    columns |= {"pool_loss": 5.3 + 0.1 * fall, "learning_rate": np.full(len(step), 1e-3)}
    pl.DataFrame(columns).write_parquet(folder / "curve.parquet")


def _composition(arm: str, budget: float, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, 7])
    shift = {"random": 0.0, "cds": 1.6, "domain_classifier": 2.2}[arm]
    edges = np.linspace(-4, 6, 31)
    pool, planted = rng.normal(0, 1, 4000), rng.normal(shift, 1, 300)
    chosen = np.sort(np.concatenate([pool, planted]))[-int(4300 * budget) :]
    counts = {
        name: np.histogram(values, edges)[0].tolist() for name, values in (("pool", pool), ("planted", planted), ("selected", chosen))
    }
    domains = [
        {
            "domain": name,
            "pool": 400 * (at + 1),
            "selected": int(400 * (at + 1) * budget * (1 + shift * (name == "scipy"))),
        }
        for at, name in enumerate(DOMAINS)
    ]
    document = {"id": "numpy/<i>x</i>", "domain": "numpy", "text": NASTY}
    ranked = [{"rank": at, "score": 3.0 - at, "selected": at < 3} | document for at in range(6)]
    return {"domains": domains, "highest": ranked[:3], "lowest": ranked[3:],
            "histogram": {"edges": edges.tolist()} | counts,
            "length": {"pool_mean_tokens": 120.0, "selected_mean_tokens": 120.0 + 10 * shift}}  # fmt: skip
