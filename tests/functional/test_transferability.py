from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine, jaccard
from scipy.stats import entropy

from dsel.error import InputError
from dsel.functional import transferability
from dsel.functional.transferability import fisher_cosine, leep, mean_cosine, nce, vocabulary_overlap


def test_leep_equals_its_formula() -> None:
    rng = np.random.default_rng(0)
    theta, labels = rng.dirichlet(np.ones(4), size=30), rng.integers(0, 3, 30)
    theta[:, 2] = 0.0  # a source class that no row has
    theta /= theta.sum(1, keepdims=True)
    total = 0.0
    for row in range(30):
        likelihood = 0.0
        for z in (0, 1, 3):
            joint = sum(theta[other, z] for other in range(30) if labels[other] == labels[row]) / 30
            likelihood += joint / (sum(theta[:, z]) / 30) * theta[row, z]
        total += np.log(likelihood)
    assert leep(theta, labels) == pytest.approx(total / 30)


def test_leep_by_hand() -> None:
    theta = np.array([[0.9, 0.1], [0.8, 0.2]])
    expected = np.mean([np.log(0.9 * 0.9 / 1.7 + 0.1 * 0.1 / 0.3), np.log(0.8 * 0.8 / 1.7 + 0.2 * 0.2 / 0.3)])
    assert leep(theta, np.array([0, 1])) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40))
def test_nce_is_the_joint_entropy_less_that_of_the_source(pairs: list[tuple[int, int]]) -> None:
    source, labels = np.array(pairs).T
    _, joint = np.unique(np.array(pairs), axis=0, return_counts=True)
    assert nce(source, labels) == pytest.approx(entropy(np.bincount(source)) - entropy(joint), abs=1e-12)
    one_hot = np.eye(5)[source]
    assert leep(one_hot, labels) == pytest.approx(nce(source, labels), abs=1e-12)  # of sure predictions, the two are the same


def test_nce_of_what_the_source_tells_is_zero() -> None:
    source = np.array([0, 1, 2, 2, 1])
    assert nce(source, np.array([1, 0, 1, 1, 0])) == 0.0
    assert nce(np.zeros(4, int), np.array([0, 1, 0, 1])) == pytest.approx(-np.log(2))


def test_overlap_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 30, 20), rng.integers(0, 30, 25)
    present = [np.isin(np.arange(30), some) for some in (a, b)]
    assert vocabulary_overlap(a, b) == pytest.approx(1 - jaccard(*present))
    assert vocabulary_overlap({"a", "b"}, ["b", "c", "c"]) == pytest.approx(1 / 3)
    assert vocabulary_overlap({"a"}, set()) == 0.0
    with pytest.raises(InputError, match="neither task has any"):
        vocabulary_overlap([], np.array([]))


def test_cosines_equal_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(9, 6)).astype(np.float32), rng.normal(size=(4, 6)) + 1
    expected = 1 - cosine(a.astype(float).mean(0), b.mean(0))
    assert mean_cosine(a, b) == pytest.approx(expected)
    fisher = rng.random((2, 50)).astype(np.float32) ** 4
    for chunk in (1 << 20, 7):
        monkeypatch.setattr(transferability, "CHUNK", chunk)
        assert fisher_cosine(*fisher) == pytest.approx(1 - cosine(*fisher.astype(float)))
        assert fisher_cosine(fisher[0] * np.float64(1e-200), fisher[1]) == pytest.approx(1 - cosine(*fisher.astype(float)))


def test_bad_input_is_named() -> None:
    probabilities, labels = np.full((3, 2), 0.5), np.array([0, 1, 1])
    broken = np.where(np.arange(3)[:, None] == 1, np.nan, probabilities)
    for bad, message in [(broken, "row 1: its source probabilities sum to nan"), (probabilities * 3, r"row 0: .* sum to 3\.0")]:
        with pytest.raises(InputError, match=message):
            leep(bad, labels)
    with pytest.raises(InputError, match=r"source probabilities \(2, 2\) and labels \(3,\)"):
        leep(probabilities[:2], labels)
    with pytest.raises(InputError, match="row 2: its value among the labels is -1"):
        nce(labels, np.array([0, 1, -1]))
    with pytest.raises(InputError, match="source labels: float64"):
        nce(labels * 1.0, labels)
    with pytest.raises(InputError, match=r"source labels \(3,\) and labels \(2,\)"):
        nce(labels, labels[:2])
    with pytest.raises(InputError, match="row 1 of the second task"):
        mean_cosine(probabilities, broken)
    with pytest.raises(InputError, match="mean embedding of the first task: all zero"):
        mean_cosine(np.zeros((2, 2)), probabilities)
    with pytest.raises(InputError, match=r"embeddings \(3, 2\) and \(3, 1\)"):
        mean_cosine(probabilities, probabilities[:, :1])
    with pytest.raises(InputError, match="parameter 1 of the second task: Fisher information nan"):
        fisher_cosine(np.ones(3), np.array([1.0, np.nan, 1.0]))
    with pytest.raises(InputError, match=r"parameter 0 of the first task: Fisher information -1\.0"):
        fisher_cosine(-np.ones(3), np.ones(3))
    with pytest.raises(InputError, match="of the second task: all zero"):
        fisher_cosine(np.ones(3), np.zeros(3))
    with pytest.raises(InputError, match=r"\(3,\) and \(2,\)"):
        fisher_cosine(np.ones(3), np.ones(2))
