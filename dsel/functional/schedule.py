"""Learning-rate schedules as functions of the step, so that a run may be cut into phases anywhere."""

from __future__ import annotations

import math


def multiplier(step: int, schedule: str, warmup: int, total: int) -> float:
    """Factor on the peak learning rate at `step` (from 0) of `total`: linear warm-up, then `schedule`.

    `cosine` ends at a tenth of the peak, `linear` at 0, `constant` stays, `inverse_sqrt` falls as 1/sqrt(step).
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    if schedule == "cosine":
        return 0.1 + 0.45 * (1 + math.cos(math.pi * done))
    if schedule == "linear":
        return 1 - done
    if schedule == "inverse_sqrt":
        return math.sqrt(max(warmup, 1) / (step + 1))
    return 1.0


SCHEDULES = ("cosine", "linear", "constant", "inverse_sqrt")
