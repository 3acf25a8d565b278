"""Folders of embedding space maps: caches that need no network once they are filled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsel.error import InputError
from dsel.functional.map_file import CONFIG, WEIGHTS, check_card, check_file, read_card
from dsel.functional.space_map import SpaceMap

OWNERS = {  # to whom the Hugging Face Hub gave the models that had no owner
    *("FacebookAI", "albert", "distilbert", "google-bert", "google-t5", "openai-community", "transfo-xl", "xlnet"),
}
KEYS = {"base_model_name", "task_id", "esm_architecture"}  # a card has at least one; no other model's config.json has any
LAYOUT = f"folders <map>/ or models--<owner>--<name>/snapshots/<commit>/, each with {WEIGHTS} and {CONFIG}"


def find_maps(folder: Path, base_model_name: str | None = None) -> dict[str, Path]:
    """The maps in a folder, of one base model where it is named: the tasks' names, in order, with the maps' folders.

    A map is a sub folder, or a snapshot in the layout of the Hugging Face Hub's cache, of several the one that `main` refers to. A task
    is named by its card's `task_id`, or "task_id:task_subset". Hidden folders are no maps, nor are other models, whose `config.json` has
    no key of a card. Errors: no such folder, no map in it, a map of which a file is missing or whose card lacks the names, two maps
    of one task.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give one that holds {LAYOUT}")
    cards = _read_cards(folder)
    if not cards:
        raise InputError(f"{folder}: holds no map; expected {LAYOUT} that names its task_id")
    chosen = [place for place, card in cards.items() if base_model_name is None or is_same_model(card["base_model_name"], base_model_name)]
    if not chosen:
        known = ", ".join(sorted({card["base_model_name"] for card in cards.values()}))
        raise InputError(
            f"{folder}: none of its {len(cards)} maps is of the base model {base_model_name}, but of {known}; take one of these"
        )
    found: dict[str, Path] = {}
    for place in chosen:
        task = name_task(cards[place])
        other = found.setdefault(task, place)
        if other != place:
            bases = " and ".join(f"{one} (base model {cards[one]['base_model_name']})" for one in (other, place))
            raise InputError(f"task {task}: has two maps, {bases}; move one out of the folder, or name one base model")
    return dict(sorted(found.items()))


def name_task(card: Mapping[str, Any]) -> str:
    """The name of the task of a map's card: "task_id", or "task_id:task_subset"."""
    return f"{card['task_id']}:{card['task_subset']}" if card.get("task_subset") else str(card["task_id"])


def is_same_model(name: str, other: str) -> bool:
    """Whether two names are one model's: the Hub calls bert-base-uncased google-bert/bert-base-uncased, too."""
    first, second = (given.partition("/")[2] if given.partition("/")[0] in OWNERS else given for given in (name, other))
    return first == second


def check_map(space_map: SpaceMap, card: Mapping[str, Any], base_model_name: str, dim: int, where: object) -> None:
    """Errors: a map, found at `where`, that was made for another base model than the one named, whose embeddings are (row, dim)."""
    if not is_same_model(str(card.get("base_model_name")), base_model_name):
        found = card.get("base_model_name")
        raise InputError(f"{where}: base_model_name={found}, embeddings are of {base_model_name}; embed with {found}, or give its maps")
    shape = len(space_map.bias), space_map.width
    if shape != (dim, dim):
        raise InputError(f"{where}: a map {shape}, embeddings of {base_model_name} have {dim} dimensions; give maps of that width")


def fetch_maps(repo_ids: Sequence[str], folder: Path) -> dict[str, Path]:
    """Bring maps from the Hugging Face Hub into a folder, for `find_maps`: the repositories' names with their maps' folders.

    Nothing else than a map's two files is fetched, and what is there already is not fetched again. Errors: whatever goes wrong on the
    way there, a repository that lacks one of the files.
    """
    from huggingface_hub import snapshot_download

    found = {}
    for repo_id in repo_ids:
        try:
            place = Path(snapshot_download(repo_id, cache_dir=folder, allow_patterns=[WEIGHTS, CONFIG]))
        except Exception as error:
            first = str(error).strip().split("\n")[0] or type(error).__name__
            message = f"{repo_id}: the map cannot be fetched ({first}); check its name and the network, or give a folder that holds it"
            raise InputError(message) from error
        try:
            check_file(place / WEIGHTS)
            check_card(read_card(place), place / CONFIG)
        except InputError as error:
            raise InputError(f"{repo_id}: is no map ({error}); take it out, or give a folder that holds its map") from error
        found[repo_id] = place
    return found


def _read_cards(folder: Path) -> dict[Path, dict[str, Any]]:
    """The cards of all maps in a folder, by their own folders."""
    cards = {}
    for place in _candidates(folder):
        names = {path.name for path in place.iterdir()}  # links to nowhere, too
        if names & {WEIGHTS, CONFIG} and KEYS & (card := read_card(place)).keys():
            check_file(place / WEIGHTS)
            check_card(card, place / CONFIG)
            cards[place] = card
    return cards


def _candidates(folder: Path) -> Iterator[Path]:
    """Folders that may be maps, in order."""
    for child in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        snapshots, main = child / "snapshots", child / "refs" / "main"
        if not child.name.startswith("models--"):
            yield child
        elif main.is_file() and (current := snapshots / main.read_text(encoding="utf-8").strip()).is_dir():
            yield current
        elif snapshots.is_dir():
            yield from sorted(path for path in snapshots.iterdir() if path.is_dir())
