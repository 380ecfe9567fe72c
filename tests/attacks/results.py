"""What one attack did and how it ended, and the table of all of them."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Ended = Literal["well", "refused", "lost", "silent", "traceback", "skipped"]
COLUMNS: tuple[Ended, ...] = ("well", "refused", "lost", "silent", "traceback")
BAD: tuple[Ended, ...] = ("lost", "silent", "traceback")
HEAD = ("what is attacked", "tried", "ended well", "refused", "lost", "silent", "traceback")


@dataclass
class Result:
    """How a number of tries with one comparison at their end came out.

    Attributes:
        tries: kills, damages, faults or races. did: what was done, so that it can be done again.
        ended: well: every promise held; refused: one clear screen; lost: it did not go on, or something was missing or
            doubled; silent: exit 0 with other bytes; traceback: one was shown; skipped: it cannot be tried here.
        why: what was not as promised.
    """

    tries: int
    did: list[Any]
    ended: Ended = "well"
    why: list[str] = field(default_factory=list)

    def record(self, path: Path, kind: str, seed: int, number: int) -> None:
        """Append a line that says how to repeat this."""
        again = f"python tests/attacks/run.py --only {kind} --seed {seed} --first {number} --counts {kind}=1"
        with path.open("a", encoding="utf-8") as file:
            file.write(
                json.dumps({"kind": kind, "seed": seed, "number": number, "again": again, **asdict(self)}) + "\n"
            )


def judged(tries: int, did: list[Any], *, lost: Sequence[str], silent: Sequence[str]) -> Result:
    """Return the result of promises that were compared: what is lost counts before what is silently different."""
    if any("Traceback" in each for each in lost):
        return Result(tries, did, "traceback", [*lost, *silent])
    if lost or silent:
        return Result(tries, did, "lost" if lost else "silent", [*lost, *silent])
    return Result(tries, did)


def table(found: Iterable[tuple[str, Result]]) -> str:
    """Return a table in Markdown: one row a kind, counted in tries."""
    counts: dict[str, Counter[str]] = {}
    for kind, result in found:
        counts.setdefault(kind, Counter())[result.ended] += result.tries
    rows = [
        [kind, sum(own[each] for each in COLUMNS), *(own[each] for each in COLUMNS)] for kind, own in counts.items()
    ]
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
