"""Start from what another network has learned (notes 000, part 7, section 4; 003; 004, 4.4).

The layers before the head come from the source, the head starts anew where the classes are others; few examples: freeze
the old layers and train the head alone; more: freeze fewer; many: take the old weights as a start for all.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from pickle import UnpicklingError
from types import MethodType
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from crucible.data.batches import Batches
from crucible.data.card import Card, read_card
from crucible.data.seen import Seen, read_seen, unknown
from crucible.errors import Refusal
from crucible.files import CARD, CONFIG, WEIGHTS
from crucible.integrity import require_unchanged
from crucible.models.contracts import Backbone, Detector, TaskUnit
from crucible.models.sequence import Steps
from crucible.schema import Positive, Whole, nearest

Freeze = Literal["all", "none"] | Whole
OfSeen = Literal["refuse", "drop", "keep"]
BACKBONE, UNIT = "backbone.", f"{TaskUnit.NAME}."
PICKLED, WRAPPED = (".pth", ".pt", ".bin"), ("state_dict_ema", "state_dict", "model_state_dict", "model")
EXAMPLE = "transfer=from_run transfer.source=outputs/2026-11-22/10-00-00"


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from: a safetensors file, and what is known of the data they were learned from."""

    file: Path
    card: Card | None
    seen: Seen = field(default_factory=unknown)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name.

        Raises:
            Refusal: no safetensors file, or a damaged one; nothing in such a file is ever run.
        """
        try:
            return load_file(self.file)
        except (SafetensorError, OSError) as error:
            raise Refusal(
                f"transfer.source={self.file}", f"no safetensors file, or damaged: {error}",
                allowed="weights without code: a run folder, or a .safetensors file", example=EXAMPLE,
            ) from None  # fmt: skip

    def published(self) -> dict[str, Tensor]:
        """Return the tensors of a file that others wrote: safetensors, or a .pth of which torch reads tensors and runs nothing.

        Raises:
            Refusal: another file, or a damaged one.
        """
        if self.file.suffix not in PICKLED:
            return self.tensors()
        try:
            return _state(torch.load(self.file, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError, KeyError, AttributeError) as error:
            raise Refusal(
                f"transfer.source={self.file}", f"no tensors by name, or damaged: {str(error).partition(chr(10))[0]}",
                allowed="weights without code: .safetensors, or a .pth with tensors alone", example=EXAMPLE,
            ) from None  # fmt: skip


def _state(found: Any) -> dict[str, Tensor]:
    """Return the tensors of what a .pth holds: they themselves, or under one of the usual names; without what parallel training adds."""
    while isinstance(found, dict) and (key := next((key for key in WRAPPED if isinstance(found.get(key), dict)), "")):
        found = found[key]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError("it holds something else than tensors by name")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def pretrained(source: Path) -> Pretrained:
    """Return what a run folder, or a safetensors file, holds.

    Raises:
        Refusal: nothing is there, or a run that has not finished.
    """
    file = source / WEIGHTS if source.is_dir() else source
    if not file.is_file():
        what = "this folder holds no finished run" if source.is_dir() else "does not exist"
        raise Refusal(
            f"transfer.source={source}", what, allowed="a run folder, or a .safetensors file", example=EXAMPLE
        )
    if not (file.parent / CARD).exists():
        return Pretrained(file, None)
    if file.name == WEIGHTS:
        require_unchanged(file.parent, editable=[CONFIG])
    seen = read_seen(file.parent)
    return Pretrained(file, read_card(file.parent), unknown() if seen is None else seen.all())


class NoTransfer:
    """No transfer: every weight is drawn, every layer learns."""

    def check(self, model: nn.Module, *, fixed: bool) -> None:
        """Refuse nothing."""

    def __call__(self, model: nn.Module) -> None:
        """Leave the model as it was drawn."""

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return what the optimizer shall move."""
        return [{"params": list(model.parameters())}]

    def fitted(self, model: nn.Module, batches: Batches, *, fixed: bool) -> tuple[nn.Module, Batches]:
        """Return what is trained, and on what."""
        return model, batches

    def origin(self) -> str:
        """Return a line for the screen."""
        return ""


def none(pretrained: Pretrained | None, card: Card, *, seen: OfSeen = "refuse") -> NoTransfer:
    """Return the neutral element.

    Args:
        seen: what becomes of other data that the run is evaluated on, where it was trained on them.
    """
    return NoTransfer()


class FromRun(NoTransfer):
    """Weights of another run.

    Args:
        source: where they are. card: of the data to learn from now.
        freeze: `all` before the head, `none`, or the first N blocks; a block is a layer with weights and what follows it
            up to the next, or a residual block or Inception module. Frozen batch norm keeps its statistics, frozen
            dropout keeps every unit.
        old_rate: the share of optimizer.lr that layers from the source learn with, where they are not frozen.
        cache: compute the features that frozen layers give once, and train on those; `auto`: where freeze=all and
            nothing changes the images in training.
        seen: examples of dev and test that the source has seen: `refuse`; `drop`: they are not judged; `keep`.
    """

    def __init__(
        self,
        pretrained: Pretrained | None,
        card: Card,
        *,
        source: str | None,
        freeze: Freeze,
        old_rate: Positive,
        cache: Literal["auto"] | bool,
        seen: OfSeen = "refuse",
    ) -> None:
        if pretrained is None:
            raise Refusal("transfer.source", "is missing", allowed="a run folder, a .safetensors file, runs:/ID, models:/NAME@ALIAS", example=EXAMPLE)  # fmt: skip
        self._source, self._card, self._freeze = pretrained, card, freeze
        self._old_rate, self._cache = old_rate, cache
        self._old: set[str] = set()
        self._kept = False

    def check(self, model: nn.Module, *, fixed: bool) -> None:
        """Refuse a source that does not fit the model, or is not finite.

        Args:
            fixed: whether nothing changes the images in training.

        Raises:
            Refusal: naming the first tensor that does not fit; a number of blocks that there is not; a cache of what changes.
        """
        if self._cache is True and not (fixed and self._is_alone(model)):
            raise Refusal(
                "transfer.cache=true", "the features change from step to step",
                allowed="transfer.freeze=all, augment=none, trainer.precision=float32, no heads in the middle; or transfer.cache=auto",
            )  # fmt: skip
        self._require_same_words()
        found = self._tensors(model)
        self._require_finite({name: found[name] for name in self._names(model, found)})
        count = len(blocks(model))
        if isinstance(self._freeze, int) and self._freeze > count:
            raise Refusal(f"transfer.freeze={self._freeze}", f"before the head there are {count} blocks", allowed=f"all, none, 0 to {count}")  # fmt: skip

    def __call__(self, model: nn.Module) -> None:
        """Load the old layers' weights and freeze what shall be frozen."""
        found = self._tensors(model)
        self._old = self._names(model, found)
        model.load_state_dict({name: found[name] for name in self._old}, strict=False)
        for block in _first(blocks(model), self._freeze):
            for module in block:
                _freeze(module)

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return new layers, then old ones with their share of the rate, without the frozen."""
        free = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        own = f"{head(model)[0]}."  # a head learns at the full rate, wherever it comes from
        new, old = (
            [p for name, p in free if (name in self._old and not name.startswith(own)) is is_old]
            for is_old in (False, True)
        )
        groups: list[dict[str, Any]] = [{"params": new}, {"params": old, "share": self._old_rate}]
        return [group for group in groups if group["params"]]

    def fitted(self, model: nn.Module, batches: Batches, *, fixed: bool) -> tuple[nn.Module, Batches]:
        """Return the head and the features it takes, computed once; or the whole model and its batches.

        Args:
            fixed: whether nothing changes the images in training.
        """
        if not (self._cache and fixed and self._is_alone(model)):
            return model, batches
        splits = [split for split in batches.splits if split != "test"]
        return head(model)[1], batches.replaced({split: _features(model, batches, split) for split in splits})

    def origin(self) -> str:
        """Return a line about what came from where."""
        return f"\n    from  {self._source.file}: {len(self._old)} tensors, the head {'too' if self._kept else 'anew'}"

    def _require_same_words(self) -> None:
        """Refuse a source whose symbols mean other tokens: its numbers would be taken for those of others."""
        there, here = self._source.card.columns if self._source.card else None, self._card.columns
        if self._card.holds_symbols and there != here:
            raise Refusal(f"transfer.source={self._source.file}", f"it knows {len(there or [])} other symbols, these data have {len(here or [])}",
                          allowed="a source that was trained on the same text with the same vocabulary")  # fmt: skip

    def _require_finite(self, found: Mapping[str, Tensor]) -> None:
        if wrong := next((name for name in sorted(found) if not found[name].isfinite().all()), ""):
            raise Refusal(
                f"transfer.source={self._source.file}", f"'{wrong}' holds NaN or infinity",
                allowed="weights of a training that went well",
            )  # fmt: skip

    def _is_alone(self, model: nn.Module) -> bool:
        """Whether nothing but the head learns."""
        found = blocks(model)
        alone = not _middle_heads(model) and not isinstance(model, Detector) and not _has_unit(model)
        return alone and 0 < len(found) == len(_first(found, self._freeze))

    def _names(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> set[str]:
        """Return the names of what comes from the source: all but the head, that too where the classes are the same."""
        found, wanted = (
            {name: tuple(value.shape) for name, value in each.items()} for each in (tensors, model.state_dict())
        )
        if isinstance(model, Detector):  # what follows it is new
            wanted = {name: shape for name, shape in wanted.items() if name.startswith(BACKBONE)}
            found = {name: shape for name, shape in found.items() if name in wanted}
        wanted, found = ({n: shape for n, shape in each.items() if not n.startswith(UNIT)} for each in (wanted, found))
        same = self._source.card is not None and self._card.classes == self._source.card.classes != []
        same = same and _targets(self._card) == _targets(self._source.card)
        outputs = head(model)[1].weight.shape[0]
        new = {name for name, m in model.named_modules() if isinstance(m, nn.Linear) and len(m.weight) == outputs and (
            any(m is each for middle in _middle_heads(model) for each in middle.modules()) or name == head(model)[0])}  # fmt: skip
        rest = {name for name in wanted if name.rpartition(".")[0] not in new}
        if missing := sorted(rest - set(found)) or sorted(set(found) - set(wanted)):
            here = missing[0] in wanted
            others = (set(found) if here else set(wanted)) - {missing[0]}
            raise self._other(missing[0], f"is only {'here' if here else 'there'}", nearest(missing[0], others))
        if wrong := next((name for name in wanted if name in rest and found[name] != wanted[name]), ""):
            raise self._other(wrong, f"has shape {list(found[wrong])} there and {list(wanted[wrong])} here")
        kept = {name for name in wanted if name not in rest and same and found.get(name) == wanted[name]}
        self._kept = bool(kept)
        return rest | kept

    def _tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the source's tensors by the names that this model gives them."""
        return {_renamed(name, model): value for name, value in self._source.tensors().items()}

    def _other(self, name: str, what: str, close: str = "") -> Refusal:
        shape = self._source.card.feature_shape if self._source.card is not None else []
        example = ""
        if len(shape) == 3 and shape != self._card.feature_shape:
            example = f"data.channels={shape[0]} data.image_size=[{shape[1]},{shape[2]}]"
        return Refusal(
            f"transfer.source={self._source.file}", f"its network is another than this model: '{name}' {what}",
            allowed="the same model with the same widths, on examples of the same channels", nearest=close, example=example,
        )  # fmt: skip


class FromFile(FromRun):
    """Weights of a network that others have trained, from a file in the names of timm and torchvision.

    The first convolution takes in how their pictures were normalised: what it gives is what it gave them, but at the edges, where
    they and we pad with the mean of other pictures. Of pictures with one channel its filters are summed, as for three equal ones.

    Args:
        mean, std: of the pictures that the file was trained on, by channel, from 0 to 1. largest: value of a pixel in these data; None:
            255 of bytes, 1 of real numbers from 0 to 1.
    """

    def __init__(
        self,
        pretrained: Pretrained | None,
        card: Card,
        *,
        source: str | None,
        freeze: Freeze,
        old_rate: Positive,
        cache: Literal["auto"] | bool,
        mean: list[float],
        std: list[Positive],
        largest: Positive | None,
        seen: OfSeen = "refuse",
    ) -> None:
        if pretrained is None:
            raise Refusal("transfer.source", "is missing", allowed="a .safetensors or .pth file in the names of timm and torchvision",
                          example="transfer=from_file transfer.source=~/resnet18.pth")  # fmt: skip
        super().__init__(pretrained, card, source=source, freeze=freeze, old_rate=old_rate, cache=cache, seen=seen)
        self._mean, self._std = (torch.tensor(part, dtype=torch.float64) for part in (mean, std))
        self._largest = largest or _largest(card)
        if not len(mean) == len(std) == 3:
            raise Refusal("transfer.mean, transfer.std", f"{len(mean)} and {len(std)} numbers, of pictures with three channels",
                          example="transfer.mean=[0.485,0.456,0.406]")  # fmt: skip

    def _tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the file's tensors by the names of this model, the first convolution brought to these data."""
        network = model.backbone if isinstance(model, Detector) else model
        if not isinstance(network, Backbone) or not (names := network.names_in_timm()):
            raise Refusal("transfer=from_file", f"timm has no network like {type(network).__name__} as it is here",
                          allowed="model=resnet model.depth=18, 34, 50, 101 or 152", example="model=resnet model.depth=18")  # fmt: skip
        there = self._source.published()
        if foreign := next((name for name in there if name not in names and name not in network.cut_in_timm), ""):
            raise self._other(foreign, "is only there", nearest(foreign, names))
        found = {own: there[name] for name, own in names.items() if name in there}
        counters = {
            own: torch.zeros((), dtype=torch.int64) for own in names.values() if own.endswith("num_batches_tracked")
        }
        found = counters | found
        first = names_of_first(names)
        if first[0] in found:
            self._require_one_side(found[first[0]].shape[2:], network.state_dict()[first[0]].shape[2:])
        if all(name in found for name in first) and found[first[0]].shape[1] == len(self._mean):
            found |= dict(zip(first, self._adapted(*(found[name] for name in first)), strict=True))
        return {_renamed(name, model): value for name, value in found.items()}

    def _require_one_side(self, theirs: torch.Size, ours: torch.Size) -> None:
        """Refuse first filters of another size: small pictures get smaller ones here."""
        if theirs != ours:
            raise Refusal(f"transfer.source={self._source.file}", f"its first filters are {list(theirs)} pixels, here {list(ours)}, as pictures are small",
                          allowed="pictures of 64 pixels and more", example="data.image_size=[64,64]")  # fmt: skip

    def _adapted(self, filters: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Return filters (O, C, k, k) and the running mean behind them (O) that take these data, as they are normalised here."""
        scale, shift = self._theirs_from_ours()
        exact = filters.double()
        offset = (exact.sum(dim=(2, 3)) * shift).sum(dim=1)
        exact = exact * scale[:, None, None]
        if self._card.feature_shape[0] == 1:
            exact = exact.sum(dim=1, keepdim=True)
        return exact.to(filters.dtype), (mean.double() - offset).to(mean.dtype)

    def _theirs_from_ours(self) -> tuple[Tensor, Tensor]:
        """Return scale and shift (3) from what the network is given here to what the file's network was given."""
        ours = [
            torch.tensor(self._card.normalize[key], dtype=torch.float64).expand(len(self._mean))
            for key in ("mean", "std")
        ]
        return ours[1] / self._largest / self._std, (ours[0] / self._largest - self._mean) / self._std


def _largest(card: Card) -> float:
    """Return the largest value that a pixel can have.

    Raises:
        Refusal: neither bytes nor real numbers from 0 to 1: nobody knows.
    """
    if card.dtype == "uint8":
        return 255.0
    moments = list(zip(card.normalize["mean"], card.normalize["std"], strict=True))
    if all(
        std**2 <= mean * (1 - mean) for mean, std in moments
    ):  # as of all numbers from 0 to 1 (Bhatia and Davis, 2000)
        return 1.0
    said = ", ".join(f"{mean:,.4g}" for mean, _ in moments)
    raise Refusal("transfer.largest", f"is missing: pixels are {card.dtype}, of a mean of {said}, and neither bytes nor from 0 to 1",
                  allowed="the largest value that a pixel can have: 65535 of pictures of 16 bits", example="transfer.largest=65535")  # fmt: skip


def names_of_first(names: Mapping[str, str]) -> tuple[str, str]:
    """Return what the first convolution's filters, and the running mean behind them, are called here."""
    return names["conv1.weight"], names["bn1.running_mean"]


class WordVectors(NoTransfer):
    """Word vectors from a text file, a word and its numbers a line (GloVe, word2vec's and fastText's text form), as embeddings.

    Args:
        pretrained: nothing. card: tells the words. vectors: the file; words that it does not hold keep what was drawn. freeze: whether
            embeddings stay as they are. seen: as of every choice.
    """

    def __init__(
        self, pretrained: Pretrained | None, card: Card, *, vectors: str | None, freeze: bool, seen: OfSeen = "refuse"
    ) -> None:
        if not card.holds_symbols or vectors is None:
            what = "is missing" if vectors is None else "these data are no text"
            raise Refusal("transfer.vectors", what, allowed="a text file of word vectors, for data that are text",
                          example="transfer=word_vectors transfer.vectors=glove.6B.100d.txt model.embedding=100")  # fmt: skip
        self._path, self._words, self._freeze = Path(vectors).expanduser(), card.columns or [], freeze
        self._found = 0

    def check(self, model: nn.Module, *, fixed: bool) -> None:
        """Refuse a file that is not there, holds no vectors, or others than the model's embeddings are."""
        if "DVC_STAGE" in os.environ and not self._path.resolve().is_relative_to(Path("data").resolve()):
            raise Refusal(
                f"transfer.vectors={self._path}", "DVC would not see this file change", allowed="a path under data/"
            )
        weight = self._embedding(model)
        width = next((len(vector) for _, vector in self._lines()), 0)
        if width != weight.shape[1]:
            raise Refusal(f"transfer.vectors={self._path}", f"its vectors have {width} numbers, embeddings {weight.shape[1]}",
                          allowed="as many", example=f"model.embedding={width}")  # fmt: skip

    def __call__(self, model: nn.Module) -> None:
        """Put the vectors of known words in place."""
        weight, place = self._embedding(model), {word: i for i, word in enumerate(self._words)}
        with torch.no_grad():
            for word, vector in self._lines():
                if word in place:
                    weight[place[word]] = torch.tensor(vector)
                    self._found += 1
        weight.requires_grad_(not self._freeze)

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return what the optimizer shall move: without embeddings where they stay."""
        fixed = self._embedding(model) if self._freeze else None
        return [{"params": [p for p in model.parameters() if p is not fixed]}]

    def origin(self) -> str:
        """Return a line about what came from where."""
        return f"\n    from  {self._path}: vectors of {self._found:,} of {len(self._words):,} symbols"

    def _embedding(self, model: nn.Module) -> nn.Parameter:
        found = [part.weight for part in model.modules() if isinstance(part, Steps)]
        weight = found[0] if len(found) == 1 else None
        if weight is None:
            raise Refusal("transfer=word_vectors", "this model learns no embedding, or two", allowed="model=rnn, gru, lstm, window with model.embedding",
                          example="model=lstm model.embedding=100")  # fmt: skip
        return weight

    def _lines(self) -> Iterator[tuple[str, list[float]]]:
        """Give each word and its vector; a first line of two whole numbers (word2vec) is passed over.

        Raises:
            Refusal: a line of another width than the first, or with what is no finite number.
        """
        width = number = 0
        try:
            with self._path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    cells = line.rstrip().split(" ")
                    if number == 1 and len(cells) == 2:
                        continue
                    width = width or len(cells) - 1
                    word, vector = (
                        " ".join(cells[:-width]),
                        [float(cell) for cell in cells[-width:]],
                    )  # some words hold spaces
                    if not word or not all(map(isfinite, vector)):
                        raise ValueError(f"no word and {width} finite numbers")
                    yield word, vector
        except (OSError, ValueError) as error:
            what = f"no word vectors, line {number}: {error}"
            raise Refusal(
                f"transfer.vectors={self._path}", what, allowed="a word and its numbers a line, in UTF-8"
            ) from None


def _targets(card: Card | None) -> str:
    return card.recipe.get("targets", "classes") if card is not None else ""


def _renamed(name: str, model: nn.Module) -> str:
    """Return what a classifier's tensor is called in a model that has one as its backbone."""
    return BACKBONE + name if isinstance(model, Detector) and not name.startswith(BACKBONE) else name


def head(model: nn.Module) -> tuple[str, Any]:
    """Return the last linear layer, or the one that is called so, and its name."""
    own = [("head", model.head)] if isinstance(model, Detector) else []
    found = [*((name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)), *own]
    if not found:
        raise Refusal(
            "transfer",
            f"{type(model).__name__} has no linear layer that could be learned anew",
            example="transfer=none",
        )
    return found[-1]


def _middle_heads(model: nn.Module) -> list[nn.Module]:
    return model.middle_heads() if isinstance(model, Backbone) else []


def _has_unit(model: nn.Module) -> bool:
    """Whether the task learns something beside the network."""
    return any(isinstance(module, TaskUnit) for module in model.children())


def blocks(model: nn.Module) -> list[list[nn.Module]]:
    """Return the blocks before the head in order: each unit with weights, and what follows it up to the next."""
    found: list[list[nn.Module]] = []
    weighted = False  # whether the last block has its weights
    for module in _units(model.backbone if isinstance(model, Detector) else model, head(model)[1]):
        has = any(p.dim() > 1 for p in module.parameters())
        if not found or (has and weighted):
            found, weighted = [*found, []], False
        found[-1].append(module)
        weighted = weighted or has
    return found if weighted else []


def _units(model: nn.Module, last: nn.Module) -> Iterator[nn.Module]:
    """Give the parts of a model in order, lists and sequences opened; neither its head nor heads in the middle."""
    for name, module in model.named_children():
        if module is last or name == "heads" or isinstance(module, TaskUnit):
            continue
        if isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
            yield from _units(module, last)
        else:
            yield module


def _first(found: Sequence[list[nn.Module]], freeze: Freeze) -> Sequence[list[nn.Module]]:
    return found if freeze == "all" else found[: 0 if freeze == "none" else freeze]


def _freeze(module: nn.Module) -> None:
    """Let a module neither learn nor change: it stays in evaluation mode, whatever its model is set to."""
    module.requires_grad_(False).eval()
    for part in module.modules():
        part.train = MethodType(_stay, part)  # type: ignore[method-assign]  # of this instance


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def _features(model: nn.Module, batches: Batches, split: str) -> Tensor:
    """Return what the head takes (N, F) for a split."""
    taken: list[Tensor] = []
    hook = head(model)[1].register_forward_pre_hook(lambda layer, inputs: taken.append(inputs[0].clone()))
    training = model.training
    model.eval()
    with torch.no_grad():
        for batch in batches.evaluation(split, size=batches.batch_size):
            model(batch["x"])
    hook.remove()
    model.train(training)
    return torch.cat(taken)
