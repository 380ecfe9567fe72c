"""How often test examples have been looked at: each look makes them a little more of a dev split.

A look is one model judged on one set of examples. The same pictures under another prepared key, size or file name are the same
pictures: looks count that were at half of the examples at least.
"""

import json
import os
from hashlib import sha256
from pathlib import Path

import numpy as np

from crucible.data.readers.source import Array
from crucible.errors import Refusal
from crucible.tracking.folder import append_whole

LEDGER = Path("artifacts/test_looks.jsonl")
SETS = "test_looks"  # beside the ledger: the hashes of each set of examples


def count_look(examples: Array, weights: str, ledger: Path = LEDGER) -> int:
    """Record that the model with these weights was judged on these examples; return how many models were, on half of them.

    The same weights judged again tell nothing new and count once.

    Args:
        examples: their hashes (N, 8). weights: the sha256 of the weights.

    Raises:
        Refusal: the ledger is damaged.
    """
    own = np.unique(examples, axis=0)
    name, seen = sha256(own.tobytes()).hexdigest(), read_looks(ledger)
    if (name, weights) not in seen:
        home = ledger.parent / SETS
        home.mkdir(parents=True, exist_ok=True)
        draft = home / f".{name}.{os.getpid()}"  # another process may write the same set now
        draft.write_bytes(own.tobytes())
        draft.replace(home / f"{name}.bin")
        with ledger.open("ab", buffering=0) as file:
            append_whole(file, json.dumps({"examples": name, "weights": weights}).encode() + b"\n")
    near = {other for other in {name, *(known for known, _ in seen)} if _share(own, ledger.parent / SETS, other) >= 0.5}
    return len({model for known, model in [*seen, (name, weights)] if known in near})


def read_looks(ledger: Path = LEDGER) -> list[tuple[str, str]]:
    """Return the looks so far: the name of the set of examples, and the sha256 of the weights.

    Raises:
        Refusal: a line is damaged; lines of before, which knew no examples, are passed over.
    """
    text = ledger.read_text(encoding="utf-8", errors="replace") if ledger.exists() else ""
    try:
        lines = [json.loads(line) for line in text.splitlines()]
        return [(str(line["examples"]), str(line["weights"])) for line in lines if "data" not in line]
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(
            str(ledger), f"the record of looks at test splits is damaged: {error}",
            allowed="the file as it was written; without it nobody knows how often a test split was looked at",
        ) from None  # fmt: skip


def _share(own: Array, home: Path, other: str) -> float:
    """Return which share of the examples is in another set; 1 where that set is lost, as it may be the same."""
    path = home / f"{other}.bin"
    if not path.exists() or path.stat().st_size % own.shape[1]:
        return 1.0
    kind = f"V{own.shape[1]}"
    known = np.frombuffer(path.read_bytes(), kind)
    return len(np.intersect1d(np.ascontiguousarray(own).view(kind)[:, 0], known)) / max(1, len(own))
