"""A short seeded round of each attack: every promise holds. `python tests/attacks/run.py --minutes 60` is the long one."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.attacks.processes import ROOT, End, fork, kill, marked, members, program
from tests.attacks.promises import history
from tests.attacks.results import Result, judged, table

SHORT = {"kills_train": 6, "kills_mirror": 3, "corruption": 8, "disk": 2, "races": 1}


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, list[str]]:
    """What went wrong in a short run of all kinds, by kind, in a process of its own: it forks."""
    out = tmp_path_factory.mktemp("attacks")
    counts = ",".join(f"{kind}={count}" for kind, count in SHORT.items())
    words = [
        sys.executable,
        str(ROOT / "tests" / "attacks" / "run.py"),
        "--counts",
        counts,
        "--out",
        str(out),
        "--seed",
        "1",
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=out, timeout=500)
    assert (out / "table.md").exists(), done.stderr
    lines = (out / "problems.jsonl").read_text().splitlines() if (out / "problems.jsonl").exists() else []
    problems: dict[str, list[str]] = {kind: [] for kind in SHORT if f"| {kind} |" in (out / "table.md").read_text()}
    for each in map(json.loads, lines):
        problems[each["kind"]].append(f"{each['ended']}: {each['why']} ({each['again']})")
    return problems


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHORT)
def test_every_promise_holds(found: dict[str, list[str]], kind: str) -> None:
    if found[kind] and found[kind][0].startswith("skipped"):
        pytest.skip(found[kind][0])
    assert found[kind] == []


def test_what_is_lost_silent_or_a_traceback_is_counted_as_that() -> None:
    results = [
        judged(3, [], lost=[], silent=[]),
        judged(2, [], lost=["gone"], silent=["x differs"]),
        judged(1, [], lost=[], silent=["x differs"]),
        judged(1, [], lost=["Traceback: ValueError"], silent=[]),
        Result(1, [], "refused"),
    ]
    assert table([("kind", each) for each in results]).splitlines()[-1] == "| kind | 8 | 3 | 1 | 2 | 1 | 1 |"


@pytest.mark.parametrize("epochs, wrong", [([1, 2], 0), ([1, 2, 2], 1), ([2, 1], 1), ([1, 3], 1)])
def test_a_journal_holds_each_epoch_once_and_in_order(tmp_path: Path, epochs: list[int], wrong: int) -> None:
    lines = [json.dumps({"kind": "metrics", "epoch": epoch, "values": {"train/loss": 1.0}}) + "\n" for epoch in epochs]
    (tmp_path / "journal.jsonl").write_text("".join(lines))
    assert len(history(tmp_path)) == wrong
    (tmp_path / "journal.jsonl").write_text("".join(lines)[:-3])
    assert history(tmp_path)


@pytest.mark.parametrize(
    "end, kind",
    [
        (End(0, "", ""), "ok"),
        (End(2, "", "train.py refuses, and nothing was changed:\n   where: x"), "refused"),
        (End(2, "", "x"), "other"),
        (End(1, "", "Traceback (most recent call last)\nValueError"), "traceback"),
        (End(None, "", ""), "hung"),
        (End(-9, "", ""), "killed"),
    ],
)
def test_ends_are_told_apart(end: End, kind: str) -> None:
    assert end.kind == kind
    assert bool(end.problem("it")) is (end.code != 0)


def test_a_killed_command_leaves_nobody_of_its_session(tmp_path: Path) -> None:
    mark = f"{tmp_path}"
    child = program(["sh", "-c", "sleep 60 & setsid sleep 60 & echo begun; wait"], tmp_path, mark)
    child.sleep(10, until=lambda: len(marked(mark)) == 3 and len(members(child.pid)) == 2)
    child.kill()
    assert members(child.pid) == [] and child.wait().code == -9
    assert len(marked(mark)) == 1  # what lives in a session of its own is found by its mark
    kill(marked(mark))
    assert marked(mark) == []


def test_a_fork_gives_its_code_and_its_words(tmp_path: Path) -> None:
    draw = Random(0)
    assert fork(lambda: print(draw.random()), tmp_path).wait() == End(0, f"{Random(0).random()}\n", "")
    assert fork(lambda: sys.exit(3), tmp_path).wait().code == 3
    assert fork(lambda: 1 / 0, tmp_path).wait().kind == "traceback"
