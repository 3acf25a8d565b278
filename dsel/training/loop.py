"""Lightning's loop, as it is used here: silent, and without files of its own."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from dsel.training.processes import Place

MakeTrainer = Callable[..., pl.Trainer]


def silent_trainer(make_trainer: MakeTrainer, place: Place, **options: Any) -> pl.Trainer:
    """A trainer in this place: curves and progress are ours, checkpoints are artifacts. Plugins that the config gives stay."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    given = getattr(make_trainer, "arguments", None) or getattr(make_trainer, "keywords", {})
    return make_trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[*(given.get("plugins") or []), place],
        **options,
    )


def run_loop(trainer: pl.Trainer, module: pl.LightningModule, loader: Any) -> None:
    """Errors: KeyboardInterrupt, of which Lightning makes an exit."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*training_step. returned .None.*")  # on purpose
        warnings.filterwarnings("ignore", message="FSDP.state_dict_type", category=FutureWarning)  # Lightning asks by it
        try:
            trainer.fit(module, loader)
        except SystemExit as end:
            if isinstance(end.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
