"""A painting between its content and its style."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from crucible.plots.figures import save
from crucible.plots.pixels import as_bytes

Array = np.ndarray[Any, Any]


def beside(example: Array, painted: Tensor, path: Path) -> None:
    """Draw content, painting and style in a row.

    Args:
        example: (6, H, W) bytes, content and style. painted: (3, H, W) from 0 to 1.
    """
    height, width = example.shape[1:]
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.2 * height / width + 0.3))
    shown = (example[:3].transpose(1, 2, 0), as_bytes(painted), example[3:].transpose(1, 2, 0))
    for axis, pixels, title in zip(axes, shown, ("content", "painting", "style"), strict=True):
        axis.imshow(pixels)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    save(figure, path)
