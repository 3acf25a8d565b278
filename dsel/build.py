"""The one place where config becomes objects, behind an allow-list."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dsel.error import InputError

RELEASED = ("torch.optim.", "pytorch_lightning.", "transformers.")  # slow to import: not before they are used
ALLOWED = ("dsel.", *RELEASED)
HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
MISSING = "???"
PLAIN = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", NoneType: "null"}


def check_targets(config: Any, allowed: Iterable[str], key: str = "") -> None:
    """Errors: a `_target_` anywhere in `config` that no prefix in `allowed` covers."""
    if isinstance(config, Mapping):
        target = config.get("_target_")
        if target is not None and not str(target).startswith(tuple(allowed)):
            raise InputError(
                f"{_join(key, '_target_')}={target}: not allowed; it must begin with one of {', '.join(allowed)}; "
                "to trust your own package, add its prefix to the list `allow`"
            )
    for name, value in _items(config):
        check_targets(value, allowed, _join(key, name))


def check_arguments(config: Any, released: bool = False, key: str = "") -> None:
    """Errors: anywhere in `config`, a key that its constructor does not take, one that is required and not given, or, for
    dataclasses, a value of the wrong type. Imports the constructors; check the targets first."""
    if isinstance(config, Mapping) and "_target_" in config and released == config["_target_"].startswith(RELEASED):
        _check_call(_find(config["_target_"], key), config, key)
    for name, value in _items(config):
        check_arguments(value, released, _join(key, name))


def check(config: Any, allow: Iterable[str] = (), released: bool = False) -> None:
    """Errors that can be known before anything is built, in the whole of a run's config. `allow`: the user's own prefixes.

    `released`: look at what comes from torch, Lightning and transformers (a run that trains nothing needs none), or at the rest.
    """
    check_targets(config, (*ALLOWED, *allow))
    try:
        check_arguments(config, released)
    except WrongArgumentError as error:
        raise InputError(f"{_shortest(error.key, config)}{error}") from error


class WrongArgumentError(ValueError):
    """An argument that a constructor does not take, at `key` of the config."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def build(config: Any, allow: Iterable[str] = ()) -> Any:
    """Instantiate `config` and all that it contains. `allow`: the user's own prefixes."""
    from hydra.utils import instantiate

    check_targets(config, (*ALLOWED, *allow))
    return instantiate(_postpone(config), _convert_="all")


@dataclass(frozen=True)
class Later:
    """A call of `target` whose module is not imported before it is made."""

    target: str
    arguments: Mapping[str, Any]

    def __call__(self, *values: Any, **more: Any) -> Any:
        """What `target` gives; `more` stands above the arguments of the config."""
        from hydra.utils import get_object

        return get_object(self.target)(*values, **{**self.arguments, **more})


def _postpone(config: Any) -> Any:
    """The config with `Later` in the place of every `_partial_` of a released package."""
    if isinstance(config, Mapping):
        inside = {name: _postpone(value) for name, value in config.items()}
        if config.get("_partial_") and str(config.get("_target_")).startswith(RELEASED):
            arguments = {name: value for name, value in inside.items() if name not in HYDRA_KEYS}
            return {"_target_": f"{__name__}.Later", "target": config["_target_"], "arguments": arguments}
        return inside
    return [_postpone(value) for value in config] if isinstance(config, list | tuple) else config


def _items(config: Any) -> list[tuple[Any, Any]]:
    if isinstance(config, Mapping):
        return list(config.items())
    return list(enumerate(config)) if isinstance(config, list | tuple) else []


def _join(key: str, name: Any) -> str:
    if isinstance(name, int):
        return f"{key}[{name}]"
    return f"{key}.{name}" if key else str(name)


def _shortest(key: str, config: Mapping[str, Any]) -> str:
    """What the user would type: phases take `scorer.num_steps` and `output` from the top of the config."""
    parts = key.split(".")
    for start in range(len(parts) - 1, 0, -1):
        *way, name = parts[start:]
        node: Any = config
        for part in way:
            node = node.get(part) if isinstance(node, Mapping) else None
        if isinstance(node, Mapping) and name in node:
            return ".".join(parts[start:])
    return key


def _find(target: str, key: str) -> Any:
    from hydra.utils import get_object

    try:
        return get_object(target)
    except (ImportError, ValueError) as error:
        raise WrongArgumentError(_join(key, "_target_"), f"={target}: cannot be imported ({' '.join(str(error).split())})") from error


def _check_call(function: Any, config: Mapping[str, Any], key: str) -> None:
    parameters = inspect.signature(function).parameters
    given = {name: value for name, value in config.items() if name not in HYDRA_KEYS}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for name in given:
            if name not in parameters:
                close = difflib.get_close_matches(name, parameters, n=1)
                hint = f"did you mean {close[0]}?" if close else f"{function.__name__} takes {', '.join(parameters) or 'none'}"
                raise WrongArgumentError(_join(key, name), f": no such key; {hint}")
    hints = get_type_hints(function) if is_dataclass(function) else {}
    for name, parameter in parameters.items():
        value, required = given.get(name), parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        unset = value is None and required and not config.get("_partial_") and not fits(None, hints.get(name, NoneType))
        if value == MISSING or unset:
            raise WrongArgumentError(_join(key, name), ": is needed and not given")
        if name in given and name in hints and not fits(value, hints[name]):
            raise WrongArgumentError(_join(key, name), f"={value!r}: must be {describe(hints[name])}")
        if name not in hints and isinstance(value, str) and type(parameter.default) in (int, float):
            raise WrongArgumentError(_join(key, name), f"={value!r}: must be a number, as its default {parameter.default} is")


def fits(value: Any, hint: Any) -> bool:
    """Whether a yaml value may stand for type `hint`; true where the type is none of yaml's."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    if hint in (str, bool, NoneType):
        return isinstance(value, hint)
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and (not parts or all(fits(item, parts[0]) for item in value))
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    return True


def describe(hint: Any) -> str:
    """The type in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(describe(part) for part in parts)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (list, tuple, Sequence):
        return "a list"
    return PLAIN.get(hint, "a group of keys" if origin in (dict, Mapping) else getattr(hint, "__name__", str(hint)))
