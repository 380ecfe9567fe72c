"""Random command lines, a few from a fixed seed; tests/fuzz/run.py tries thousands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

FUZZ = ROOT / "tests" / "fuzz"


@pytest.mark.slow
def test_random_commands_end_on_one_clear_screen(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, str(FUZZ / "run.py"), "50", "--seed", "5", "--out", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert sum(counts.values()) == 50 and counts["refused"] > 25 and counts["ok"] > 0
    assert len((tmp_path / "5.jsonl").read_text(encoding="utf-8").splitlines()) == 50


@pytest.mark.parametrize(
    ("code", "out", "err", "kind"),
    [
        (1, "", 'Traceback (most recent call last):\n  File "/x/src/crucible/app/compose.py", line 3, in f\nValueError: no', "traceback"),
        (2, "", "train.py refuses, and nothing was changed:\n   where: model\n    what: no", "refused"),
        (2, "", "usage: train.py [--help]", "other"),
        (0, "done", "", "ok"),
        (-9, "", "", "signal"),
        (-999, "preparing", "", "hang"),
        (-999, "training\nif it is interrupted: resume", "", "working"),
    ],
)  # fmt: skip
def test_an_end_is_told_by_what_was_printed(monkeypatch, code: int, out: str, err: str, kind: str) -> None:
    monkeypatch.syspath_prepend(FUZZ)
    import forked

    assert forked.kind_of(forked.Done(code, out, err, 0.0))[0] == kind


def test_equal_seeds_give_equal_command_lines(monkeypatch) -> None:
    monkeypatch.syspath_prepend(FUZZ)
    from command_lines import CommandLines

    one, other, third = (CommandLines(seed) for seed in (3, 3, 4))
    drawn = [one.draw() for _ in range(30)]
    assert drawn == [other.draw() for _ in range(30)] != [third.draw() for _ in range(30)]
