"""Facts and the sentences that state them, from T-REx: `python experiments/influence_provenance/prepare.py TREX_FACTS WIKI_FACTS FOLDER`.

TREX_FACTS has `fact_id`, `query` with a [MASK], `object` and `gold_doc_ids`; WIKI_FACTS has `doc_id` and `text`. Written are
FOLDER/facts.parquet, 400 facts that one to three sentences state, the mask filled in, and FOLDER/pool.parquet, their sentences among 4,000.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

MOST_GOLD = 3


def main() -> None:
    """Draw facts and sentences by a fixed seed, and write both."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("facts", "sentences", "folder"):
        options.add_argument(name, type=Path)
    options.add_argument("--num-facts", type=int, default=400)
    options.add_argument("--num-sentences", type=int, default=4000)
    given = options.parse_args()
    facts = pl.read_parquet(given.facts).filter(pl.col("n_gold") <= MOST_GOLD).sort("fact_id").sample(given.num_facts, seed=0, shuffle=True)
    filled = pl.col("query").str.replace("[MASK]", pl.col("object"), literal=True).str.replace(" .", ".", literal=True)
    facts = facts.select(pl.col("fact_id").alias("id"), filled.alias("text"), "gold_doc_ids", pl.col("predicate_label").alias("domain"))
    sentences = pl.read_parquet(given.sentences).select(pl.col("doc_id").alias("id"), "text").sort("id")
    gold = sentences.filter(pl.col("id").is_in(facts["gold_doc_ids"].explode().unique().implode()))
    others = sentences.filter(~pl.col("id").is_in(gold["id"].implode())).sample(given.num_sentences - len(gold), seed=0)
    given.folder.mkdir(parents=True, exist_ok=True)
    facts.write_parquet(given.folder / "facts.parquet")
    pl.concat([gold, others]).sample(fraction=1.0, shuffle=True, seed=0).write_parquet(given.folder / "pool.parquet")
    print(f"{len(facts)} facts, {len(gold)} sentences that state them among {given.num_sentences}, in {given.folder}")


if __name__ == "__main__":
    main()
