"""Losses of answers against texts one at a time, without padding."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from dsel.functional.blocks import IGNORE
from dsel.objective.instruction import Instruction
from dsel.objective.pairs import Pairs


def test_an_answer_is_read_after_its_question() -> None:
    torch.manual_seed(0)
    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=16, vocab_size=20, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).eval()
    rows = [([0, 5, 6, 7], [0, 3, 4]), ([0, 9], [0, 11, 12, 13, 1]), ([0], [0, 1])]
    batch = Pairs(*(torch.tensor([side + [IGNORE] * (5 - len(side)) for side in sides]) for sides in zip(*rows, strict=True)))
    losses = Instruction().token_losses(model, batch)
    assert Instruction().predicted(batch).sum(1).tolist() == [2, 4, 1]
    for row, (question, answer) in enumerate(rows):
        text = torch.tensor([question + answer[1:]])
        scores = model(text).logits[0, len(question) - 1 : -1].log_softmax(-1)
        expected = -scores.gather(1, torch.tensor(answer[1:])[:, None])[:, 0]
        torch.testing.assert_close(losses[row, : len(expected)], expected)
        assert losses[row, len(expected) :].eq(0).all()
