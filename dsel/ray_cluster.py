"""Join a Ray cluster, or start one on this machine, without a trace in the process or the home folder."""

from __future__ import annotations

import logging
import os
import random
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsel.error import InputError

SECONDS_TO_ANSWER = 5.0
_TOKEN = secrets.token_hex(32)  # of our own clusters, whose ports others can reach; by itself Ray would write one into the home folder


def connect(address: str | None, num_cpus: int, key: str) -> None:
    """Join the cluster at `address`, or where that is null, start one with so many CPUs, which ends with this process. One that this
    process has joined already is used as it is. `key` is the config's name for the address. Errors: no cluster there."""
    import ray

    if ray.is_initialized():
        return
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what is fatal is raised; the rest would tear the progress bar
    quiet: dict[str, Any] = {"logging_level": "ERROR", "configure_logging": False, "log_to_driver": False}
    own = {"RAY_AUTH_TOKEN": _TOKEN, "RAY_USAGE_STATS_ENABLED": "0"} if address is None else {}
    with _as_before(), _silent():
        for name, value in {**own, "RAY_BACKEND_LOG_LEVEL": "fatal"}.items():
            os.environ.setdefault(name, value)
        if address is None:
            ray.init("local", num_cpus=num_cpus, include_dashboard=False, **quiet)
            return
        try:
            _check_port(address)
            ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            why = " ".join(str(error).split())
            raise InputError(
                f"{key}={address}: no Ray cluster that dsel can join ({why}); `ray start --head` starts one, {key}=null one for this run"
            ) from error


@contextmanager
def _as_before() -> Iterator[None]:
    """Puts back what `ray.init` changes in this process: Python's random state, the handler of SIGTERM, variables."""
    state, handler, variables = random.getstate(), signal.getsignal(signal.SIGTERM), dict(os.environ)
    try:
        yield
    finally:
        random.setstate(state)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
        os.environ.clear()
        os.environ.update(variables)


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps what Ray's compiled parts write at their start off the terminal; what goes wrong there is raised as well."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _check_port(address: str) -> None:
    """Errors: nobody listens at host:port. Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()
