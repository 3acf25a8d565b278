"""What is being learnt: the loss of each predicted token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsel.functional.blocks import IGNORE

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LanguageModeling:
    """Next-token prediction. `tokens` (batch, time + 1); a row's padding stands at its end and is `IGNORE`."""

    def token_losses(self, model: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
        """Negative log likelihood (batch, time) in nats of tokens 1.. given those before; 0 at padding.

        Right padding needs no attention mask: under causal attention no real token sees it.
        """
        import torch.nn.functional as F

        inputs, labels = tokens[:, :-1].clamp_min(0), tokens[:, 1:]
        logits = model(input_ids=inputs, use_cache=False).logits
        losses = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE, reduction="none")
        return losses.view(labels.shape)
