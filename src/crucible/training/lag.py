"""How far back a sequence network learns: the gradient of its last output with respect to ever earlier steps.

It shrinks as the product of as many Jacobians as there are steps between (Bengio et al., 1994, IEEE Trans. Neural Networks 5:157;
notes 000, part 13, section 5: vanishing and exploding gradients); gates are there so that it does not.
"""

import torch
from torch import Tensor

from crucible.data.ragged import mask_of
from crucible.models.sequence import SequenceNetwork, in_steps

MOST, FARTHEST, NAME = 16, 128, "gradient_at_lag"


def lags(length: int) -> list[int]:
    """Return 0, 1, 2, 4, 8, ..., below a length."""
    return [lag for lag in (0, *(2**i for i in range(FARTHEST.bit_length()))) if lag < min(length, FARTHEST + 1)]


def gradient_at_lags(model: SequenceNetwork, x: Tensor) -> dict[str, float]:
    """Return `gradient_at_lag/K`: the root mean square of d(u a<T>) / d x<T-K>, u drawn once, over examples and features.

    Args:
        x: (B, L, ...), a batch; its 16 longest examples are looked at, as far as all of them go.
    """
    x = in_steps(x)
    lengths = mask_of(x).sum(dim=1)
    longest = lengths.argsort(descending=True, stable=True)[:MOST]
    length = int(lengths[longest].min())
    whole = x[longest, :length]
    model.eval()
    vectors = model.steps(whole).detach().requires_grad_()
    full = torch.full((len(whole),), length, device=x.device)
    with torch.enable_grad():
        last = model.activations(vectors, full)[0][:, -1]
        draw = torch.randn(last.shape[1], generator=torch.Generator().manual_seed(0)).to(last)
        [gradient] = torch.autograd.grad((last @ draw).sum(), vectors)
    size = gradient.pow(2).mean(dim=(0, 2)).sqrt().tolist()
    return {f"{NAME}/{lag}": size[length - 1 - lag] for lag in lags(length)}
