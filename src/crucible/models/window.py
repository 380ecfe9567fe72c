"""A dense network over a window of steps: what the notes set recurrent networks against (000, part 13, section 2).

It shares its weights between places, as a recurrent network does, and knows nothing beyond its window (Bengio et al., 2003, JMLR
3:1137, for language).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from crucible.models.activations import ACTIVATIONS
from crucible.models.sequence import SequenceNetwork, State
from crucible.schema import Count, Probability


class Window(SequenceNetwork):
    """a<t> = g(W [x<t-k>, ..., x<t+k>] + b), and further layers.

    Args:
        feature_shape: see SequenceNetwork. num_outputs: K.
        width: steps of a window. side: `past`: it ends at its step; `both`: its step is in the middle. layers: widths of the
            hidden layers. activation, embedding, keep_prob: as of other networks.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        num_outputs: int,
        *,
        width: Count,
        side: Literal["past", "both"],
        layers: Annotated[list[Count], Field(min_length=1)],
        activation: Literal["tanh", "relu"],
        embedding: Count | None,
        keep_prob: Probability,
    ) -> None:
        super().__init__(feature_shape, embedding, keep_prob)
        self._width, self._ahead = width, width // 2 if side == "both" else 0
        widths = [width * self.steps.width, *layers]
        parts = [
            part
            for n_in, n_out in pairwise(widths)
            for part in (nn.Linear(n_in, n_out), ACTIVATIONS[activation](), self.dropout)
        ]
        self.hidden = nn.Sequential(*parts[:-1])
        self.head = nn.Linear(layers[-1], num_outputs)

    @property
    def sees_ahead(self) -> bool:
        """Whether the window goes beyond its step."""
        return self._ahead > 0

    def activations(
        self, x: Tensor, lengths: Tensor, states: Sequence[State] | None = None
    ) -> tuple[Tensor, list[State]]:
        """Map vectors (B, L, E) to activations (B, L, D), and to the vectors before the next step, which are all of the state."""
        past = self._width - 1 - self._ahead
        before = (
            x.new_zeros(len(x), past, x.shape[2]) if states is None else states[0][0].unflatten(1, (past, x.shape[2]))
        )
        after = x.new_zeros(len(x), self._ahead, x.shape[2])
        wide = torch.cat([before, x, after], dim=1)
        windows = wide.unfold(1, self._width, 1).transpose(2, 3).flatten(2)  # (B, L, width E)
        places = (lengths[:, None] + torch.arange(past, device=x.device))[..., None].expand(-1, -1, x.shape[2])
        return self.hidden(windows), [(wide.gather(1, places).flatten(1),)]
