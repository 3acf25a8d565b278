"""Influence of pretraining units on the fine-tuned model's loss, through both phases of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from dsel.attribution import GradientScore, Reading, mean_of
from dsel.context import Context
from dsel.error import InputError
from dsel.pool import TOKENS, Pool
from dsel.preconditioned import check_options, leading, load_vectors, save_vectors, some_of
from dsel.protocol import Curvature, FittedScore

if TYPE_CHECKING:
    import torch

    from dsel.functional.curvature import TrainingLoss
    from dsel.functional.inverse_curvature import InverseCurvature
    from dsel.functional.two_phase import TwoPhases

SIDES, KINDS = ("pretraining", "finetuning"), ("gauss_newton", "hessian")


@dataclass(frozen=True)
class MultiStageInfluence:
    """By how many nats a target unit's mean loss under the fine-tuned model rises, to first order, when a unit is left out of pretraining,
    or with `of: finetuning` out of fine-tuning (arXiv 2007.09081; larger is more helpful).

    Pretraining ended with the checkpoint of phase `pretrained` (null: that before `finetuned`, or the newest), fine-tuning with that of
    phase `finetuned` (null: the newest is tuned here on the fine-tuning part, for at most `num_steps`, as `cds` tunes; then it is asked
    about the held-out documents of the target, unless `each`). What both trained
    is held to the pretrained weights by `proximity` alpha |W - W*|^2, "updated embedding"; give the alpha of the train phase. Where
    fine-tuning trained only parameters in whose names the regular expression `trained` is found, the others are frozen, "fixed embedding".
    `kind` is that of the fine-tuning loss's mixed curvature.

    For the others see `influence`. A query takes one more inverse product and, where something was frozen, one more product with a
    curvature than under `influence`; candidates take the same.
    """

    curvature: Curvature
    pretrained: str | None = None
    finetuned: str | None = None
    of: str = "pretraining"
    proximity: float = 0.01
    trained: str | None = None
    kind: str = "gauss_newton"
    parameters: str | None = None
    each: bool = False
    per_token: bool = True
    rank: int | None = None
    sample: int = 512
    tokens_per_batch: int = 2048
    num_steps: int = 150
    batch_size: int = 8
    learning_rate: float = 3e-4
    every: int = 25
    patience: int = 2

    reads = (TOKENS,)
    num_passes = 3.0  # forward, backward, and each unit's own gradient

    def __post_init__(self) -> None:
        if self.of not in SIDES:
            raise InputError(f"scorer.of={self.of!r}: must be one of {', '.join(SIDES)}")
        if self.proximity < 0:
            raise InputError(f"scorer.proximity={self.proximity}: must be at least 0")
        if self.kind not in KINDS:
            raise InputError(f"scorer.kind={self.kind!r}: must be one of {', '.join(KINDS)}")
        check_options(self.sample, self.rank)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Precondition the target's gradients through both phases, or find them on disk."""
        from dsel.functional.gradient_products import GradientProducts
        from dsel.functional.tracked import only_trained
        from dsel.functional.two_phase import TwoPhases

        assert context.model is not None
        reading = Reading(context.objective, context.model.context, self.tokens_per_batch)
        before, after, origin = self._models(context)
        of_pretraining, asked = self.of == "pretraining", self._asked(target, context)
        samples = [some_of(pool, self.sample) for pool in (source if of_pretraining else context.pretraining, context.finetune)]
        base = (*origin, *(sample.fingerprint for sample in samples), reading.context)
        own, others = self._names(before, after)
        with only_trained(before, others), only_trained(after, own):
            losses = [reading.training_loss(model, sample) for model, sample in zip((before, after), samples, strict=True)]
            phases = TwoPhases(losses[0], losses[1], self.proximity)
            fits = self._fits(phases, own, others, context, base)

            def write(place: Path) -> None:
                names = list(dict.fromkeys([*own, *phases.frozen()]))
                queries, inverses = reading.gradients(after, asked, names), [fit() for fit in fits]
                found = phases.precondition(queries if self.each else mean_of(queries), inverses[0], inverses[1], self.kind, (own, others))
                reports = [report for inverse in inverses for report in inverse.reports]
                for side in SIDES:
                    (place / side).mkdir()
                    save_vectors(getattr(found, side), reports, place / side)

            options = (asked.fingerprint, self.each, repr(self.curvature), self.proximity, self.kind, own, others)
            folder = context.keep(base, "preconditioned", options, write)
            model, loss, sample, fit = (before, losses[0], samples[0], fits[1]) if of_pretraining else (
                after, losses[1], samples[1], fits[0])  # fmt: skip
            scale = len(sample) / (loss.num_tokens * len(source))
            vectors = load_vectors(folder / self.of, next(model.parameters()).device, "scorer multi_stage_influence", scale)
            products = GradientProducts(vectors if self.rank is None else leading(fit(), self.rank, vectors).at_low_rank(vectors))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in vectors)
        columns = len(target) if self.each else 1
        return GradientScore(model, reading, products, columns, self.per_token)

    def _asked(self, target: Pool, context: Context) -> Pool:
        """The target; where a model is tuned here on what may be the same documents, of which its loss says little, those that it has not
        seen."""
        return context.held_out if self.finetuned is None and not self.each and len(context.held_out) else target

    def _models(self, context: Context) -> tuple[torch.nn.Module, torch.nn.Module, tuple[str, ...]]:
        """The pretrained model, the fine-tuned one, and what they are known by."""
        from dsel.functional.gradients import unfreeze

        if self.finetuned is not None:
            place, names = context.checkpoint(self.finetuned), list(context.trained)  # the first is an error where it has not trained
            earlier = self.pretrained or next(iter(names[: names.index(self.finetuned)][-1:]), None)
            if earlier is None:
                raise InputError(f"scorer.finetuned={self.finetuned}: nothing was trained before it; give a run that pretrained as well")
            origin = context.checkpoint(earlier).name, place.name
            return unfreeze(context.load(earlier)), unfreeze(context.load(self.finetuned)), origin
        start = context.checkpoint(self.pretrained).name
        before = unfreeze(context.load(self.pretrained))
        options = (self.num_steps, self.batch_size, self.learning_rate, self.every, self.patience)
        return before, unfreeze(context.tune(context.finetune, *options)), (start, context.finetune.fingerprint, repr(options))

    def _names(self, before: torch.nn.Module, after: torch.nn.Module) -> tuple[list[str], list[str]]:
        """The parameters that fine-tuning trained and that pretraining did, of those that are looked at. Errors: none was trained."""
        import re

        from dsel.functional.tracked import tracked_names

        own, others = (tracked_names(model, self.parameters, self.curvature.linear_only) for model in (after, before))
        left = [name for name in own if self.trained is None or re.search(self.trained, name)]
        if not left:
            known = ", ".join(own[:4])
            raise InputError(f"scorer.trained={self.trained}: is found in none of {len(own)} parameters' names ({known} ...)")
        return left, others

    def _fits(
        self, phases: TwoPhases, own: list[str], others: list[str], context: Context, base: tuple[object, ...]
    ) -> tuple[Callable[[], InverseCurvature], Callable[[], InverseCurvature]]:
        """What makes the inverses of fine-tuning and of pretraining, when they are needed, once."""

        def fit(loss: TrainingLoss, names: list[str], more: dict[str, float], phase: str) -> Callable[[], InverseCurvature]:
            return cache(lambda: self.curvature.fit(loss, names, more, context.seed, partial(context.keep, (base, phase))))

        return (
            fit(phases.finetuning, own, phases.finetuning_damping(0.0), "finetuning"),
            fit(phases.pretraining, others, {}, "pretraining"),
        )
