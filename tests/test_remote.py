"""What travels to other processes, and what a worker answers. No process is started here: see executor/test_ray.py."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from dsel.artifact import hash_module
from dsel.error import InputError
from dsel.remote import Node, Packed, Worker, answers, pack, pickled, unpack


@dataclass(frozen=True)
class Holder:
    """A work with all that a fitted score may hold."""

    model: torch.nn.Module
    again: torch.nn.Module
    direction: torch.Tensor
    weights: np.ndarray[Any, np.dtype[np.float64]]
    table: pa.Table


def size(packed: Packed) -> int:
    return len(packed.data) + sum(memoryview(buffer).nbytes for buffer in packed.buffers)


def travelled(packed: Packed) -> Packed:
    """As it comes out of another process."""
    buffers = [bytes(buffer) for buffer in packed.buffers]
    tensors = [torch.from_numpy(tensor.numpy().copy()) for tensor in packed.tensors]
    return Packed(packed.data, buffers, tensors)


@pytest.fixture
def holder() -> Holder:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).requires_grad_(False)
    model[0].bias.requires_grad_(True)
    table = pa.table({"text": ["some", None, "text"], "n": [1, 2, 3]}, metadata={"by": "us"})
    return Holder(model, model, torch.arange(3.0), np.arange(4.0), table)


def test_a_value_comes_out_as_it_went_in(holder: Holder) -> None:
    (copy,) = unpack(travelled(pack(partial(print, holder)))).args
    for key, value in holder.model.state_dict().items():
        assert torch.equal(copy.model.state_dict()[key], value)
    assert [p.requires_grad for p in copy.model.parameters()] == [p.requires_grad for p in holder.model.parameters()]
    assert all(isinstance(p, torch.nn.Parameter) for p in copy.model.parameters())
    assert copy.again is copy.model
    assert torch.equal(copy.direction, holder.direction)
    assert copy.table.equals(holder.table, check_metadata=True)
    np.testing.assert_array_equal(copy.weights, holder.weights)


def test_tied_weights_stay_tied() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(5, 2), torch.nn.Linear(2, 5))
    model[1].weight = model[0].weight
    copy = unpack(travelled(pack(model)))
    assert copy[1].weight is copy[0].weight


def test_tensors_are_seen_and_go_to_a_device(holder: Holder) -> None:
    assert not pack(holder.table).tensors
    copy = unpack(pack(holder), "meta")
    assert {p.device.type for p in [*copy.model.state_dict().values(), copy.direction]} == {"meta"}
    assert {p.device.type for p in holder.model.parameters()} == {"cpu"}


def test_arrays_may_be_written_to_where_they_could_be_before(holder: Holder) -> None:
    fixed = np.arange(3)
    fixed.flags.writeable = False
    free, kept = unpack(travelled(pack((holder.weights, fixed))))
    assert (free.flags.writeable, kept.flags.writeable) == (True, False)


def test_a_slice_of_a_table_leaves_the_rest_behind() -> None:
    table = pa.table({"text": [str(n) for n in range(10_000)]})
    part = table.slice(5000, 10)
    packed = pack(part)
    assert size(packed) < 2000
    assert unpack(travelled(packed)).equals(part)


class StubbornError(Exception):
    """One that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("stubborn")
        self.lock = threading.Lock()


def double(item: int) -> int:
    """A work that fails on some items."""
    if item == 3:
        raise InputError("pool.jsonl:3: broken JSON; mend it")
    if item == 4:
        raise StubbornError
    return 2 * item


def work_on(items: list[int], node: Node, work: Callable[[int], int] = double) -> list[Any]:
    """What a worker answers: a result, or the error."""
    worker = Worker(node, partial(pack, work), "cpu")
    found = answers(worker(pa.table({"item": pickled(items)})))
    return [answer.error or answer.result for answer in found]


def here(marker: Path | None = None) -> Node:
    return Node(str(Path.cwd()), marker and str(marker), hash_module("dsel"))


def test_a_worker_answers_until_the_first_error() -> None:
    assert work_on([1, 2], here()) == [2, 4]
    first, error = work_on([1, 3, 2], here())
    assert first == 2
    assert isinstance(error, InputError)
    assert str(error) == "pool.jsonl:3: broken JSON; mend it"
    assert "in double" in error.__notes__[0]


def test_an_error_that_cannot_travel_is_told() -> None:
    (error,) = work_on([4], here())
    assert repr(error) == repr(RuntimeError("StubbornError('stubborn')"))
    assert pickle.loads(pickle.dumps(error)).__notes__ == error.__notes__


def test_a_node_without_the_artifacts_or_with_another_dsel(tmp_path: Path) -> None:
    marker = tmp_path / "artifacts" / ".ray-1"
    (error,) = work_on([1, 2], here(marker))
    assert f"does not see paths.artifacts={marker.parent}; put artifacts" in str(error)
    marker.parent.mkdir()
    marker.touch()
    assert work_on([1, 2], here(marker)) == [2, 4]
    (error,) = work_on([1, 2], Node(str(tmp_path), None, "other"))
    assert "has another version of dsel" in str(error)
