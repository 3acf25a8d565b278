"""Checkpoints without pickles: weights and optimizer state as safetensors, the rest as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from dsel.functional.gradients import unfreeze

WEIGHTS, OPTIMIZER, TRAINING = "model", "optimizer.safetensors", "training.json"


def save_model(model: torch.nn.Module, folder: Path) -> None:
    """Write weights and config as transformers does, into `folder/model`."""
    _silence()
    model.save_pretrained(folder / WEIGHTS)  # type: ignore[operator]


def load_model(folder: Path) -> torch.nn.Module:
    """The model in `folder/model`, in evaluation mode: of the class that was saved, where transformers has it."""
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    _silence()
    config = AutoConfig.from_pretrained(folder / WEIGHTS)
    other = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    kind = getattr(transformers, (config.architectures or [""])[0], other)
    model: torch.nn.Module = kind.from_pretrained(folder / WEIGHTS, dtype=torch.float32)
    return unfreeze(model).eval()


def _silence() -> None:
    """No bars for files that take milliseconds."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def save_training(folder: Path, step: int, optimizer: Mapping[str, Any], names: Sequence[str] = ()) -> None:
    """Write what `start=resume` needs: the step, the optimizer's state, and the names of the parameters that it is of."""
    tensors, scalars = {}, {}
    for number, state in optimizer["state"].items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{number}/{key}"] = value.detach().cpu().contiguous()
            else:
                scalars[f"{number}/{key}"] = value
    save_file(tensors, folder / OPTIMIZER)
    record = {"step": step, "param_groups": optimizer["param_groups"], "scalars": scalars, "names": list(names)}
    (folder / TRAINING).write_text(json.dumps(record, indent=1), encoding="utf-8")


def load_training(folder: Path) -> tuple[int, dict[str, Any]]:
    """Step and optimizer state, as `save_training` was given them."""
    record = json.loads((folder / TRAINING).read_text(encoding="utf-8"))
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*load_file(folder / OPTIMIZER).items(), *record["scalars"].items()]:
        number, key = name.split("/", 1)
        state.setdefault(int(number), {})[key] = value
    return record["step"], {"state": state, "param_groups": record["param_groups"]}


def load_names(folder: Path) -> list[str]:
    """The parameters that the optimizer's state is of, in its order."""
    names: list[str] = json.loads((folder / TRAINING).read_text(encoding="utf-8"))["names"]
    return names
