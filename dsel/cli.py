"""What a person sees of the program: its jobs, and mistakes explained in one line. Imports nothing heavy."""

from __future__ import annotations

import difflib
import errno
import hashlib
import json
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf

from dsel.error import InputError, Pruned
from dsel.outcome import FAILED, write_failure

PACKAGE = Path(__file__).parent
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())
LONGEST_NAME = 150  # of a run's folder; file systems take 255
TRACEBACKS = "DSEL_TRACEBACKS"  # the user's HYDRA_FULL_ERROR, which we need for ourselves
THIRD_PARTY = {"torch.optim.": "optimizer", "pytorch_lightning.": "trainer", "lightning_fabric.": "trainer"}
failures: dict[str, dict[str, Any]] = {}  # by folder: the cells that failed, and why


def register_resolvers() -> None:
    """`${run_name:...}`: overrides as a folder name; `${wandb_offline:}`: true unless logged in; `${times:a,b}`: a product;
    `${given:key}`: whether it is not null; `${either:key,a,b}`: a where it is not null, else b; `${without:list,a,b}`: the list without
    these; `${mapping:key,value}`: {key: value}."""
    OmegaConf.register_new_resolver("given", lambda value: value is not None, replace=True)
    OmegaConf.register_new_resolver("either", lambda value, first, second: second if value is None else first, replace=True)
    OmegaConf.register_new_resolver("without", without, replace=True)
    OmegaConf.register_new_resolver("mapping", lambda key, value: {key: value}, replace=True)
    OmegaConf.register_new_resolver("times", lambda a, b: a * b, replace=True)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("wandb_offline", wandb_offline, replace=True)


def without(names: ListConfig, *others: str) -> ListConfig:
    """The names but for the others."""
    return ListConfig([name for name in names if name not in others])


def run_name(overrides: str) -> str:
    """Overrides as one path component: no slashes, and not too long."""
    name = re.sub(r"[^\w.=,+-]+", "-", overrides) or "run"
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
    return name


def wandb_offline() -> bool:
    """Whether wandb has no account to write to."""
    netrc = Path.home() / ".netrc"
    return not (os.environ.get("WANDB_API_KEY") or (netrc.is_file() and "wandb" in netrc.read_text(errors="replace")))


def quote(arguments: list[str]) -> list[str]:
    """Overrides whose value holds an equals sign, as folders of runs do, in the quotes that Hydra wants around it."""
    found = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        is_free = re.fullmatch(r"[^'\"\[\]{}()\s$,]*", value) is not None or Path(value).exists()
        is_override = re.fullmatch(r"[\w+~][\w.@/+~-]*", key) is not None and not value.startswith(("'", '"'))
        found.append(f"{key}='{value}'" if "=" in value and is_override and is_free else argument)
    return found


def parse_value(text: str) -> Any:
    """An override's value as yaml reads it: numbers are numbers."""
    return OmegaConf.select(OmegaConf.create(f"value: {text}"), "value") if re.fullmatch(r"[\w.+-]+", text) else text


def describe_jobs() -> str:
    """The jobs, a line and a command each: the comments that open the experiments' yaml files."""
    rows = []
    for path in sorted((CONF / "experiment").glob("*.yaml"), key=lambda path: (path.stem not in ("demo", "select"), path.stem)):
        comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        said = next(line for line in comments if not line.startswith(("@", "$")))
        command = next((line[1:].strip() for line in comments if line.startswith("$")), f"dsel experiment={path.stem}")
        rows.append(f"  {said}\n      {command}")
    lines = [
        "dsel chooses training data: from a source pool, for a target sample.",
        "",
        *rows,
        "",
        "  Draw the report of a sweep again",
        "      python -m dsel.report outputs/runs/FOLDER",
        "",
        "Any key of `dsel --help` may be set as key=value; --multirun sweeps comma-separated values; --cfg job shows the config.",
    ]
    return "\n".join(lines)


def explain(error: BaseException, arguments: list[str]) -> str | None:
    """One line on what to do about `error`; None if it is not the user's."""
    for link in _chain(error):
        line = _explain_link(link)
        if line is not None:
            return " ".join(line.split())
    kind = type(error)
    if not kind.__module__.startswith(("hydra.", "omegaconf.")) or kind.__name__ == "InstantiationException":
        return None  # a constructor of ours that fails otherwise is a mistake of ours
    return _explain_compose(" ".join(str(error).split()), arguments)


def _explain_link(error: BaseException) -> str | None:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = f"disk full while writing {error.filename or 'results'}"
        return f"{what}: free some space, or set paths.outputs to another disk, and run again; finished phases are kept"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"{error.filename}: cannot be written ({error.strerror}); give another place, e.g. paths.outputs=FOLDER"
    if isinstance(error, TypeError | ValueError) or type(error).__name__ == "MisconfigurationException":
        frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        owner = next((key for module, key in THIRD_PARTY.items() if frames and frames[-1].startswith(module)), None)
        return f"{owner}: {error}" if owner else None
    return None


def _explain_compose(text: str, arguments: list[str]) -> str:
    """Hydra's and OmegaConf's messages in one line, with the nearest key or option that exists."""
    sweep = re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'", text)
    if sweep:  # Hydra says so too where the experiment would sweep, and another mistake keeps it from being read
        hidden = _compose_error([a for a in arguments if not re.search(r"^[^=\[]*=[^\[{(]*,|^-", a)])
        return hidden or f"{sweep[1]}: several values make a sweep; add --multirun, or give one value"
    missing = re.search(r"Missing mandatory value: ([\w.]+)", text)
    if missing:
        return f"{missing[1]}: is needed and not given; add {missing[1]}=VALUE"
    option = re.search(r"Could not find '([\w/.@-]+)/([\w.-]+)'", text)
    if option:
        group, wrong = option.groups()
        known = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        return f"{group}={wrong}: no such option{_nearest(wrong, known)}; there are {', '.join(known)}"
    key = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
    if key:
        full = key[1]
        override = next((a for a in arguments if a.split("=")[0].lstrip("+~").split(".")[-1] == full.split(".")[-1]), None)
        full = override.split("=")[0].lstrip("+~") if override else full
        return _no_such_key(full, _known_keys(arguments))
    return text


def check_added(arguments: list[str]) -> None:
    """Errors: an added `+key=` that nothing would read. A config of the user's own may."""
    added = [a.lstrip("+").split("=")[0] for a in arguments if re.match(r"\+\+?\w[^=]*=", a)]
    if not added or any(a.startswith(("--config-", "-cd", "-cn", "-cp")) for a in arguments):
        return
    known = ["hydra", *_known_keys(arguments)]
    for key in added:
        if re.split(r"[.@/]", key)[0] not in known:
            raise InputError(_no_such_key(key, known))


def wants_traceback() -> bool:
    """Whether the user asked for tracebacks, by HYDRA_FULL_ERROR=1."""
    return os.environ.get(TRACEBACKS, "0") not in ("0", "")


def record_failure(folder: Path, overrides: Mapping[str, str], error: Exception) -> None:
    """Remember why a cell of a sweep failed: here, and in its folder, since launchers may run it in another process."""
    line = str(error) if isinstance(error, Pruned) else explain(error, [])
    if line is None or wants_traceback():
        traceback.print_exception(error)
    line = line or f"{type(error).__name__}: {' '.join(str(error).split())}"
    cell, pruned = [f"{key}={value}" for key, value in overrides.items()], isinstance(error, Pruned)
    if not pruned:
        failures[str(folder)] = {"cell": cell, "error": line}
    try:
        write_failure(folder, cell, line, "".join(traceback.format_exception(error)), pruned=pruned)
    except OSError as second:
        print(f"{folder / FAILED}: cannot be written ({second.strerror})", file=sys.stderr)


def describe_failures(arguments: list[str]) -> list[str]:
    """A line for each cause, which names the cells that it stopped by what `arguments` do not give to all."""
    causes: dict[str, list[str]] = {}
    for folder, failure in failures.items():
        cell = " ".join(override for override in failure["cell"] if override not in arguments)
        causes.setdefault(failure["error"], []).append(cell or Path(folder).name)
    return [f"failed: {', '.join(f'[{cell}]' for cell in cells)}: {cause}" for cause, cells in causes.items()]


class Failures(Callback):
    """A Hydra callback that collects why cells failed in other processes."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember the failures that are there already: they are not this sweep's."""
        self.earlier = dict(self._found(config))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read what the cells left."""
        for path, written in self._found(config):
            if self.earlier.get(path) != written and not (record := json.loads(path.read_text(encoding="utf-8"))).get("pruned"):
                failures.setdefault(str(path.parent), record)

    def _found(self, config: DictConfig) -> list[tuple[Path, int]]:
        return [(path, path.stat().st_mtime_ns) for path in sorted(Path(config.hydra.sweep.dir).absolute().rglob(FAILED))]


def _no_such_key(wrong: str, known: list[str]) -> str:
    return f"{wrong}: no such key{_nearest(wrong, known)}; dsel --help lists all keys"


def _nearest(wrong: str, known: list[str]) -> str:
    tail = wrong.rpartition(".")[2]  # it alone may be what was meant: `lr` for `optimizer.lr`
    close = [key for key in known if key.rpartition(".")[2] == tail][:1]
    close = close or difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    close = close or difflib.get_close_matches(tail, [key.rpartition(".")[2] for key in known], n=1, cutoff=0.6)
    return f", did you mean {close[0]}?" if close else ""


def _compose(arguments: list[str]) -> DictConfig:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=arguments)


def _compose_error(arguments: list[str]) -> str | None:
    """What is wrong with `arguments`, None if nothing is."""
    from hydra.errors import HydraException

    try:
        _compose(arguments)
    except HydraException as error:
        return _explain_compose(" ".join(str(error).split()), arguments)
    return None


def _known_keys(arguments: list[str]) -> list[str]:
    """All keys, and groups, of the config that the other overrides compose."""
    from hydra.errors import HydraException

    groups = [path.name for path in CONF.iterdir() if path.is_dir()]
    chosen = [a for a in arguments if "=" in a and a.split("=")[0] in groups and "," not in a]
    try:
        config = _compose(chosen)
    except HydraException:
        return groups
    return [*groups, *_flatten(OmegaConf.to_container(config))]


def _flatten(config: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield f"{prefix}{key}"
            yield from _flatten(value, f"{prefix}{key}.")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


register_resolvers()  # also where a cell is sent to another process, which imports this for the sake of its callbacks
