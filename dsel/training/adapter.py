"""Low-rank adapters (LoRA, arXiv 2106.09685), by peft: train few weights beside a model's own, then add them to those."""

from __future__ import annotations

import difflib
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from dsel.error import InputError

OWN = ("task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode")  # peft's records


def check_options(options: Mapping[str, Any], key: str = "lora") -> Any:
    """peft's `LoraConfig` of the options. Errors, of which `key` is the beginning: peft is not installed, it does not know an option, or
    a value."""
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise InputError(f"{key}: needs peft, which is not installed; pip install 'dsel[lora]', or set it to null") from error
    known = [option.name for option in fields(LoraConfig) if option.name not in OWN]
    for name, value in options.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "its options are r, lora_alpha, lora_dropout, target_modules ..."
            raise InputError(f"{key}.{name}={value}: peft.LoraConfig has no such option; {hint}")
    try:
        return LoraConfig(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"{key}={dict(options)}: {_one_line(error)}") from error


def adapted(model: torch.nn.Module, options: Mapping[str, Any], key: str = "lora") -> torch.nn.Module:
    """The model, changed in place, with adapters, which alone are trained; drawn from torch's generator. Errors, of which `key` is the
    beginning: those of `check_options`, a module that is not there or cannot be adapted."""
    config = check_options(options, key)
    from peft import get_peft_model

    there = _modules_there(model)
    _check_targets(model, options.get("target_modules"), key)
    holders = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")  # peft sets it right by itself
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)  # peft's own matter
            warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")  # an error below
            found: torch.nn.Module = get_peft_model(model, config)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{key}={dict(options)}: {_one_line(error)}; {there}") from error
    for name, module in found.named_modules():
        original = getattr(module, "base_layer", getattr(module, "original_module", None))
        if isinstance(original, torch.nn.Module) and any(holders[id(p)] > 1 for p in original.parameters()):
            raise InputError(
                f"{key}: {name.rpartition('.')[2]} shares its weights with another module, which would change too; leave it out"
            )
    if not any(p.requires_grad for p in found.parameters()):
        raise InputError(f"{key}={dict(options)}: nothing is left to train; set target_modules; {there}")
    return found


def merged(model: torch.nn.Module) -> torch.nn.Module:
    """A plain model again, whose weights are the sum of its own and the adapters'."""
    plain: torch.nn.Module = model.merge_and_unload()  # type: ignore[operator]
    return plain


def _check_targets(model: torch.nn.Module, targets: Any, key: str) -> None:
    """Errors: one of several names is that of no module; peft is content if one of them is."""
    names = [name for name, _ in model.named_modules()]
    for target in targets if isinstance(targets, list | tuple) else ():
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise InputError(f"{key}.target_modules={list(targets)}: there is no module {target!r}; {_modules_there(model)}")


def _modules_there(model: torch.nn.Module) -> str:
    from transformers.pytorch_utils import Conv1D

    names = [name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]
    return f"modules there are {', '.join(dict.fromkeys(names))}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
