"""Reader of what digits have in common: even, above 4, prime; for learning several things at once."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from crucible.data.labels import UNKNOWN
from crucible.data.readers import npz
from crucible.data.readers.source import Source
from crucible.schema import Seed

TRAITS = {"even": (0, 2, 4, 6, 8), "above 4": (5, 6, 7, 8, 9), "prime": (2, 3, 5, 7)}


def traits(
    path: Path | None,
    label: str | None = None,
    group_by: str | None = None,
    *,
    unknown: Annotated[float, Field(ge=0, lt=1)],
    seed: Seed,
) -> Source:
    """Read digits as arrays x and y, and label each image (3,) with 1, 0, or -1 where the label is hidden.

    Args:
        unknown: the share of labels that are hidden, drawn from `seed`.

    Raises:
        Refusal: as the reader of arrays does.
    """
    source, rng, pools = npz.read(path, label, group_by), np.random.default_rng(seed), {}
    for name, pool in source.pools.items():
        flags = np.stack([np.isin(pool.labels, digits) for digits in TRAITS.values()], axis=1).astype(np.int64)
        flags[rng.random(flags.shape) < unknown] = UNKNOWN
        pools[name] = replace(pool, labels=flags)
    return replace(source, pools=pools, classes=list(TRAITS))
