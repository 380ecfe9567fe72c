"""Random command lines against the promise of one clear end: python tests/fuzz/run.py 5000 --seed 1 [--out FOLDER].

Prints each case that broke it as a line of JSON with its words, and at the end the counts by kind; exits 1 if any did.
`python tests/fuzz/run.py --again LINE` runs the case of such a line once more and prints its screen.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from command_lines import CommandLines, furnish
from forked import Case, Done, kind_of, run, warm

SECONDS = 60.0
BROKEN = ("traceback", "left", "hang", "signal", "other")
TRAINED = ["model=resnet", "model.depth=8", "model.width=4", "data=npz", "data.path=data.npz", "tracking=none",
           "trainer.total_epochs=1", "trainer.threads=1", "hydra.run.dir=run"]  # fmt: skip


def main(argv: list[str]) -> int:
    """Run cases; return 0 if every one ended as promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a folder for a line of JSON a case")
    parser.add_argument("--again", help="a line of JSON: run its case once more")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="limit of a case")
    given = parser.parse_args(argv)
    warm()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a mirror may still write there
        start = _start(Path(folder) / "start")
        if given.again:
            reported = json.loads(given.again)
            print(_screen(Case(reported["script"], reported["words"]), start, given.seconds))
            return 0
        counts = _tried(start, given)
    print(json.dumps(dict(counts.most_common())))
    return int(any(counts[kind] for kind in BROKEN))


def _start(home: Path) -> Path:
    """Return a folder with data and a finished run, which each case gets a copy of."""
    home.mkdir()
    furnish(home)
    done = run(Case("train", TRAINED), home, seconds=10 * SECONDS)
    assert done.code == 0, done.err
    shutil.rmtree(home / "artifacts", ignore_errors=True)
    return home


def _tried(start: Path, given: argparse.Namespace) -> Counter[str]:
    drawn, counts = CommandLines(given.seed), Counter[str]()
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
    for number in range(given.count):
        case = drawn.draw()
        done, left = _case(case, start, given.seconds)
        kind, what = kind_of(done)
        if kind == "refused" and left and " stopped:" not in done.err:
            kind, what = "left", f"{what} LEFT {left[:4]}"
        counts[kind] += 1
        line = json.dumps({"kind": kind, "what": what, "seed": given.seed, "number": number, "seconds": round(done.seconds, 2), "script": case.script, "words": case.words})  # fmt: skip
        if given.out is not None:
            with (given.out / f"{given.seed}.jsonl").open("a") as log:
                log.write(f"{line}\n")
        if kind in BROKEN:
            print(line, flush=True)
    return counts


def _case(case: Case, start: Path, seconds: float) -> tuple[Done, list[str]]:
    """Return how a case ended in a copy of the start, and the files that were changed or made."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a mirror may still write there
        home = Path(folder) / "home"
        shutil.copytree(start, home, symlinks=True)
        before = _files(home)
        done = run(case, home, seconds=seconds)
        return done, sorted(str(path) for path, was in _files(home).items() if before.get(path) != was)


def _files(home: Path) -> dict[Path, tuple[int, int]]:
    found = {
        path.relative_to(home): path.lstat() for path in home.rglob("*") if path.name != ".lock" and not path.is_dir()
    }
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in found.items()}


def _screen(case: Case, start: Path, seconds: float) -> str:
    done, left = _case(case, start, seconds)
    return f"{done.out}{done.err}\n{kind_of(done)[0]}, exit code {done.code}, {done.seconds:.1f} s, changed: {left}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
