"""Ways from text to hashed n-grams, on one core: `python benchmarks/features.py [--quick]`. The choice of numba rests on this.

Each gives the buckets of the unigrams and bigrams of every document, lower-cased. The pre-tokenizer is given less to do: it only
cuts, and its rate is a bound from above. The floor is `wc -w`: one pass that finds the words.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
from ngrams import make_corpus, wc_rate
from rich.table import Table
from sklearn.feature_extraction.text import HashingVectorizer
from table import show_table
from tokenizers import pre_tokenizers

from dsel.functional.ngrams import Ngrams

BUCKETS = 10_000


def by_numba(texts: pa.Array) -> int:
    """Compiled code over Arrow's buffers."""
    return len(Ngrams(2, BUCKETS).buckets(texts)[0])


def by_polars(texts: pa.Array) -> int:
    """Expressions: cut by a regular expression, hash, and pair each word with the next of its document."""
    words = pl.col("text").str.to_lowercase().str.extract_all(r"\w+|[^\w\s]+")
    frame = pl.DataFrame({"text": pl.from_arrow(texts)}).lazy().select(words).with_row_index("document").explode("text")
    after = pl.col("text").shift(-1).over("document")
    pairs = frame.select((pl.col("text") + " " + after).hash() % BUCKETS).collect(engine="streaming")
    single = frame.select(pl.col("text").hash() % BUCKETS).collect(engine="streaming")
    return pairs.drop_nulls().height + single.height


def by_pre_tokenizer(texts: pa.Array) -> int:
    """The Rust pre-tokenizer of `tokenizers`: a call and a list of tuples a document."""
    cut = pre_tokenizers.Whitespace().pre_tokenize_str
    return sum(2 * len(cut(text)) - 1 for text in texts.to_pylist())


def by_scikit_learn(texts: pa.Array) -> int:
    """HashingVectorizer; words of two letters or more, without punctuation."""
    vectorizer = HashingVectorizer(ngram_range=(1, 2), n_features=BUCKETS, norm=None, alternate_sign=False)
    return int(vectorizer.transform(texts.to_pylist()).sum())


WAYS: dict[str, Callable[[pa.Array], int]] = {
    "numba": by_numba,
    "polars": by_polars,
    "tokenizers": by_pre_tokenizer,
    "sklearn": by_scikit_learn,
}


def rate(work: Callable[[pa.Array], int], texts: pa.Array, megabytes: float) -> tuple[float, int]:
    """MB a second, the better of two runs, and the n-grams found."""
    work(texts.slice(0, 100))
    taken, found = [], 0
    for _ in range(2):
        started = time.process_time()  # all threads count, so that one that takes two cores is not twice as good
        found = work(texts)
        taken.append(time.process_time() - started)
    return megabytes / min(taken), found


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; shows that it works, not how fast")
    corpus = make_corpus(500 if parser.parse_args().quick else 20_000, 100)
    texts, megabytes = pa.array(corpus.source), corpus.num_bytes / 1e6
    table = Table("way", "MB/s a core", "n-grams", title=f"{len(texts):,} documents, {megabytes:.1f} MB")
    rates = {}
    for name, work in WAYS.items():
        rates[name], found = rate(work, texts, megabytes)
        table.add_row(name, f"{rates[name]:,.1f}", f"{found:,}")
    with tempfile.TemporaryDirectory() as folder:
        rates["wc"] = wc_rate(corpus, Path(folder))
    table.add_row("wc -w", f"{rates['wc']:,.1f}", "")
    show_table(table)
    print(json.dumps({name: round(value, 2) for name, value in rates.items()}))


if __name__ == "__main__":
    main()
