"""The one place where config becomes objects, behind an allow-list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dsel.error import InputError

ALLOWED = ("dsel.", "torch.optim.", "pytorch_lightning.", "transformers.")


def check_targets(config: Any, allowed: Iterable[str], key: str = "") -> None:
    """Errors: a `_target_` anywhere in `config` that no prefix in `allowed` covers."""
    if isinstance(config, Mapping):
        target = config.get("_target_")
        if target is not None and not str(target).startswith(tuple(allowed)):
            raise InputError(
                f"{key + '.' if key else ''}_target_={target}: not allowed; it must begin with one of {', '.join(allowed)}; "
                "to trust your own package, add its prefix to the list `allow`"
            )
        for name, value in config.items():
            check_targets(value, allowed, f"{key}.{name}" if key else str(name))
    elif isinstance(config, list | tuple):
        for number, value in enumerate(config):
            check_targets(value, allowed, f"{key}[{number}]")


def build(config: Any, allow: Iterable[str] = ()) -> Any:
    """Instantiate `config` and all that it contains. `allow`: the user's own prefixes."""
    from hydra.utils import instantiate

    check_targets(config, (*ALLOWED, *allow))
    return instantiate(config, _convert_="all")
