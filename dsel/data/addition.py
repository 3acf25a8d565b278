"""Sums with written-out steps, in groups of which some are answered at random: which groups teach addition?"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Any

import pyarrow as pa

from dsel.corpus import Documents
from dsel.data.tasks import make_documents
from dsel.error import InputError
from dsel.pool import NOISE, SRC, TGT

TARGET = "addition"
RANDOM = "random"  # the one kind of noise
NUM_ROUNDS = 4  # of the Feistel network: from 4 on it passes for random

Question = tuple[int, int]


@dataclass(frozen=True)
class Addition:
    """The addition task of the GradEx authors: two numbers of `num_digits` digits, answered by the steps from the last digit on.

    "9 7 9 9 0 + 5 3 7 2 8" is answered by "0 8", "1 1 8", "1 7 1 8" ... a line each, the carry first, and at last the sum, "1 5 1 7 1 8".
    Auxiliary tasks are `num_clean` groups `clean_00` ... and `num_noisy` groups `noisy_00` ... of `group_size` rows each; in a noisy group
    a share `noise` of the rows has uniformly random digits for an answer (`dsel_noise` is "random"). The target `addition` has `num_target`
    right rows. No question comes twice. A group's rows do not hang on how many groups there are.
    """

    num_clean: int = 12
    num_noisy: int = 8
    group_size: int = 25
    num_target: int = 1000
    num_digits: int = 5
    noise: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for key, least in (("num_clean", 0), ("num_noisy", 0), ("group_size", 1), ("num_target", 1), ("num_digits", 1)):
            if getattr(self, key) < least:
                raise InputError(f"data.{key}={getattr(self, key)}: must be at least {least}")
        if self.num_clean + self.num_noisy < 2:
            raise InputError(
                f"data.num_clean={self.num_clean}, data.num_noisy={self.num_noisy}: {self.num_clean + self.num_noisy} groups leave nothing "
                "to choose from; raise them to 2 or more in all"
            )
        if not 0 <= self.noise <= 1:
            raise InputError(f"data.noise={self.noise}: must be between 0 and 1")
        needed = 2 * max(self.num_clean, self.num_noisy) * self.group_size + self.num_target
        if needed > self._most**2:
            raise InputError(
                f"data.num_digits={self.num_digits}: there are {self._most**2} sums, too few for these groups and data.num_target="
                f"{self.num_target}, for which {needed} are kept; raise data.num_digits, or lower the others"
            )

    def identity(self) -> dict[str, Any]:
        """The options."""
        return dict(vars(self))

    def read(self) -> Documents:
        """Write the sums. Errors: none but that a task's rows have one and the same answer, as a group of 2 may."""
        auxiliary = {f"clean_{i:02d}": self._group(f"clean_{i:02d}", 2 * i, 0) for i in range(self.num_clean)}
        num_random = round(self.noise * self.group_size)
        auxiliary |= {f"noisy_{i:02d}": self._group(f"noisy_{i:02d}", 2 * i + 1, num_random) for i in range(self.num_noisy)}
        last = self._most**2 - 1
        target = _tabulate([self._question(last - row) for row in range(self.num_target)], {})
        return make_documents(auxiliary, {TARGET: target})

    @property
    def _most(self) -> int:
        """Numbers of `num_digits` digits, the first above 0."""
        return 9 * int(10 ** (self.num_digits - 1))

    def _group(self, name: str, number: int, num_random: int) -> pa.Table:
        """Questions `number * group_size` ... of all, of which `num_random` are answered at random."""
        questions = [self._question(number * self.group_size + row) for row in range(self.group_size)]
        random = Random(f"{self.seed} {name}")
        wrong = {}
        for row in sorted(random.sample(range(self.group_size), num_random)):
            right = wrong[row] = write_steps(*questions[row])
            while wrong[row] == right:  # may be right by chance where digits are few
                wrong[row] = "".join(str(random.randrange(10)) if letter.isdigit() else letter for letter in right)
        return _tabulate(questions, wrong)

    def _question(self, number: int) -> Question:
        """The `number`-th of all sums in an order that `seed` draws: a Feistel network, which gives every number a sum of its own."""
        left, right = divmod(number, self._most)
        for turn in range(NUM_ROUNDS):
            digest = blake2b(f"{self.seed} {turn} {right}".encode(), digest_size=16).digest()
            left, right = right, (left + int.from_bytes(digest)) % self._most
        return left + self._most // 9, right + self._most // 9


def write_steps(left: int, right: int) -> str:
    """The steps of `left + right` from the last digit on, a line each: the carry and the digits so far; at last the sum."""
    num_digits = len(str(left))
    steps = []
    for length in range(1, num_digits):
        carry, digits = divmod(left % 10**length + right % 10**length, 10**length)
        steps.append(f"{carry}{digits:0{length}d}")
    return "\n".join(" ".join(step) for step in [*steps, str(left + right)])


def _tabulate(questions: list[Question], wrong: dict[int, str]) -> pa.Table:
    """A task's rows; `wrong` holds the answers of those that are answered at random."""
    columns = {
        SRC: [f"{' '.join(str(left))} + {' '.join(str(right))}" for left, right in questions],
        TGT: [wrong.get(row) or write_steps(*question) for row, question in enumerate(questions)],
        NOISE: [RANDOM if row in wrong else None for row in range(len(questions))],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
