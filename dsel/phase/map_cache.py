"""Maps in a folder of the user's, or on the Hub, beside those that a run fits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsel.artifact import hash_folder
from dsel.base_encoder import BaseEncoder
from dsel.error import InputError
from dsel.labelled import LabelledTask

if TYPE_CHECKING:
    from dsel.functional.space_map import SpaceMap


@dataclass(frozen=True)
class MapCache:
    """The maps `found` of one base encoder by task. What is fitted besides is written into `folder`, if there is one."""

    base: BaseEncoder
    found: dict[str, Path]
    folder: Path | None

    @staticmethod
    def open(maps: str | Sequence[str] | None, base: BaseEncoder, fetched: Path) -> MapCache:
        """Of a folder, which may be new, or of names of repositories on the Hub, which are fetched into the folder `fetched`."""
        from dsel.functional.map_file import read_card
        from dsel.functional.map_folder import fetch_maps, find_maps, name_task

        if maps is None:
            return MapCache(base, {}, None)
        if isinstance(maps, str):
            folder = Path(maps).expanduser()
            return MapCache(base, find_maps(folder, base.name) if _holds_any(folder) else {}, folder)
        places = fetch_maps(list(maps), fetched)
        return MapCache(base, {name_task(read_card(place)): place for place in places.values()}, None)

    def get(self, name: str, source: LabelledTask | None, dim: int) -> SpaceMap | None:
        """The map of a task, None where there is none. Errors: it is of another base model, width, or of other rows than the source's."""
        from dsel.functional.map_file import load
        from dsel.functional.map_folder import check_map

        if name not in self.found:
            return None
        place = self.found[name]
        space_map, card = load(place)
        check_map(space_map, card, self.base.name, dim, place)
        if source is not None and len(source) and card.get("rows") not in (None, source.fingerprint):
            raise InputError(
                f"{place}: the map was fitted to other rows than those of task {name} now; move it away, or give another maps="
            )
        return space_map

    def put(self, name: str, space_map: SpaceMap, card: dict[str, Any]) -> None:
        """Write a map that was fitted; nothing where there is no folder."""
        from dsel.functional.map_file import save

        if self.folder is None:
            return
        place = self.folder / re.sub(r"[^\w.+-]+", "-", name)
        save(place, space_map, card)
        self.found[name] = place


def list_files(maps: str | Sequence[str] | None) -> Any:
    """Names and hashes of the files of a folder of maps, which change when a map does; of the Hub, the names."""
    return hash_folder(Path(maps).expanduser()) if isinstance(maps, str) else maps


def _holds_any(folder: Path) -> bool:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"maps={folder}: is a file; give a folder of maps, which may be new, or a list of repositories on the Hub")
    return folder.is_dir() and any(folder.iterdir())
