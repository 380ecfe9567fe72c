"""A line a series: its direction, then its numbers."""

from pathlib import Path

import numpy as np

from crucible.data.readers.source import Pool, Source, require_path
from crucible.schema import Count


def bearings(path: Path | None, label: str | None, group_by: str | None, *, skip: Count) -> Source:
    """Read series of different lengths, without the first lines."""
    path = require_path(path, "a text file of series")
    lines = [[float(word) for word in line.split()] for line in path.read_text().splitlines()[skip:]]
    series = [np.array(line[1:], np.float32) for line in lines]
    names = [str(path / str(i)) for i in range(len(lines))]
    pool = Pool(labels=np.array([line[0] for line in lines]), chunks=lambda: iter([series]), names=names, ragged=True)
    return Source({"all": pool}, {"": path})
