"""The processes that `esm.py` starts: maps in files are ranked by dsel or by hf-dataset-selector."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from dsel.functional.logme import logme_of_maps
from dsel.functional.map_file import load
from dsel.functional.peak_memory import peak_mb

Vectors = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Target: TypeAlias = tuple[Vectors, Labels]


def make_target(rows: int, dim: int, classes: int) -> Target:
    """Embeddings (row, dim) around a mean, of directions that count less and less, and classes (row,) that follow them in part."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(rows, dim)) / np.sqrt(1 + np.arange(dim)) + rng.normal(size=dim)
    logits = base @ rng.normal(size=(dim, classes))
    logits = (logits - logits.mean(0)) / logits.std(0) + rng.normal(size=logits.shape)
    return base.astype(np.float32), logits.argmax(1)


def rank(folder: Path, num_maps: int, target: Target) -> list[float]:
    """Scores (map,) of the first maps in a folder."""
    base, labels = target
    maps = (load(path)[0] for path in sorted(folder.iterdir())[:num_maps])
    found: list[float] = logme_of_maps(base, ((it.weight, it.bias) for it in maps), labels, regression=False).tolist()
    return found


def rank_by_package(folder: Path, num_maps: int, target: Target) -> list[float]:
    """The same by hf-dataset-selector."""
    import transformers
    from hfselect import ESM, compute_scores

    base, labels = target

    class Table(transformers.BertModel):  # type: ignore[misc]
        """What it takes for a base model: embeddings by the row's number."""

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[None, torch.Tensor]:
            return None, torch.from_numpy(base)[input_ids]

    class Rows(torch.utils.data.Dataset[int]):
        """What it takes for a target: the rows' numbers."""

        is_regression = False

        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, row: int) -> int:
            return row

        def collate_fn(self, rows: list[int], tokenizer: None) -> tuple[torch.Tensor, ...]:
            return torch.tensor(rows), torch.ones(len(rows)), torch.from_numpy(labels)[rows]

    tiny = transformers.BertConfig(vocab_size=1, hidden_size=1, num_hidden_layers=1, num_attention_heads=1, intermediate_size=1)
    maps = [ESM.from_pretrained(path) for path in sorted(folder.iterdir())[:num_maps]]
    return [float(score) for score in compute_scores(Rows(), Table(tiny), maps, tokenizer=None)]


WAYS = {"ours": rank, "package": rank_by_package}


def main(way: str, folder: str, *sizes: str) -> None:
    """Print the seconds, the peak of memory and the scores of so many maps, for a target of so many rows, dimensions and classes."""
    num_maps, rows, dim, classes = map(int, sizes)
    target = make_target(rows, dim, classes)
    WAYS[way](Path(folder), 2, target)  # compiles
    started = time.perf_counter()
    scores = WAYS[way](Path(folder), num_maps, target)
    print(json.dumps({"seconds": time.perf_counter() - started, "peak": peak_mb(), "scores": scores}))


if __name__ == "__main__":
    main(*sys.argv[1:])
