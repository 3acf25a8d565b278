"""The calls of a model's layers on a batch of examples, as a `ghost.Tape` records them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from dsel.functional.ghost_factors import Factors
from dsel.functional.ghost_layers import Layer

Which = slice | torch.Tensor
ALL = slice(None)
Part = Factors | torch.Tensor | None
"""What a call has to do with a parameter of its layer: a matrix, a vector by token (example, token, size), unknown."""


@dataclass
class Call:
    """One call of a layer: its input (example, ..., in) and, after the backward pass, the gradient at its output (example, ..., out)."""

    layer: Layer
    names: Mapping[str, str]  # from the layer's own name of a parameter to the model's
    given: torch.Tensor
    at_output: torch.Tensor | None = None

    def rows(self, which: Which = ALL) -> tuple[torch.Tensor, torch.Tensor]:
        """Of these examples."""
        assert self.at_output is not None
        return self.given[which], self.at_output[which]

    def parts(self) -> dict[str, Part]:
        """By the layer's own name of a parameter, without those that are unknown."""
        return {**self.layer.factors(*self.rows()), **self.layer.vectors(*self.rows())}

    def per_example(self, own: str, which: Which = ALL) -> torch.Tensor:
        """What it adds to each example's gradient (example, *shape) by the parameter of that name."""
        part = self.parts().get(own) if which is ALL else None
        if isinstance(part, Factors):
            return part.each()
        return self.layer.per_example(*self.rows(which))[own] if part is None else part.sum(1)


class Batch:
    """The calls of one batch of `num_examples` examples."""

    def __init__(self, num_examples: int) -> None:
        self.num_examples = num_examples
        self.calls: list[Call] = []

    def over(self, only: Collection[str] | None) -> list[Call]:
        """The calls of layers that hold some of these parameters (None: all), with those."""
        if only is None:
            return self.calls
        some = [replace(call, names={own: name for own, name in call.names.items() if name in only}) for call in self.calls]
        return [call for call in some if call.names]

    def by_parameter(self, only: Collection[str] | None) -> dict[str, list[tuple[Call, str]]]:
        """By name of a parameter, the calls of the layers that hold it, with their own names for it: tied weights have several."""
        found: dict[str, list[tuple[Call, str]]] = {}
        for call in self.over(only):
            for own, name in call.names.items():
                found.setdefault(name, []).append((call, own))
        return found


def parts_by_name(calls: Sequence[Call]) -> dict[str, list[Part]]:
    """By the model's name of a parameter, what each call of a layer that holds it has to do with it: tied weights have several."""
    found: dict[str, list[Part]] = {}
    for call in calls:
        known = call.parts()
        for own, name in call.names.items():
            found.setdefault(name, []).append(known.get(own))
    return found
