"""EK-FAC influence by kronfluence (`pip install --no-deps kronfluence==1.0.1`, then einops, einconv and opt_einsum) for `influence.py`.

What it computes for a linear layer with weight (out, in) and a bias, from example n's tokens t: inputs a_nt (in + 1), whose last number is
a one, and gradients g_nt (out) of the SUM of the example's token losses by the layer's outputs. G_n = sum_t g_nt a_nt' (out, in + 1) is the
example's gradient, no mean over tokens or batch.

- Covariances: A = sum_nt a_nt a_nt' / (number of tokens), S = sum_nt g_nt g_nt' / (the same), neither centred nor damped, in float32.
- Eigenvectors Q_A, Q_S of (C + C') / 2 in float64, rounded to float32. Eigenvalues are neither clamped nor used: scales do not matter.
- lambda_ij = sum_n (Q_S' G_n Q_A)_ij^2 / (number of examples; not of tokens), summed in float32, divided in float64. With
  `use_empirical_fisher` from the true next tokens, else from tokens drawn from the model, anew for the covariances and for lambda.
- Damping is added to this lambda: a number for all layers, or None: each layer's 0.1 mean_ij(lambda_ij).
- P_q = Q_S [(Q_S' G_q Q_A) / (lambda + damping)] Q_A' for a query's gradient G_q of its measurement, in float32.
- score(q, n) = + sum over layers of <P_q, G_n>: no minus, no 1 / N. As measurement and loss both are losses: above zero, the example helps.
- rank: P_q of each query and layer is `torch.svd_lowrank(P_q, q=rank)` (random, 2 power iterations, no oversampling: drawn from the
  seed; not the best approximation) or, with `full_svd`, the truncated SVD; layers with min(out, in + 1) <= rank stay as they are.
- Embeddings, layer norms and `lm_head` have no part in it. Dropout is off. Any kernel of attention will do.
"""

from __future__ import annotations

import copy
import gc
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import kronfluence
import numpy as np
import numpy.typing as npt
import torch
import transformers
from kronfluence.arguments import FactorArguments, ScoreArguments
from torch.utils.data import TensorDataset
from transformers.pytorch_utils import Conv1D

BLOCKS = r"transformer\.h\.\d+\.(attn|mlp)\.c_\w+"


class Seconds(NamedTuple):
    """What the factors took; `sum` is all of it."""

    covariance: float
    eigen: float
    lambdas: float


def swap_conv1d(model: transformers.GPT2LMHeadModel) -> transformers.GPT2LMHeadModel:
    """A copy with an equal `nn.Linear` for each `Conv1D`, whose weight is (in, out)."""
    model = copy.deepcopy(model)
    for name, old in [(name, it) for name, it in model.named_modules() if isinstance(it, Conv1D)]:
        new = torch.nn.Linear(old.nx, old.nf, device="meta")
        new.weight, new.bias = torch.nn.Parameter(old.weight.data.T.contiguous()), old.bias
        model.set_submodule(name, new)
    return model


def prepare(model: transformers.GPT2LMHeadModel, layers: str | Sequence[str] = BLOCKS) -> transformers.GPT2LMHeadModel:
    """Such a copy, frozen, in which kronfluence follows the linear layers of these names, or those that a pattern matches in full."""
    model = swap_conv1d(model)
    if isinstance(layers, str):
        layers = [name for name, it in model.named_modules() if isinstance(it, torch.nn.Linear) and re.fullmatch(layers, name)]
    return kronfluence.prepare_model(model, NextTokens(layers))


class NextTokens(kronfluence.Task):  # type: ignore[misc]
    """The sum of the losses of tokens (example, time + 1) after the first one, as training loss and as measurement."""

    def __init__(self, layers: Sequence[str]) -> None:
        self.layers = list(layers)

    def compute_train_loss(self, batch: list[torch.Tensor], model: torch.nn.Module, sample: bool = False) -> torch.Tensor:
        (tokens,) = batch
        logits = model(tokens[:, :-1], use_cache=False).logits.flatten(0, 1)
        labels = _draw(logits.detach()) if sample else tokens[:, 1:].flatten()
        return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")

    def compute_measurement(self, batch: list[torch.Tensor], model: torch.nn.Module) -> torch.Tensor:
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self) -> list[str]:
        return self.layers


def _draw(logits: torch.Tensor) -> torch.Tensor:
    """A token (row,) of each row's distribution; `multinomial`, which draws for each token of the vocabulary, takes ten times as long."""
    sums = logits.softmax(-1).cumsum_(-1)
    return torch.searchsorted(sums, torch.rand(len(sums), 1) * sums[:, -1:]).squeeze(-1).clamp_(max=logits.shape[-1] - 1)


class Peer:
    """`fit`, then `score`, in a `with` block, which removes its files. The training set is read once a batch of queries (None: all)."""

    def __init__(
        self,
        model: transformers.GPT2LMHeadModel,
        layers: str | Sequence[str] = BLOCKS,
        *,
        use_empirical_fisher: bool = False,
        damping: float | None = None,
        factor_batch: int = 32,
        train_batch: int = 32,
        query_batch: int | None = None,
        seed: int = 0,
    ) -> None:
        self.factor_args = FactorArguments(strategy="ekfac", use_empirical_fisher=use_empirical_fisher)
        self.damping, self.factor_batch, self.train_batch, self.query_batch = damping, factor_batch, train_batch, query_batch
        self.seed, self.folder = seed, tempfile.TemporaryDirectory()
        where = {"cpu": True, "disable_tqdm": True, "output_dir": self.folder.name}
        self.analyzer = kronfluence.Analyzer("peer", prepare(model, layers), NextTokens([]), **where)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()

    def fit(self, train_tokens: torch.Tensor) -> Seconds:
        """Factors of these tokens (example, time + 1)."""
        args = {"factor_args": self.factor_args, "overwrite_output_dir": True}
        data = "factors", TensorDataset(train_tokens), self.factor_batch
        covariance = self._clock(partial(self.analyzer.fit_covariance_matrices, *data, **args), self.seed)
        eigen = self._clock(partial(self.analyzer.perform_eigendecomposition, "factors", **args), self.seed)
        return Seconds(covariance, eigen, self._clock(partial(self.analyzer.fit_lambda_matrices, *data, **args), self.seed + 1))

    def score(
        self, query_tokens: torch.Tensor, train_tokens: torch.Tensor, rank: int | None = None, full_svd: bool = False
    ) -> tuple[float, npt.NDArray[np.float32]]:
        """Seconds, with those of reading the factors, and scores (query, example)."""
        args = ScoreArguments(damping_factor=self.damping, query_gradient_low_rank=rank, use_full_svd=full_svd)
        data = TensorDataset(query_tokens), TensorDataset(train_tokens), self.query_batch or len(query_tokens), self.train_batch
        work = partial(self.analyzer.compute_pairwise_scores, "scores", "factors", *data, score_args=args, overwrite_output_dir=True)
        seconds = self._clock(work, self.seed)
        return seconds, self.analyzer.load_pairwise_scores("scores")["all_modules"].numpy()

    def _clock(self, work: Callable[[], None], seed: int) -> float:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # of a name that torch has deprecated
            torch.manual_seed(seed)
            gc.collect()
            gc.freeze()  # it collects garbage, twice a call or more: .2 s each over all that is imported, which is not its work
            started = time.perf_counter()
            work()
            spent = time.perf_counter() - started
            gc.unfreeze()
        return spent
