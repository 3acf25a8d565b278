"""How a pretraining example acts on a fine-tuned model's prediction: the implicit function theorem through both (arXiv 2007.09081)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from dsel.error import InputError
from dsel.functional.alignment import trainable
from dsel.functional.curvature import TrainingLoss, Vectors
from dsel.functional.inverse_curvature import InverseCurvature
from dsel.functional.tracked import only_trained


@dataclass(frozen=True)
class PreconditionedQueries:
    """What examples' gradients are multiplied with, by name of a parameter of each phase's model. <`pretraining`, gradient of an example's
    loss> is by how much the query's loss rises, times the number of examples, when the example is left out of pretraining (to first order);
    `finetuning` likewise."""

    pretraining: Vectors
    finetuning: Vectors


@dataclass(frozen=True)
class TwoPhases:
    """Pretraining to the optimum of G, then fine-tuning to that of F + `proximity` |W - W*|^2 over the parameters W that both train.

    A parameter of the fine-tuned model is shared and trained on (W, "updated embedding"), shared and frozen (W_f, "fixed embedding"), or
    the fine-tuning's own (Theta); one that only pretraining trains is its head (U). With B = W and Theta, q = (F_BB + 2 proximity on W)^-1
    grad_B f, the query's gradient by W* is v = 2 proximity q_W on W and grad f - F_{W_f B} q on W_f, and what comes out is G^-1 (v, 0).
    Without W_f this is the paper's updated case, without W its fixed one. Which parameters are trained is told by `requires_grad`.
    """

    pretraining: TrainingLoss
    finetuning: TrainingLoss
    proximity: float = 0.0

    def frozen(self) -> list[str]:
        """Shared parameters that fine-tuning leaves as they are."""
        before, now = trainable(self.pretraining.model), trainable(self.finetuning.model)
        return [name for name, _ in self.finetuning.model.named_parameters() if name in before and name not in now]

    def updated(self) -> list[str]:
        """Shared parameters that fine-tuning trains on."""
        before = trainable(self.pretraining.model)
        return [name for name in trainable(self.finetuning.model) if name in before]

    def finetuning_damping(self, damping: float) -> dict[str, float]:
        """What is added to the diagonal of F's curvature, by name: that of the proximity beside `damping`."""
        updated = set(self.updated())
        return {name: damping + 2 * self.proximity * (name in updated) for name in trainable(self.finetuning.model)}

    def precondition(
        self,
        queries: Mapping[str, torch.Tensor],
        after: InverseCurvature,
        before: InverseCurvature,
        kind: str = "hessian",
        known: tuple[list[str], list[str]] | None = None,
    ) -> PreconditionedQueries:
        """Of `queries`, gradients of queries' losses by the fine-tuned model's parameters (query, *shape), trained or frozen ones.

        `after` and `before` are the inverses of F's curvature with `finetuning_damping`, and of G's; `known` says of which parameters,
        where not of all. `kind` is that of F's mixed curvature. Errors: nothing that pretraining trained has a part in the fine-tuned
        model's prediction, as with proximity 0 and nothing frozen.
        """
        own, others = known or (list(trainable(self.finetuning.model)), list(trainable(self.pretraining.model)))
        frozen = [name for name in self.frozen() if name in others]
        updated = [name for name in self.updated() if name in others and name in own]
        if not frozen and not (updated and self.proximity):
            raise InputError(
                f"scorer.proximity={self.proximity}: with it, and with no frozen parameters, the fine-tuned model forgets all of "
                "pretraining in the limit, and no example of it has an influence; set scorer.proximity above 0"
            )
        turned = after.solve({name: queries[name] for name in own})
        moved = {name: 2 * self.proximity * turned[name] for name in updated}
        if frozen:
            with only_trained(self.finetuning.model, [*own, *frozen]):
                mixed = self.finetuning.curvature_times(turned, kind, frozen)
            moved |= {name: queries[name] - mixed[name] for name in frozen}
        parameters, count = trainable(self.pretraining.model, others), len(next(iter(queries.values())))
        zeros = {name: torch.zeros_like(p).expand(count, *p.shape) for name, p in parameters.items() if name not in moved}
        return PreconditionedQueries(before.solve(moved | zeros), turned)
