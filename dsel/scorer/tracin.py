"""TracIn: gradients' inner products along the way that training took."""

from __future__ import annotations

from dataclasses import dataclass

from dsel.attribution import GradientScore, Reading, WeightedSum, mean_of
from dsel.context import Context
from dsel.pool import TOKENS, Pool
from dsel.protocol import FittedScore


@dataclass(frozen=True)
class TracIn:
    """score(z) = the sum over checkpoints of learning rate times <grad loss(z), grad f>, f a target unit's mean loss and loss(z) the unit's
    sum over tokens (TracInCP, arXiv 2002.08484).

    The checkpoints are the snapshots of phase `phase` (null: the newest that has trained), which `phases.NAME.snapshots` has kept, and its
    end. `each`: a column for every unit of the target, else their mean. `per_token`: of z's mean token loss.
    """

    phase: str | None = None
    parameters: str | None = None
    each: bool = False
    per_token: bool = True
    tokens_per_batch: int = 2048

    reads = (TOKENS,)
    num_passes = 3.0  # forward, backward, and each unit's own gradient; how many snapshots there are the fitted score knows

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Take the target's gradients at each checkpoint."""
        from dsel.functional.gradient_products import GradientProducts
        from dsel.functional.tracked import tracked_names

        assert context.model is not None
        reading = Reading(context.objective, context.model.context, self.tokens_per_batch)
        parts, rates = [], []
        for snapshot in context.snapshots(self.phase):
            model = snapshot.model
            names = [name for name in tracked_names(model, self.parameters, linear_only=False) if name in snapshot.trained]
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name in names)
            queries = reading.gradients(model, target, names)
            products = GradientProducts(queries if self.each else mean_of(queries))
            parts.append(GradientScore(model, reading, products, len(target) if self.each else 1, self.per_token))
            rates.append(snapshot.learning_rate)
        return WeightedSum(tuple(parts), tuple(rates))
