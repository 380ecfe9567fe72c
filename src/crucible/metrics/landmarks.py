"""Points measured: their mean distance from where they should be, as a share of the face's size."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from crucible.data.batches import Batch
from crucible.metrics.accumulator import Accumulator


class LandmarkMetrics(Accumulator):
    """Predictions for each picture, accumulated on the device and read once.

    Args:
        loss: outputs and batch to their mean loss (). find: outputs to presence and points (B, 1 + 2 P) in pixels.
        eyes: the places of the two points whose distance errors are divided by; None: the diagonal of the box around all.
        failure: the normalised mean error above which a face is an error.
    """

    NAMES = ("loss", "error", "nme")
    minimised = frozenset({"loss", "error", "nme"})

    def __init__(
        self,
        loss: Callable[[Any, Batch], Tensor],
        find: Callable[[Any], Tensor],
        *,
        eyes: Sequence[int] | None,
        failure: float,
    ) -> None:
        self._loss, self._find, self._eyes, self._failure = loss, find, eyes, failure
        self._rows: list[Tensor] = []
        self._total: Tensor | float = 0.0

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in the outputs for a batch with `points` (B, P, 2) and `label` (B,)."""
        found, wanted = self._find(outputs), batch["points"]
        predicted = found[:, 1:].unflatten(1, (-1, 2)).double()
        nme = normalised_mean_error(predicted, wanted.double(), self._eyes)
        self._rows.append(torch.stack([batch["label"].double(), (found[:, 0] >= 0.5).double(), nme]))
        self._total = self._total + self._loss(outputs, batch).double() * len(wanted)

    def matrix(self) -> Tensor:
        """Return the counts (2, 2) of there and not there, rows labels, columns what was predicted."""
        label, predicted, _ = torch.cat(self._rows, dim=1).cpu()
        cells = (1 - label) * 2 + (1 - predicted)
        return torch.bincount(cells.long(), minlength=4).view(2, 2).double()

    def mistakes(self) -> Tensor:
        """Return the counts (2, 2) of what was wrong: nothing seen, something made up, or points too far off."""
        label, predicted, nme = torch.cat(self._rows, dim=1).cpu()
        wrong = (label != predicted) | ((label == 1) & (nme > self._failure))
        return torch.bincount(((1 - label) * 2 + (1 - predicted)).long(), wrong.double(), minlength=4).view(2, 2)

    def costs(self) -> list[dict[str, Any]]:
        """Return the one kind of mistake that the error counts: faces whose points are too far off."""
        label, _, nme = torch.cat(self._rows, dim=1).cpu()
        far = (label == 1) & (nme > self._failure)
        row = {
            "label": "face",
            "predicted": "points too far off",
            "count": int(far.sum()),
            "share": 1.0,
            "error_if_mended": 0.0,
        }
        return [row] if bool(far.any()) else []

    def evidence(self, size: int) -> tuple[int, None]:
        """Return the number of faces: the error is a rate among them."""
        return int((torch.cat(self._rows, dim=1)[0] == 1).sum()), None

    def compute(self) -> dict[str, float]:
        """Return loss; error, the share of faces whose points are too far off; nme, the normalised mean error of all faces."""
        if not self._rows:
            return {}
        label, _, nme = torch.cat(self._rows, dim=1).cpu()
        faces = nme[label == 1]
        error, mean = (float(each.double().mean()) if len(faces) else 0.0 for each in (faces > self._failure, faces))
        return dict(zip(self.NAMES, (float(self._total) / len(label), error, mean), strict=True))


def normalised_mean_error(found: Tensor, wanted: Tensor, eyes: Sequence[int] | None) -> Tensor:
    """Return the mean distance of points (B, P, 2) from where they should be, divided by the size of the face (B,).

    Args:
        eyes: the outer corners (Sagonas et al., 2013, 300-W); None: the diagonal of the box around all points.
    """
    if eyes is None:
        size = (wanted.amax(dim=1) - wanted.amin(dim=1)).norm(dim=1)
    else:
        size = (wanted[:, eyes[0]] - wanted[:, eyes[1]]).norm(dim=1)
    return (found - wanted).norm(dim=2).mean(dim=1) / size.clamp(min=torch.finfo(size.dtype).tiny)
