"""Try to break the project, kind after kind, until the time is up: python tests/attacks/run.py --minutes 60 [--seed S].

--only KIND,...      these kinds alone
--counts KIND=N,...  instead of a time: so many tries of each (kills, damages, faults, disks, races)
--first I            the number of the first round of each kind: with --seed it repeats one
--out FOLDER         where it works; problems.jsonl there has a line for everything that was not as promised
`fuzz` stands for tests/fuzz, where there is one.
"""

import argparse
import importlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.attacks.processes import warm  # noqa: E402  (found only now)
from tests.attacks.results import BAD, Result, table  # noqa: E402

KINDS = {
    "kills_train": 1,
    "kills_dvc": 1,
    "kills_mirror": 1,
    "kills_sweep": 1,
    "corruption": 15,
    "tracking": 1,
    "disk": 1,
    "races": 1,
}  # and rounds in a turn: most are of several kills
Attack = Callable[[int, Random, Path], Result]


def main(argv: list[str]) -> int:
    """Attack, print the table, and return 1 if a promise did not hold."""
    args = _parsed(argv)
    home = Path(args.out).absolute()
    home.mkdir(parents=True, exist_ok=True)
    warm()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that disks are unmounted and processes ended
    found = []
    for kind, number, result in _rounds(args, home):
        found.append((kind, result))
        if result.ended in (*BAD, "skipped"):
            result.record(home / "problems.jsonl", kind, args.seed, number)
        print(f"{kind} {number}: {result.tries} {result.ended} {' | '.join(result.why)}"[:300], flush=True)
    text = table(found)
    (home / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return int(_fuzzed(args) or any(result.ended in BAD for _, result in found))


def _parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[*KINDS, "fuzz"])
    parser.add_argument("--counts", type=_counts, default={})
    parser.add_argument("--out", default="outputs/attacks")
    args = parser.parse_args(argv)
    if wrong := [name for name in [*args.only, *args.counts] if name not in (*KINDS, "fuzz")]:
        parser.error(f"there is no attack '{wrong[0]}': {', '.join(KINDS)}, fuzz")
    return args


def _counts(text: str) -> dict[str, int]:
    return {kind: int(count) for kind, count in (part.split("=") for part in text.split(","))}


def _rounds(args: argparse.Namespace, home: Path) -> Iterator[tuple[str, int, Result]]:
    """Give the results of the kinds, one turn of each after the other; a kind that is skipped is not tried again."""
    kinds = [kind for kind in KINDS if kind in (args.counts or args.only)]
    attacks: dict[str, Attack] = {kind: importlib.import_module(f"tests.attacks.{kind}").attack for kind in kinds}
    end, turn, tried = time.monotonic() + 60 * args.minutes, 0, Counter[str]()
    while attacks:
        for kind, number in _turn(list(attacks), turn, args.first):
            if kind not in attacks:
                continue
            result = attacks[kind](number, Random(f"{args.seed} {kind} {number}"), home / kind)
            tried[kind] += result.tries
            yield kind, number, result
            enough = tried[kind] >= args.counts[kind] if args.counts else time.monotonic() > end
            if enough or result.ended == "skipped":
                del attacks[kind]
        turn += 1


def _turn(kinds: list[str], turn: int, first: int) -> Iterator[tuple[str, int]]:
    """Give each kind with the numbers of its rounds in a turn."""
    for kind in kinds:
        for number in range(first + turn * KINDS[kind], first + (turn + 1) * KINDS[kind]):
            yield kind, number


def _fuzzed(args: argparse.Namespace) -> int:
    if "fuzz" not in args.only or (args.counts and "fuzz" not in args.counts):
        return 0
    if not (ROOT / "tests" / "fuzz" / "run.py").exists():
        return 0
    return int(importlib.import_module("tests.fuzz.run").main(["--seed", str(args.seed)]) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
