"""A search over options by Optuna: trials are cells, the study is a file in the sweep's folder, hopeless ones are ended early."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from dsel.artifact import write_atomic
from dsel.error import InputError
from dsel.outcome import FAILED, RESULT, read_outcome
from dsel.sweep.study import open_study
from hydra_plugins.dsel.grid import Grid

log = logging.getLogger("dsel")


class Search(Grid):
    """`num_trials` cells, `at_once` of them in a batch, which the launcher may run side by side. `params` (and the command line) give
    what to search: interval(0.1, 1), tag(log, interval(1e-4, 1e-2)), int(interval(1, 8)), range(1, 9, 2), or values a,b,c. `sampler` is
    tpe or random; `pruner` none, median or halving: by the target's validation loss in the train phase `prune_phase`. The metric is
    `objective`; launched again, a search goes on to `num_trials`."""

    def __init__(
        self,
        num_trials: int = 20,
        at_once: int = 1,
        direction: str = "minimize",
        sampler: str = "tpe",
        pruner: str = "none",
        prune_phase: str = "continue",
        seed: int = 0,
        params: dict[str, str] | None = None,
    ) -> None:
        super().__init__(None, params)
        self.num_trials, self.at_once, self.direction = num_trials, at_once, direction
        self.sampler, self.pruner, self.prune_phase, self.seed = sampler, pruner, prune_phase, seed

    def sweep(self, arguments: list[str]) -> Any:
        """Run trials until there are enough; writes best.json into the sweep's folder. Returns nothing that Hydra would need."""
        fixed, distributions = self._spaces(arguments)
        self._folder.mkdir(parents=True, exist_ok=True)
        study = open_study(self._folder, self.pruner, self.sampler, self.direction, self.seed)
        while (left := self.num_trials - sum(trial.state.is_finished() for trial in study.trials)) > 0:
            trials = [study.ask(distributions) for _ in range(min(left, self.at_once))]
            jobs = [[*fixed, *_overrides(trial.params), f"trial={trial.number}"] for trial in trials]
            names = [self._name(job) for job in jobs]
            self._run(dict(zip(names, jobs, strict=True)))
            for trial, name in zip(trials, names, strict=True):
                self._tell(study, trial, name)
        self._write_best(study)
        return None

    def _spaces(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        """What is given, and what is to be searched. Errors: nothing is."""
        fixed, found = [], {}
        overrides = {}
        for text in [*(f"{key}={value}" for key, value in self.params.items()), *arguments]:
            parsed = self._parsed(text)
            overrides[parsed.get_key_element()] = parsed
        for key, parsed in overrides.items():
            if parsed.is_sweep_override():
                found[key] = _distribution(parsed)
            else:
                fixed.append(f"{key}={parsed.get_value_element_as_str()}")
        if not found:
            raise InputError("hydra/sweeper=optuna: nothing to search; give a key several values, e.g. 'scorer.num_steps=range(50,400,50)'")
        return fixed, found

    def _tell(self, study: Any, trial: Any, name: str) -> None:
        """What became of the trial, from what its cell left."""
        from optuna.trial import TrialState

        result, failed = read_outcome(self._folder / name / RESULT), read_outcome(self._folder / name / FAILED)
        objective = str(self._config.objective)
        if failed is not None:
            study.tell(trial, state=TrialState.PRUNED if failed.get("pruned") else TrialState.FAIL)
        elif result is not None and isinstance(result["metrics"].get(objective), int | float):
            study.tell(trial, result["metrics"][objective])
            log.info("trial %d: %s %.5g; best so far %.5g", trial.number, objective, result["metrics"][objective], study.best_value)
        elif result is not None:
            study.tell(trial, state=TrialState.FAIL)
            raise InputError(f"objective={objective}: the cell {name} has no such metric; it has {', '.join(result['metrics'])}")
        else:
            study.tell(trial, state=TrialState.FAIL)

    def _write_best(self, study: Any) -> None:
        done = [trial for trial in study.trials if trial.value is not None]
        if not done:
            log.warning("no trial ended with a value; `python -m dsel.sweep status %s` says why", self._folder)
            return
        best = study.best_trial
        record = {
            "trial": best.number,
            str(self._config.objective): best.value,
            "overrides": _overrides(best.params),
            "trials": len(study.trials),
        }
        write_atomic(self._folder / "best.json", json.dumps(record, indent=1))
        log.info("best of %d trials: %s %.5g with %s", len(study.trials), self._config.objective, best.value, " ".join(record["overrides"]))


def _overrides(params: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in params.items()]


def _distribution(override: Override) -> Any:
    """The values of an override, as Optuna samples them."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        low, high, log_scale = sweep.start, sweep.end, "log" in (sweep.tags or ())
        assert low is not None
        assert high is not None
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log_scale)
        return FloatDistribution(float(low), float(high), log=log_scale)
    if isinstance(sweep, RangeSweep):
        return CategoricalDistribution(list(sweep.range()))
    assert isinstance(sweep, ChoiceSweep)
    return CategoricalDistribution(list(override.sweep_string_iterator()))
