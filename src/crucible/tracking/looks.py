"""How often a test split has been looked at: each look makes it a little more of a dev split."""

import json
from pathlib import Path

LEDGER = Path("artifacts/test_looks.jsonl")


def count_look(key: str, weights: str, ledger: Path = LEDGER) -> int:
    """Record that the model with these weights was judged on the test split of this data key; return how many were.

    The same weights judged again tell nothing new and count once.
    """
    seen = _looks(ledger)
    if (key, weights) not in seen:
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with ledger.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"data": key, "weights": weights}) + "\n")
    return len({look for look in [*seen, (key, weights)] if look[0] == key})


def _looks(ledger: Path) -> list[tuple[str, str]]:
    if not ledger.exists():
        return []
    lines = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    return [(line["data"], line["weights"]) for line in lines]
