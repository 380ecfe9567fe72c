"""What tasks of sequences have in common: the network must go through steps, and is told what is read out of it."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from crucible.data.batches import Batch
from crucible.data.text import END, UNKNOWN
from crucible.errors import Refusal
from crucible.models.sequence import Readout, SequenceNetwork


def reading(model: nn.Module, readout: Readout, task: str) -> SequenceNetwork:
    """Return the network, told what is read out of it.

    Raises:
        Refusal: it is none of sequences, or sees what it is to tell.
    """
    if not isinstance(model, SequenceNetwork):
        raise Refusal("model", f"task={task} goes through a sequence step by step", allowed="model=rnn, gru, lstm, window",
                      example=f"task={task} model=lstm")  # fmt: skip
    if readout == "next" and model.sees_ahead:
        raise Refusal("model.bidirectional", "the next token is to be told: a direction that comes from the end has seen it",
                      allowed="false", example="model.bidirectional=false")  # fmt: skip
    model.readout = readout
    return model


def padding(batch: Batch) -> Tensor:
    """Return the share () of a batch's places that are padding."""
    return 1 - batch["mask"].float().mean()


def written(
    model: SequenceNetwork, names: Sequence[str], told: Sequence[int], *, temperature: float, seed: int
) -> Iterator[str]:
    """Give one token after the other, each drawn from softmax(z / temperature), until <EOS> (notes 000, part 13: sampling novel sequences).

    <UNK> is never drawn: it stands for no token.

    Args:
        names: of the symbols. told: symbols that the text begins with; none: x<1> = 0. temperature: 0: always the likeliest.
    """
    draw, device = torch.Generator().manual_seed(seed), model.head.weight.device
    with torch.inference_mode():
        logits, states = model.after(None, None)
        for symbol in told:
            logits, states = model.after(torch.tensor([symbol], device=device), states)
        while True:
            number = _drawn(logits[0].double().cpu(), names, temperature, draw)
            if names[number] == END:
                return
            yield names[number]
            logits, states = model.after(torch.tensor([number], device=device), states)


def _drawn(scores: Tensor, names: Sequence[str], temperature: float, draw: torch.Generator) -> int:
    """Return the number of a token, drawn from logits (V,)."""
    scores[names.index(UNKNOWN)] = -torch.inf
    if temperature == 0:
        return int(scores.argmax())
    return int(torch.multinomial(((scores - scores.max()) / temperature).softmax(dim=0), 1, generator=draw))
