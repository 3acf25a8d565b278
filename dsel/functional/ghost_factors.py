"""Gradients by matrices as what they are sums of."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Factors:
    """A matrix's gradient as a sum over tokens of rows times columns: `rows` (example, token, rows), or (example, token) the number of the
    only row of `num_rows`; `columns` (example, token, columns)."""

    rows: torch.Tensor
    columns: torch.Tensor
    num_rows: int = 0

    @property
    def num_tokens(self) -> int:
        """Of all examples."""
        return self.columns.shape[0] * self.columns.shape[1]

    @property
    def is_dense(self) -> bool:
        """Whether tokens have more than one row."""
        return self.rows.ndim == 3

    def flat(self) -> Factors:
        """All examples' tokens as those of one."""
        return Factors(self.rows.flatten(0, 1)[None], self.columns.flatten(0, 1)[None], self.num_rows)

    def times(self, other: Factors) -> torch.Tensor:
        """Inner products of tokens' parts of the gradient (example, token, token of `other`)."""
        return self._rows_times(other) * (self.columns @ other.columns.mT)

    def _rows_times(self, other: Factors) -> torch.Tensor:
        if self.is_dense and other.is_dense:
            return self.rows @ other.rows.mT
        if self.is_dense:
            return self.rows.gather(2, other.rows[:, None].expand(-1, self.rows.shape[1], -1))
        if other.is_dense:
            return other._rows_times(self).mT
        return (self.rows[:, :, None] == other.rows[:, None]).to(self.columns.dtype)

    def num_products(self, other: Factors) -> int:
        """Multiplications of `times`, flat."""
        width = self.columns.shape[2] + (self.rows.shape[2] if self.is_dense and other.is_dense else 1)
        return self.num_tokens * other.num_tokens * width

    def examples(self, which: slice) -> Factors:
        """Of these only."""
        return Factors(self.rows[which], self.columns[which], self.num_rows)

    def each(self) -> torch.Tensor:
        """Each example's matrix (example, row, column)."""
        return self.between(0, self.rows.shape[2] if self.is_dense else self.num_rows)

    def between(self, start: int, stop: int, room: torch.Tensor | None = None) -> torch.Tensor:
        """Of each example's matrix the rows from `start` to before `stop` (example, row, column), in `room`, if some is given, which is as
        large or larger."""
        num_examples, _, width = self.columns.shape
        shape = (num_examples, stop - start, width)
        found = self.columns.new_empty(shape) if room is None else room[: num_examples * (stop - start) * width].view(shape)
        if self.is_dense:
            return torch.bmm(self.rows[:, :, start:stop].mT, self.columns, out=found)
        example, token = torch.nonzero((self.rows >= start) & (self.rows < stop), as_tuple=True)
        at = example * (stop - start) + self.rows[example, token] - start
        found.zero_().view(-1, width).index_add_(0, at, self.columns[example, token])
        return found
