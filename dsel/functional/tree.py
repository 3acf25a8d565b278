"""Nested values of tensors, numbers and texts, taken apart into JSON and tensors by name, and put together again."""

from __future__ import annotations

from typing import Any

import torch

PLAIN = (bool, int, float, str, type(None))


def split(tree: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """`tree` of dicts (by text or whole number), lists, tuples, sets of texts, tensors and plain values: as JSON, in which tensors are
    numbers, and the tensors on the CPU, each once. Errors: a TypeError for anything else."""
    tensors: dict[str, torch.Tensor] = {}
    seen: dict[tuple[Any, ...], str] = {}
    return _split(tree, tensors, seen), tensors


def join(plain: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """What `split` was given; sets as frozensets."""
    if not isinstance(plain, dict):
        return plain
    ((kind, value),) = plain.items()
    match kind:
        case "tensor":
            return tensors[value]
        case "items":
            return {key: join(item, tensors) for key, item in value}
        case "set":
            return frozenset(value)
        case _:
            found = (join(item, tensors) for item in value)
            return tuple(found) if kind == "tuple" else list(found)


def _split(tree: Any, tensors: dict[str, torch.Tensor], seen: dict[tuple[Any, ...], str]) -> Any:
    if isinstance(tree, PLAIN):
        return tree
    if isinstance(tree, torch.Tensor):
        return {"tensor": _name(tree, tensors, seen)}
    if isinstance(tree, dict):
        return {"items": [[_key(key), _split(value, tensors, seen)] for key, value in tree.items()]}
    if isinstance(tree, set | frozenset):
        return {"set": sorted(tree)}
    if isinstance(tree, list | tuple):
        return {"tuple" if isinstance(tree, tuple) else "list": [_split(value, tensors, seen) for value in tree]}
    raise TypeError(f"neither JSON nor a tensor: {type(tree).__name__}")


def _key(key: Any) -> Any:
    if type(key) not in (str, int):
        raise TypeError(f"a key must be a text or a whole number, not {type(key).__name__}")
    return key


def _name(tensor: torch.Tensor, tensors: dict[str, torch.Tensor], seen: dict[tuple[Any, ...], str]) -> str:
    """Weights that two layers share stand in a state twice; a file of tensors holds no memory twice."""
    identity = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.device, tensor.numel() or id(tensor))
    if identity not in seen:
        seen[identity] = str(len(tensors))
        own = tensor.detach().cpu().contiguous()
        tensors[seen[identity]] = own if own.untyped_storage().nbytes() == own.nbytes else own.clone()
    return seen[identity]
