"""What other parts may ask of a network besides its outputs; a network offers it by inheriting from one of these classes."""

from collections.abc import Sequence
from math import inf
from typing import ClassVar, Protocol, runtime_checkable
from weakref import WeakSet

from torch import nn

_given: WeakSet[nn.Module] = WeakSet()


class Backbone(nn.Module):
    """A network of images whose maps another network may take.

    Attributes:
        trunk: the names of the children that an image passes one after the other. top: those of what follows them. cut_in_timm: names
            in timm of what was taken away.
    """

    trunk: ClassVar[Sequence[str]]
    top: ClassVar[Sequence[str]] = ("head",)
    cut_in_timm: frozenset[str] = frozenset()

    def units(self) -> list[nn.Module]:
        """Return the parts that an image passes, before anything is made a vector."""
        children = [self.get_submodule(name) for name in self.trunk]
        parts = [part for child in children for part in child.children()]
        flat = next((i for i, part in enumerate(parts) if isinstance(part, nn.Flatten)), len(parts))
        return parts[:flat]

    def middle_heads(self) -> list[nn.Module]:
        """Return what gives further outputs from the middle, in training alone."""
        return []

    def names_in_timm(self) -> dict[str, str]:
        """Return what timm and torchvision call each tensor, and its name here; nothing where they have no such network."""
        return {}

    def cut(self, kept: int) -> None:
        """Take away all parts after the first `kept`, and the top."""
        parts, whole = self.units()[:kept], self.names_in_timm()
        for name in self.trunk:
            left = nn.Sequential()
            for key, part in self.get_submodule(name).named_children():
                if any(part is each for each in parts):
                    left.add_module(key, part)
            setattr(self, name, left)
        for name in self.top:
            delattr(self, name)
        self.cut_in_timm = frozenset(whole) - frozenset(self.names_in_timm())


class Detector(nn.Module):
    """A network that says something of every cell of a grid: (B, num_outputs, rows, columns).

    Attributes:
        backbone: what gives the maps. head: what says it.
    """

    backbone: Backbone
    head: nn.Conv2d


class Painter(nn.Module):
    """A network that maps content and style (B, 6, H, W) to pictures (B, 3, h, w); in evaluation of full size and from 0 to 1.

    Attributes:
        smallest: height and width of the smallest that it paints.
    """

    smallest: tuple[int, int]


class Placed(nn.Module):
    """A network whose parameters are one point.

    Attributes:
        point: (d,). has_start: whether the user said where it begins; else the task does.
    """

    point: nn.Parameter
    has_start: bool


class OwnFanIn(nn.Module):
    """A layer whose weights do not tell how many inputs a unit has: it says so itself.

    Attributes:
        n_in: inputs of a unit. weight, bias: as of torch's layers.
    """

    n_in: int
    weight: nn.Parameter
    bias: nn.Parameter


@runtime_checkable
class EmbedsCategories(Protocol):
    """A network that may learn a vector for each category of a table in place of its one-hot features."""

    def embed_categories(self, plain: int, sizes: Sequence[int]) -> None:
        """Take over where the one-hot features stand, before weights are initialised.

        Args:
            plain: features before them. sizes: how many each category takes; none where the data have no categories.
        """
        ...


class TaskUnit(nn.Module):
    """What a task itself learns, beside the network: it hangs on the network as `NAME`, and no transfer brings it along."""

    NAME: ClassVar[str] = "task_unit"


def leave_as_given(layer: nn.Module) -> None:
    """Declare that a layer's weights were given by the user: initialisers leave them."""
    _given.add(layer)


def is_given(layer: nn.Module) -> bool:
    """Whether a layer's weights were given by the user."""
    return layer in _given


def largest_norm(model: nn.Module) -> float:
    """Return the norm to which a network's gradient is cut if nothing smaller is declared: of most none."""
    return float(getattr(model, "max_norm", inf))
