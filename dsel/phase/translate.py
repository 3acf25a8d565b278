"""Translate: BLEU and chrF of the newest checkpoint's beam search."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dsel.context import World
from dsel.error import InputError
from dsel.pool import DOMAIN, SRC, TGT, Pool
from dsel.progress import progress
from dsel.state import State

if TYPE_CHECKING:
    import torch

METRICS, SENTENCES = "metrics.json", "translations.parquet"
ROOM = 10  # tokens that a translation may have beyond twice its source


@dataclass(frozen=True)
class Translate:
    """Measures `bleu_<suffix>` and `chrf_<suffix>` on the target's test pairs, and `pool_bleu_<suffix>` on pairs of the pool that were held
    out and are right: another domain, where the target is one. By sacreBLEU, whose signatures stand beside the numbers.

    At most `max_pairs` of each part are translated, evenly from the whole, by beam search over `num_beams`.
    """

    suffix: str
    checkpoint: str | None = None
    num_beams: int = 4
    max_pairs: int = 1000
    tokens_per_batch: int = 2048

    needs_checkpoint = True
    trains = False

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write metrics.json and translations.parquet: part, src, tgt, domain and the model's `hypothesis`."""
        from dsel.training.checkpoint import load_model

        trained = state.checkpoint_of(self.checkpoint)
        if trained is None:
            raise InputError(f"phases.{world.name}.checkpoint={self.checkpoint}: no phase of that name has trained before it")
        if SRC not in world.corpus.test.table.column_names:
            raise InputError(f"phases.{world.name}: the target has no pairs to translate; give data with src and tgt, or take it out")
        model, parts = load_model(trained), {"": world.corpus.test, "pool_": world.corpus.holdout}
        if not getattr(model.config, "is_encoder_decoder", False):
            raise InputError(f"phases.{world.name}: model= is no encoder-decoder, such as mt_tiny; give one, or take the phase out")
        metrics: dict[str, Any] = {}
        tables = []
        for prefix, pool in parts.items():
            if not len(pool):
                continue
            some = pool.take(np.unique(np.linspace(0, len(pool) - 1, min(self.max_pairs, len(pool))).astype(np.int64)))
            hypotheses = self._translate(model, some, world)
            metrics |= {
                f"{prefix}{name}_{self.suffix}": value for name, value in corpus_scores(hypotheses, some.table[TGT].to_pylist()).items()
            }
            kept = [name for name in (SRC, TGT, DOMAIN) if name in some.table.column_names]
            tables.append(some.table.select(kept).append_column("part", pa.array([prefix or "target"] * len(some))))
            tables[-1] = tables[-1].append_column("hypothesis", pa.array(hypotheses, pa.string()))
        pq.write_table(pa.concat_tables(tables, promote_options="default"), folder / SENTENCES)
        (folder / METRICS).write_text(json.dumps(metrics | {"signatures": signatures()}, indent=1), encoding="utf-8")
        return {"translated_pairs": sum(len(table) for table in tables)}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the metrics."""
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        return state.with_metrics(**{name: value for name, value in metrics.items() if name != "signatures"})

    def _translate(self, model: torch.nn.Module, pool: Pool, world: World) -> list[str]:
        """The model's translation of each pair's source (pair,)."""
        import torch

        assert world.model is not None
        assert world.tokenizer is not None
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model, found = model.to(device), [""] * len(pool)
        with progress(world.name, len(pool), "sentences") as bar, torch.inference_mode():
            for which, source in self._sources(pool, world):
                given = torch.from_numpy(source).to(device)
                ids = model.generate(  # type: ignore[operator]
                    input_ids=given.clamp_min(0), attention_mask=(given >= 0).long(), num_beams=self.num_beams, do_sample=False,
                    max_new_tokens=min(world.model.context, 2 * given.shape[1] + ROOM),
                )  # fmt: skip
                for at, text in zip(which.tolist(), world.tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
                    found[at] = text
                bar.advance(len(which))
        return found

    def _sources(self, pool: Pool, world: World) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        from dsel.functional.pairs import by_length, rectangle
        from dsel.objective.pairs import ragged

        assert world.model is not None
        source, _ = ragged(world.tokenized(pool).table)
        for which in by_length(source.lengths.clip(max=world.model.context), self.tokens_per_batch // self.num_beams):
            yield which, rectangle(source, which, world.model.context)


def corpus_scores(hypotheses: list[str], references: list[str]) -> dict[str, float]:
    """BLEU and chrF, from 0 to 100."""
    from sacrebleu import BLEU, CHRF

    return {"bleu": BLEU().corpus_score(hypotheses, [references]).score, "chrf": CHRF().corpus_score(hypotheses, [references]).score}


def signatures() -> dict[str, str]:
    """What sacreBLEU calls the two."""
    from sacrebleu import BLEU, CHRF

    found = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        metric.corpus_score(["a"], [["a"]])
        found[name] = str(metric.get_signature())
    return found
