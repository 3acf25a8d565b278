"""Masked language modelling: the loss of tokens that were hidden, given all others."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dsel.error import InputError
from dsel.functional.blocks import IGNORE
from dsel.functional.token_losses import token_losses, wide
from dsel.objective.language_modeling import LanguageModeling

MASKED, RANDOM = 0.8, 0.1  # of the hidden tokens: shown as a mask, as another token; the others are shown as they are


@dataclass(frozen=True)
class MaskedLanguageModeling(LanguageModeling):
    """A batch is tokens (batch, time + 1), of which a share `hidden` is to be found (arXiv 1810.04805). Which ones hangs on the batch
    alone: measured twice, a model has the same loss."""

    hidden: float = 0.15

    def token_losses(self, model: torch.nn.Module, batch: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
        """Negative log likelihood (batch, time + 1) in nats of the hidden tokens; 0 elsewhere."""
        logits, labels = self.outputs(model, batch)
        losses: torch.Tensor = logits.new_zeros(batch.shape, dtype=wide(logits[..., 0]).dtype)
        losses[self.predicted(batch)] = token_losses(logits, labels, smoothing)[0]
        return losses

    def outputs(self, model: torch.nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores of the hidden tokens (1, hidden, vocabulary), of all rows, and these tokens."""
        hidden, luck = self.predicted(batch), _luck(batch, 1)
        vocab_size, mask = (_number(model, name) for name in ("vocab_size", "mask_token_id"))
        other = (_luck(batch, 2) * vocab_size).long()
        shown = batch.masked_fill(hidden & (luck < MASKED), mask)
        shown = torch.where(hidden & (luck >= 1 - RANDOM), other, shown)
        real = batch != IGNORE
        states = model.base_model(input_ids=shown.clamp_min(0), attention_mask=real.long()).last_hidden_state  # type: ignore[operator]
        logits = head_of(model)(states[hidden])  # of the hidden tokens only: the head is half of a small model
        return logits[None], batch[hidden][None]

    def predicted(self, batch: torch.Tensor) -> torch.Tensor:
        """Which tokens are hidden (batch, time + 1); one at least of each row."""
        luck = _luck(batch, 0).masked_fill(batch == IGNORE, 2.0)
        hidden: torch.Tensor = (luck < self.hidden) | (luck == luck.min(1, keepdim=True).values)
        return hidden & (batch != IGNORE)


def head_of(model: torch.nn.Module) -> torch.nn.Module:
    """What makes of states the scores of tokens. Errors: the model has none that is known."""
    for name in ("cls", "lm_head", "predictions"):
        if isinstance(head := getattr(model, name, None), torch.nn.Module):
            return head
    raise InputError(f"objective MaskedLanguageModeling: {type(model).__name__} has no head of tokens; give model=masked_lm")


def _number(model: torch.nn.Module, name: str) -> int:
    value = getattr(model.config, name, None)
    if not isinstance(value, int):
        raise InputError(f"objective MaskedLanguageModeling: the model's config has {name}={value}; write it into its config.json")
    return value


def _luck(batch: torch.Tensor, purpose: int) -> torch.Tensor:
    """Numbers from 0 to 1 of the batch's shape, drawn from its tokens."""
    seed = int((batch.cpu() * torch.arange(1, batch.numel() + 1).view(batch.shape)).sum()) & 0x7FFF_FFFF
    generator = torch.Generator().manual_seed(3 * seed + purpose)
    return torch.rand(batch.shape, generator=generator).to(batch.device)
