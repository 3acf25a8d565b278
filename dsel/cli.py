"""What a person sees of the program: its jobs, and mistakes explained in one line. Imports nothing heavy."""

from __future__ import annotations

import difflib
import errno
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dsel.error import InputError

PACKAGE = Path(__file__).parent
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())
LONGEST_NAME = 150  # of a run's folder; file systems take 255


def register_resolvers() -> None:
    """`${run_name:...}`: overrides as a folder name; `${wandb_offline:}`: true unless logged in; `${times:a,b}`: a product."""
    OmegaConf.register_new_resolver("times", lambda a, b: float(a) * float(b), replace=True)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("wandb_offline", wandb_offline, replace=True)


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
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, InputError):
            return str(link)
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"disk full while writing {link.filename or 'results'}"
            return f"{what}: free some space, or set paths.outputs to another disk, and run again; finished phases are kept"
    names = [type(link).__module__ for link in chain]
    if not any(name.startswith(("hydra.", "omegaconf.")) for name in names):
        return None
    text = " ".join(" ".join(str(link).split()) for link in chain[:1])
    return _explain_compose(text, arguments)


def _explain_compose(text: str, arguments: list[str]) -> str:
    """Hydra's and OmegaConf's messages in one line, with the nearest key or option that exists."""
    option = re.search(r"Could not find '([\w/.@-]+)/([\w.-]+)'", text)
    if option:
        group, wrong = option.groups()
        known = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        return f"{group}={wrong}: no such option{_nearest(wrong, known)}; there are {', '.join(known)}"
    group_error = re.search(r"Could not override '([\w./@-]+)'\. No match in the defaults list", text)
    key = re.search(r"Key '([^']+)' is not in struct(?:.*?full_key: (\S+))?", text) or group_error
    if key:
        full = key.group(key.lastindex or 1)
        override = next((a for a in arguments if a.split("=")[0].lstrip("+~").split(".")[-1] == full.split(".")[-1]), None)
        full = override.split("=")[0].lstrip("+~") if override else full
        return f"{full}: no such key{_nearest(full, _known_keys(arguments, full))}; dsel --help lists all keys"
    return text


def _nearest(wrong: str, known: list[str]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    if not close:  # the last part alone may be what was meant: `lr` for `optimizer.lr`
        tail = wrong.rpartition(".")[2]
        close = [key for key in known if key.rpartition(".")[2] == tail][:1]
        close = close or difflib.get_close_matches(tail, [key.rpartition(".")[2] for key in known], n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _known_keys(arguments: list[str], wrong: str) -> list[str]:
    """All keys, and groups, of the config that the other overrides compose."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    groups = [path.name for path in CONF.iterdir() if path.is_dir()]
    chosen = [a for a in arguments if "=" in a and a.split("=")[0] in groups and "," not in a]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", overrides=chosen)
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


def report_unfinished(arguments: list[str]) -> None:
    """After a sweep in which a cell failed, the finished cells still get their table and report."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return
    folder = Path(HydraConfig.get().sweep.dir)
    if next(folder.rglob("result.json"), None) is not None:
        from dsel.report.build import build

        build(folder)
