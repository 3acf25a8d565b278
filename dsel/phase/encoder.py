"""Encoder: the base model from which tasks are learnt, made or found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsel.base_encoder import FILE, BaseEncoder
from dsel.context import World
from dsel.error import InputError
from dsel.protocol import EncoderSource
from dsel.state import State


@dataclass(frozen=True)
class Encoder:
    """Prepares the encoder, and writes down where it is."""

    encoder: EncoderSource

    needs_checkpoint = False
    trains = False

    def identity(self) -> Any:
        """What an encoder hangs on besides its options, such as files."""
        return self.encoder.identity()

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write base.json."""
        self.encoder.prepare(world).save(folder)
        return {}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state: the folder is among its artifacts."""
        return state


def find_base(state: State, world: World) -> BaseEncoder:
    """The base encoder of this run. Errors: no phase has prepared one."""
    folder = state.find(FILE)
    if folder is None:
        raise InputError(f"phases.{world.name}: tasks are learnt from an encoder; put the phase encoder before it in pipeline")
    return BaseEncoder.load(folder)
