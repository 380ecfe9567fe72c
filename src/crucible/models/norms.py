"""How batch norm remembers (notes 000, part 6, section 2)."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from crucible.schema import Decay, Form, Positive


class NormSettings(Form):
    """Batch norm with settings of its own.

    decay: of the exponentially weighted means and variances that evaluation uses: v = decay v + (1 - decay) v of the batch.
    eps: what is added to the variance before its root.
    """

    decay: Decay = 0.9
    eps: Positive = 1e-5


BatchNorm = bool | NormSettings


def is_on(norm: BatchNorm) -> bool:
    """Whether batch norm is declared, with settings or without."""
    return norm is not False


def apply_settings(model: nn.Module, norm: BatchNorm) -> None:
    """Give every batch norm of a network the settings that are declared; without any they stay torch's, which are the defaults here."""
    if isinstance(norm, NormSettings):
        for layer in model.modules():
            if isinstance(layer, _BatchNorm):
                layer.momentum, layer.eps = 1 - norm.decay, norm.eps
