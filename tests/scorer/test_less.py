"""LESS against plain autograd and the optimizer's state as it stands on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.errors import InstantiationException
from laboratory import Lab
from safetensors.numpy import load_file
from test_gradient_similarity import Floats, Loops, assert_near, of_lengths, projected, units
from test_tracin import learning_rates, snapshot_folders, trained

from dsel.error import InputError
from dsel.pool import Pool
from dsel.scorer.less import Less

BETAS, EPS = (0.8, 0.95), 1e-6


@pytest.fixture(scope="module")
def early(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return trained(lab, tmp_path_factory.mktemp("early"))


def moments(folder: Path, loops: Loops) -> tuple[Floats, Floats]:
    """Running means of gradients and of squares (parameter,), one parameter after the other as the optimizer has them."""
    state, every = load_file(folder / "optimizer.safetensors"), [name for name, _ in loops.model.named_parameters()]
    first, second = (
        np.concatenate([state[f"{every.index(name)}/{key}"].ravel() for name in loops.names]) for key in ("exp_avg", "exp_avg_sq")
    )
    return first.astype(np.float64), second.astype(np.float64)


def steps(loops: Loops, pool: Pool, means: tuple[Floats, Floats]) -> Floats:
    """Adam's on each document: on each window's mean loss, weighed by its tokens (document, parameter)."""
    found = []
    for unit, gradients in zip(loops.windows(pool), loops.window_gradients(pool), strict=True):
        lengths = np.array([len(window) - 1 for window in unit])
        mean = gradients / lengths[:, None]
        each = (BETAS[0] * means[0] + (1 - BETAS[0]) * mean) / np.sqrt(BETAS[1] * means[1] + (1 - BETAS[1]) * mean**2 + EPS)
        found.append(lengths @ each / lengths.sum())
    return np.stack(found)


@pytest.mark.parametrize("pattern", [None, r"attn\.c_proj|ln_f"])
def test_equals_a_loop_over_snapshots(early: Lab, pattern: str | None) -> None:
    """To the last digits under the same projection, and about what whole gradients give."""
    probe, target, dim = of_lengths(early.source, 3, 1), of_lengths(early.target, 2, 1), 8192
    want, exact = np.zeros((4, 3)), np.zeros((4, 3))
    means = np.zeros((4, 1))
    context = early.context()
    for place, rate in zip(snapshot_folders(early), learning_rates(), strict=True):
        loops = Loops.of(early, pattern or ".", place)
        own, queries = steps(loops, probe, moments(place, loops)), loops.gradients(target, is_mean=True)
        few, wanted = (projected(rows, dim, context.seed) for rows in (own, queries))
        want += rate * units(few) @ units(wanted).T
        means += rate * units(few) @ units(wanted.mean(0, keepdims=True)).T
        exact += rate * units(own) @ units(queries).T
    options: dict[str, Any] = {"parameters": pattern, "dim": dim, "beta1": BETAS[0], "beta2": BETAS[1], "eps": EPS}
    found = Less(**options, each=True).fit(early.source, target, context)(probe.table)
    assert_near(found, want)
    np.testing.assert_allclose(found, exact, atol=5 / np.sqrt(dim) * sum(learning_rates()))
    assert_near(Less(**options, phase="early").fit(early.source, target, context)(probe.table), means)


def test_without_snapshots_it_is_the_end_of_training(lab: Lab) -> None:
    """With the state that the checkpoint has, at a rate of 1."""
    (folder, probe, context) = lab.state.checkpoint_of("pretrain"), of_lengths(lab.source, 3, 1), lab.context()
    assert folder is not None
    loops = Loops.of(lab)
    own, queries = steps(loops, probe, moments(folder, loops)), loops.gradients(lab.target, is_mean=True)
    want = units(projected(own, 512, context.seed)) @ units(projected(queries, 512, context.seed)).T
    scorer = Less(phase="pretrain", dim=512, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, each=True)
    assert_near(scorer.fit(lab.source, lab.target, context)(probe.table), want)


@pytest.mark.parametrize("count", [1, 0])
def test_parameters_that_were_not_trained_have_no_part(lab: Lab, tmp_path: Path, count: int) -> None:
    """Of a phase that trains some only, with a snapshot or without: those with their own running means, by the optimizer's order."""
    names = r"\.ln_"
    own = trained(lab, tmp_path, start="weights", parameters=names, snapshots=count)
    (place,) = snapshot_folders(own) if count else [tmp_path]
    probe, context, loops = of_lengths(lab.source, 2, 0), own.context(), Loops.of(own, names, place)
    state, every = load_file(place / "optimizer.safetensors"), range(len(loops.names))
    assert len(state) == 3 * len(loops.names)
    means = [np.concatenate([state[f"{number}/{key}"] for number in every]).astype(np.float64) for key in ("exp_avg", "exp_avg_sq")]
    few = projected(steps(loops, probe, (means[0], means[1])), 512, context.seed)
    wanted = projected(loops.gradients(own.target, is_mean=True), 512, context.seed)
    scorer = Less(dim=512, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, each=True)
    rate = next(iter(context.snapshots(None))).learning_rate
    assert_near(scorer.fit(own.source, own.target, context)(probe.table), rate * units(few) @ units(wanted).T)


def test_a_document_without_a_token_scores_zero_and_is_no_target(early: Lab) -> None:
    fitted = Less(dim=256).fit(early.source, early.target, early.context())
    assert fitted(early.pool(["", "The pilot"]).table)[0, 0] == 0
    with pytest.raises(InputError, match=r"probe: row 1, id '1' \(1 such rows\): it has no token that is predicted"):
        Less(dim=256, each=True).fit(early.source, early.pool(["The pilot", ""]), early.context())


@pytest.mark.parametrize("snapshots", [0, 2])
@pytest.mark.parametrize("how", ["sgd", "lora"])
def test_without_running_means_it_is_an_error(lab: Lab, tmp_path: Path, how: str, snapshots: int) -> None:
    sgd: dict[str, Any] = {"optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 1e-2}}
    lora: dict[str, Any] = {"lora": {"r": 2, "target_modules": ["c_attn"]}, "start": "weights"}

    def train_and_score() -> None:
        own = trained(lab, tmp_path, how, snapshots=snapshots, **(sgd if how == "sgd" else lora))
        Less().fit(own.source, own.target, own.context())

    message = "its training kept no mean squares of gradients; train with optimizer=adamw, and without lora"
    refused = InstantiationException if snapshots and how == "lora" else InputError  # before anything is trained
    with pytest.raises(refused, match="lora" if snapshots else message):
        train_and_score()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phase": "nobody"}, r"phases\.score: .*phase 'nobody'.*trained so far: pretrain"),
        ({"parameters": "nothing"}, r"scorer\.parameters=nothing: is found in no trained parameter's name"),
        ({"dim": 0}, r"dim=0: must be from 1"),
    ],
)
def test_wrong_options_are_named(lab: Lab, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Less(**options).fit(lab.source, lab.target, lab.context())
