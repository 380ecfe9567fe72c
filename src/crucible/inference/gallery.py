"""People who are known by the codes of their pictures: enrolled without any training, compared at once (notes 000, part 12).

A gallery is a safetensors file: `codes` (N, D), and as its metadata whose they are and by which weights they were made. Nothing
in it is ever run.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from crucible.errors import Refusal, printable
from crucible.metrics.verification import Compare


@dataclass(frozen=True)
class Gallery:
    """Codes of people.

    Attributes:
        names: whose each code is (N). codes: (N, D). made_by: the sha256 of the weights that made them.
    """

    names: tuple[str, ...]
    codes: Tensor
    made_by: str

    def enrolled(self, name: str, codes: Tensor) -> "Gallery":
        """Return the gallery with further codes (n, D) of one person."""
        return Gallery((*self.names, *[name] * len(codes)), torch.cat([self.codes, codes]), self.made_by)

    @cached_property
    def people(self) -> tuple[list[str], Tensor]:
        """Return everybody once, and to whom each code (N,) belongs."""
        place = {name: i for i, name in enumerate(dict.fromkeys(self.names))}
        return list(place), torch.tensor([place[name] for name in self.names])

    def distances(self, codes: Tensor, compare: Compare) -> tuple[list[str], Tensor]:
        """Return everybody, and how far codes (n, D) are from each (n, P): from the nearest picture of that person."""
        people, whose = self.people
        apart = compare(codes, self.codes)
        nearest = torch.full((len(codes), len(people)), torch.inf, dtype=apart.dtype)
        return people, nearest.scatter_reduce(1, whose.expand_as(apart), apart, "amin")

    def packed(self) -> bytes:
        """Return the bytes of its file."""
        facts = {"names": json.dumps(self.names, ensure_ascii=False), "made_by": self.made_by}
        return save({"codes": self.codes.contiguous()}, facts)


def read_gallery(path: Path, made_by: str, dimensions: int) -> Gallery:
    """Return the gallery in a file; an empty one where there is none.

    Args:
        made_by: the sha256 of the weights of the run that asks. dimensions: D of its codes.

    Raises:
        Refusal: no gallery, a damaged one, or one of another run.
    """
    if not path.exists():
        return Gallery((), torch.zeros(0, dimensions), made_by)
    try:
        with safe_open(path, framework="pt") as file:
            facts, codes = file.metadata() or {}, file.get_tensor("codes")
        names = json.loads(facts["names"])
        if not (
            isinstance(names, list)
            and all(isinstance(name, str) for name in names)
            and codes.shape[:1] == (len(names),)
        ):
            raise ValueError("there is not one name for each code")
        if not (codes.dim() == 2 and codes.dtype == torch.float32 and bool(codes.isfinite().all())):
            raise ValueError(f"{list(codes.shape)} of {codes.dtype} are no codes")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise Refusal(
            f"gallery={path}", f"no gallery, or damaged: {error}", allowed="a file made by src/faces.py enroll"
        ) from None
    if facts.get("made_by") != made_by or codes.shape[1] != dimensions:
        raise Refusal(f"gallery={path}", "its codes were made by another run, or by other weights of this one: they cannot be compared",
                      allowed="the gallery of this run; or enroll its people again",
                      example="python src/faces.py enroll run=latest gallery=new.safetensors name=ann ann.png")  # fmt: skip
    return Gallery(tuple(map(printable, names)), codes, made_by)


def decided(people: Sequence[str], distances: Tensor, threshold: float) -> list[tuple[str | None, str, float]]:
    """Return for each picture (n, P) who it is, None for nobody who is known; and the nearest person, and how far."""
    near, place = distances.min(dim=1)
    rows = zip(near.tolist(), [people[i] for i in place.tolist()], strict=True)
    return [(name if distance < threshold else None, name, distance) for distance, name in rows]
