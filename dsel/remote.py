"""Work in other processes, on this machine or another: what travels there, and what becomes of it."""

from __future__ import annotations

import io
import os
import pickle
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dsel.artifact import hash_module
from dsel.error import InputError

if TYPE_CHECKING:  # who has no model need not wait for torch
    import torch


@dataclass(frozen=True)
class Packed:
    """A pickled value. Whoever unpacks it may do so on another machine, and share `buffers` with others who do."""

    data: bytes
    buffers: list[Any]  # memory that nobody writes to
    tensors: list[torch.Tensor]  # on the CPU, wherever they were


def pack(value: Any) -> Packed:
    """The value, without the memory behind the parts of tables that it does not hold. It must be picklable."""
    file = io.BytesIO()
    packer = _Packer(file)
    packer.dump(value)
    return Packed(file.getvalue(), packer.buffers, packer.tensors)


def unpack(packed: Packed, device: str = "cpu") -> Any:
    """The value, with all its tensors on `device`. Arrays can be written to where they could be before."""
    return _Unpacker(packed, device).load()


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5, buffer_callback=self._is_copied)
        self.buffers: list[pickle.PickleBuffer] = []
        self.tensors: list[torch.Tensor] = []
        self._seen: dict[int, tuple[int, torch.Tensor]] = {}  # the tensors themselves too: a number may not go to another

    def _is_copied(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether the buffer goes into the pickle itself: it does if somebody may write to it."""
        if not memoryview(buffer).readonly:
            return True
        self.buffers.append(buffer)
        return False

    def persistent_id(self, value: Any) -> tuple[int, bool, bool] | None:
        """A tensor's number, whether it is a parameter, and whether it takes gradients."""
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(value, torch.Tensor):
            return None
        if id(value) not in self._seen:
            self._seen[id(value)] = (len(self.tensors), value)
            self.tensors.append(value.detach().cpu())
        return self._seen[id(value)][0], isinstance(value, torch.nn.Parameter), value.requires_grad

    def reducer_override(self, value: Any) -> Any:
        """Tables as Arrow's own format: a pickled slice would bring the whole table along."""
        if not isinstance(value, pa.Table):
            return NotImplemented
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_table(value)
        return _read_table, (pickle.PickleBuffer(sink.getvalue()),)


class _Unpacker(pickle.Unpickler):
    def __init__(self, packed: Packed, device: str) -> None:
        super().__init__(io.BytesIO(packed.data), buffers=packed.buffers)
        self._tensors, self._device = packed.tensors, device
        self._made: dict[int, torch.Tensor] = {}

    def persistent_load(self, key: tuple[int, bool, bool]) -> torch.Tensor:
        """The tensor, one and the same wherever it stands."""
        import torch

        number, is_parameter, takes_gradients = key
        if number not in self._made:
            tensor = self._tensors[number].to(self._device)
            self._made[number] = torch.nn.Parameter(tensor, takes_gradients) if is_parameter else tensor.requires_grad_(takes_gradients)
        return self._made[number]


def _read_table(buffer: Any) -> pa.Table:
    return pa.ipc.open_stream(pa.py_buffer(buffer)).read_all()


@dataclass(frozen=True)
class Node:
    """What a worker must find on its node."""

    folder: str  # where dsel was started: paths may begin there
    marker: str | None  # a file among the artifacts
    code: str

    def problem(self) -> str | None:
        """What is missing."""
        name = f"executor=ray: node {socket.gethostname()}"
        if self.code != hash_module("dsel"):
            return f"{name} has another version of dsel than the machine that started the run; install the same on all nodes"
        if self.marker and not Path(self.marker).is_file():
            return (
                f"{name} does not see paths.artifacts={Path(self.marker).parent}; "
                "put artifacts, and the source's files, where all nodes see them under the same name"
            )
        return None


@dataclass(frozen=True)
class Answer:
    """What a worker made of an item."""

    result: Any = None
    error: Exception | None = None


class Worker:
    """An actor's inside: holds the work, and does it for one item after the other."""

    def __init__(self, node: Node, fetch: Callable[[], Packed], device: str) -> None:
        self.problem = node.problem()
        if Path(node.folder).is_dir():
            os.chdir(node.folder)
        self.work = None if self.problem else unpack(fetch(), device)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """The items' answers, up to the first error."""
        for item in batch["item"]:
            answer = self._do(item)
            yield pa.table({"answer": pickled([answer])})
            if answer.error:
                return

    def _do(self, item: pa.Scalar) -> Answer:
        if self.problem or self.work is None:
            return Answer(error=InputError(self.problem))
        try:
            return Answer(self.work(pickle.loads(item.as_buffer())))
        except Exception as error:  # noqa: BLE001  # an error is an answer: Ray would wrap it, and log it at length
            where = traceback.format_exc()
            try:
                pickle.loads(pickle.dumps(error))
            except Exception:  # noqa: BLE001  # some cannot travel
                error = RuntimeError(repr(error))
            error.add_note(f"in a worker:\n{where}")
            return Answer(error=error)


def pickled(values: Sequence[Any]) -> pa.Array:
    return pa.array([pickle.dumps(value, protocol=5) for value in values], pa.large_binary())


def answers(batches: Iterator[pa.Table]) -> Iterator[Answer]:
    for batch in batches:
        for value in batch["answer"]:
            yield pickle.loads(value.as_buffer())
