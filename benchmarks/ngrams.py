"""Hashed n-grams beside the packages that people use: DSIR beside `data-selection`, the classifier beside scikit-learn and fastText.

Floors: DSIR reads each byte of the source once to fit and once to score; the floor is one pass of `wc -w` over the same bytes.
A linear classifier looks at each byte once to predict.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from overhead import in_turns
from sklearn.metrics import roc_auc_score
from table import Row

from dsel.data.installed_docs import InstalledDocs
from dsel.functional.cores import num_cores

WORDS = 100  # of a document
TURNS = 3  # that ours and a peer are timed, one after the other
TARGET = "networkx"
IN_PROCESS = (  # seconds of a selection from file to file, without those of starting Python, importing and loading compiled code
    "import sys, time\n"
    "import dsel.pipeline, dsel.data.shards, dsel.phase.write, dsel.scorer.dsir, dsel.selector.by_score\n"
    "import numpy, pyarrow\n"
    "from dsel.functional.hashing import hash_texts\n"
    "from dsel.functional.ngrams import Ngrams\n"
    "from dsel.run import main\n"
    "one = pyarrow.array(['a'])\n"
    "hash_texts(one), Ngrams().count(one), Ngrams().score(one, numpy.ones(10_000))\n"
    "started = time.perf_counter()\n"
    "main()\n"
    "print(time.perf_counter() - started)"
)


@dataclass(frozen=True)
class Corpus:
    """English documents of 100 words, those of the target, and which of the source are hidden documents of the target's kind."""

    source: Sequence[str]
    target: Sequence[str]
    hidden: npt.NDArray[np.bool_]

    @property
    def num_bytes(self) -> int:
        """Of the source, in UTF-8."""
        return sum(len(text.encode()) for text in self.source)


@cache
def make_corpus(documents: int, num_target: int) -> Corpus:
    """Cut from installed documentation, no document twice; `num_target` documents of the target are hidden in the source."""
    read = InstalledDocs(target=TARGET, num_workers=1).read()
    rng = np.random.default_rng(0)

    def cut(texts: list[str], number: int, offset: int) -> list[str]:
        words = " ".join(texts).split()
        starts = np.arange(offset, max(len(words) - WORDS, 1), WORDS)
        return [" ".join(words[start : start + WORDS]) for start in rng.permutation(starts)[:number].tolist()]

    target = list(dict.fromkeys(cut(read.target["text"].to_pylist(), 2 * num_target, 0)))
    hidden, target = target[: len(target) // 2], target[len(target) // 2 :]
    found, offset = dict.fromkeys(hidden), 0
    while len(found) < documents and offset < WORDS:  # the same words, cut elsewhere: other documents of the same kind
        found |= dict.fromkeys(cut(read.source["text"].to_pylist(), documents - len(found), offset))
        offset += 7
    source = list(found)
    order = rng.permutation(len(source)).tolist()
    return Corpus([source[i] for i in order], target, np.array([i < len(hidden) for i in order]))


def write(texts: Sequence[str], path: Path) -> Path:
    """The texts as Parquet or as JSON lines, by the name."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": list(texts)}), path, row_group_size=10_000)
    else:
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def select(folder: Path, name: str, source: Path, target: Path, *options: str) -> tuple[float, float, Path]:
    """Seconds of `dsel experiment=select` without and with the start of the process, and its output."""
    output = folder / f"{name}.parquet"
    given = ["experiment=select", f"source={source}", f"target={target}", f"output={output}", f"paths.outputs={folder / name}"]
    given += ["pipeline=[score,select,export]"]  # peers do not look at what they chose
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", IN_PROCESS, *given, *options], check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1]), time.perf_counter() - started, output


def their_dsir(folder: Path, source: Path, target: Path, number: int, top_k: bool) -> tuple[float, list[str]]:
    """Seconds of data-selection's fit, scores and resampling, and the texts that it chose."""
    from data_selection import HashedNgramDSIR

    folder.mkdir()
    started = time.perf_counter()
    peer = HashedNgramDSIR([str(source)], [str(target)], cache_dir=str(folder / "peer"), num_proc=num_cores())
    peer.fit_importance_estimator(num_tokens_to_fit="auto")
    peer.compute_importance_weights()
    peer.resample(str(folder / "chosen"), num_to_sample=number, cache_dir=str(folder / "cache"), top_k=top_k)
    taken = time.perf_counter() - started
    lines = [line for path in sorted((folder / "chosen").rglob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines()]
    return taken, [json.loads(line)["text"] for line in lines]


def wc_rate(corpus: Corpus, folder: Path) -> float:
    """The floor: MB of the source a second that `wc -w` reads and splits."""
    lines = folder / "lines.txt"
    lines.write_text("\n".join(corpus.source), encoding="utf-8")
    started = time.perf_counter()
    subprocess.run(["wc", "-w", str(lines)], check=True, capture_output=True)
    return corpus.num_bytes / 1e6 / (time.perf_counter() - started)


def measure_dsir(corpus: Corpus, peer_documents: int, folder: Path) -> Iterator[Row]:
    """Fit, score and resample from file to file, in turns; then the same top k with their features."""
    source, target = write(corpus.source, folder / "source.parquet"), write(corpus.target, folder / "target.parquet")
    part, part_target = write(corpus.source[:peer_documents], folder / "part.jsonl"), write(corpus.target, folder / "target.jsonl")
    whole = ("scorer=dsir", "split.target=1", "split.finetune=1", "split.validation=0")
    number, peer_number = len(corpus.source) // 20, peer_documents // 20
    select(folder, "warm", target, target, *whole, "budget.units=10", "split.exclude_target=false")  # compiles where nothing is cached
    spent, their_spent = [], []
    for turn in range(TURNS):
        spent.append(select(folder, f"ours{turn}", source, target, *whole, "selector.keep=sample", f"budget.units={number}"))
        their_spent.append(their_dsir(folder / f"theirs{turn}", part, part_target, peer_number, top_k=False)[0])
    inside, outside = (statistics.median(each[at] for each in spent) for at in (0, 1))
    rate, peer_rate = len(corpus.source) / inside, peer_documents / statistics.median(their_spent)
    said = f"{rate:,.0f} documents/s ({inside:.2f} s; with the start of Python {outside:.2f} s)"
    yield Row("dsir_vs_data_selection", "DSIR: fit, score, resample", said, f"data-selection {peer_rate:,.0f}", rate / peer_rate, ">= 40")
    speed, floor = corpus.num_bytes / 1e6 / inside, wc_rate(corpus, folder)
    yield Row("dsir_mb_per_s", "DSIR, MB of text a second", f"{speed:,.0f} MB/s", f"wc -w, one core: {floor:,.0f}", speed)
    yield Row("floor_mb_per_s", "its floor", f"{floor:,.0f} MB/s", "", floor)
    exact = (*whole, "scorer.python_features=true", "scorer.smoothing=1e-8", f"data.sample={len(corpus.source)}")
    _, top = their_dsir(folder / "top", part, part_target, peer_number, top_k=True)
    _, _, output = select(folder, "exact", part, part_target, *exact, f"budget.units={peer_number}")
    same = len(set(top) & set(pq.read_table(output)["text"].to_pylist())) / len(top)
    yield Row("same_top_k", "DSIR: the same top k with their features", f"{same:.4f}", f"of {len(top)} documents", same, "1")


def measure_classifier(corpus: Corpus, folder: Path) -> Iterator[Row]:
    """Predicted documents a second on one core, and AUC on the rest of the source, all fitted on the same documents.

    In memory, each package has them as it takes them: ours in an Arrow table, the others in a list of strings.
    """
    rng = np.random.default_rng(0)
    count = 5 * len(corpus.target)
    order = rng.permutation(len(corpus.source))
    train, rest = order[:count], order[count:]
    texts = [*corpus.target, *(corpus.source[i] for i in train)]
    labels = np.r_[np.ones(len(corpus.target)), np.zeros(count)]
    mixed = rng.permutation(len(texts))
    texts, labels = [texts[i] for i in mixed], labels[mixed]
    held, truth = [corpus.source[i] for i in rest], corpus.hidden[rest]
    found = {"dsel": _ours(texts, labels), "sklearn": _sklearn(texts, labels), "fasttext": _fasttext(texts, labels, folder)}
    some = {name: texts_of(name, held[:5000] if name == "sklearn" else held) for name in found}
    works = {name: partial(predict, some[name]) for name, predict in found.items()}
    rates = {name: len(some[name]) / spent for name, spent in in_turns(works, TURNS).items()}
    areas = {name: float(roc_auc_score(truth, predict(texts_of(name, held)))) for name, predict in found.items()}
    ours = f"{rates['dsel']:,.0f} documents/s on one core, AUC {areas['dsel']:.4f}"
    for name in ("sklearn", "fasttext"):
        beside = f"{name} {rates[name]:,.0f}, AUC {areas[name]:.4f}"
        yield Row(
            f"classifier_vs_{name}",
            "domain classifier: predict",
            ours,
            beside,
            rates["dsel"] / rates[name],
            ">= 10" if name == "sklearn" else "> 1",
        )
        yield Row(
            f"auc_minus_{name}", "domain classifier: AUC", f"{areas['dsel']:.4f}", f"{areas[name]:.4f}", areas["dsel"] - areas[name], ">= 0"
        )


Predict = Callable[[Any], npt.NDArray[Any]]


def texts_of(name: str, texts: Sequence[str]) -> Any:
    """The texts as the package of that name takes them."""
    return pa.table({"text": texts}) if name == "dsel" else list(texts)


def _ours(texts: Sequence[str], labels: npt.NDArray[np.float64]) -> Predict:
    from dsel.pool import Pool
    from dsel.scorer.domain_classifier import DomainClassifier

    def pool(kind: int) -> Pool:
        return Pool("x", pa.table({"text": [t for t, label in zip(texts, labels, strict=True) if label == kind]}), "x")

    class Draw:
        rng = np.random.default_rng(0)

    fitted = DomainClassifier().fit(pool(0), pool(1), Draw())  # type: ignore[arg-type]
    return lambda held: fitted(held)[:, 0]


def _sklearn(texts: Sequence[str], labels: npt.NDArray[np.float64]) -> Predict:
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(HashingVectorizer(ngram_range=(1, 2)), SGDClassifier(loss="log_loss", class_weight="balanced", random_state=0))
    model.fit(texts, labels)
    return lambda held: model.decision_function(held)  # type: ignore[no-any-return]


def _fasttext(texts: Sequence[str], labels: npt.NDArray[np.float64], folder: Path) -> Predict:
    import fasttext

    path = folder / "train.txt"
    path.write_text("".join(f"__label__{int(label)} {text}\n" for text, label in zip(texts, labels, strict=True)), encoding="utf-8")
    model = fasttext.train_supervised(str(path), wordNgrams=2, epoch=25, lr=0.5, thread=num_cores(), verbose=0)

    def predict(held: list[str]) -> npt.NDArray[Any]:
        names, chances = model.predict(held, k=2)  # a list: a single text fails under numpy 2
        return np.array([c[list(n).index("__label__1")] for n, c in zip(names, chances, strict=True)])

    return predict


def run(documents: int, peer_documents: int, num_target: int) -> list[Row]:
    """All rows."""
    corpus = make_corpus(documents, num_target)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        return [*measure_dsir(corpus, peer_documents, folder), *measure_classifier(corpus, folder)]
