"""Makes pool.parquet and clean.parquet of parallel corpora: `python experiments/loss_masking_files/prepare.py FOLDER OUT`.

FOLDER holds tatoeba_ende.parquet, multi30k_ende.parquet and wmtmix_ende.parquet with the columns src, tgt, domain and split. The pool is a
random part of their training rows; the clean sample is of Tatoeba's validation and test rows only, so that the others are other domains.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

POOL = {"tatoeba": 60_000, "multi30k": 20_000, "wmtmix": 9_000}
CLEAN = "tatoeba"
COLUMNS = ["src", "tgt", "domain"]


def main() -> None:
    """Write both files, and print how many pairs each has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    tables = {name: pq.read_table(given.folder / f"{name}_ende.parquet") for name in POOL}
    training = {name: table.filter(pc.field("split") == "train").select(COLUMNS) for name, table in tables.items()}
    pool = pa.concat_tables(_some(table, POOL[name]) for name, table in training.items())
    clean = tables[CLEAN].filter(pc.field("split") != "train").select(COLUMNS)
    for name, table in (("pool", pool), ("clean", clean)):
        pq.write_table(table, given.out / f"{name}.parquet")
        print(f"{name}: {table.num_rows:,} pairs")


def _some(table: pa.Table, number: int) -> pa.Table:
    """A random part of the rows."""
    return table.take(np.sort(np.random.default_rng(0).permutation(table.num_rows)[:number]))


if __name__ == "__main__":
    main()
