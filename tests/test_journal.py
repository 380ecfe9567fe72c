"""The journal is only appended to; the run folder has one owner."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from conftest import card_of

from crucible.errors import Refusal
from crucible.tracking import checkpoint
from crucible.tracking.folder import locked, write_atomic
from crucible.tracking.journal import NAME, Journal, read_events, set_aside
from crucible.tracking.looks import count_look
from crucible.tracking.start import Identity, begin, open_run, require_same

WHO = Identity("config", "data", "code")


def test_a_torn_line_is_cut_and_the_rest_stays(tmp_path) -> None:
    journal = Journal(tmp_path)
    journal.append("metrics", epoch=1, step=5, values={"a": 1.0})
    whole = journal.path.read_bytes()
    with journal.path.open("ab") as file:
        file.write(b'{"kind": "metr')
    assert len(list(read_events(journal.path))) == 1
    Journal(tmp_path).append("metrics", epoch=2, step=10, values={"a": 2.0})
    assert journal.path.read_bytes().startswith(whole)
    assert [e["epoch"] for e in read_events(journal.path)] == [1, 2]


def test_a_point_that_is_recorded_is_not_recorded_again(tmp_path) -> None:
    for _ in range(2):
        journal = Journal(tmp_path)
        journal.append("metrics", epoch=1, step=5, values={"a": 1.0})
        journal.append("resume", epoch=1, step=5)
    assert [e["kind"] for e in read_events(tmp_path / NAME)] == ["metrics", "resume", "resume"]
    Journal(tmp_path).append(
        "metrics", epoch=1, step=5, values={"a": 1.0, "system/cpu_percent": 90.0}
    )  # the same point, slower
    assert len(list(read_events(tmp_path / NAME))) == 3


def test_numbers_that_are_not_finite_are_no_json(tmp_path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        Journal(tmp_path).append("metrics", epoch=1, step=1, values={"a": float("nan")})


def test_old_journals_are_set_aside_under_the_next_number(tmp_path) -> None:
    for text in ("one", "two"):
        (tmp_path / NAME).write_text(text)
        set_aside(tmp_path)
    assert [(tmp_path / f"journal.{i}.jsonl").read_text() for i in (1, 2)] == ["one", "two"]


def start_of(tmp_path, who: Identity = WHO):
    opened = open_run(tmp_path, who, "a: 1\n", card_of((3,)))
    begin(opened, who, threads=1, name="x", tags={})
    return opened


def test_the_same_training_goes_on_and_another_begins_anew(tmp_path) -> None:
    start_of(tmp_path)
    checkpoint.save(tmp_path, {"epoch": 3, "identity": asdict(WHO)})
    again = open_run(tmp_path, WHO, "a: 1\n", card_of((3,)))
    assert again.interrupted and again.state["epoch"] == 3 and again.threads == 1
    other = open_run(tmp_path, Identity("other", "data", "code"), "a: 2\n", card_of((3,)))
    assert not other.interrupted and other.state is None
    assert (tmp_path / "journal.1.jsonl").exists() and not (tmp_path / "checkpoint.pt").exists()


def test_a_finished_training_begins_anew(tmp_path) -> None:
    start_of(tmp_path).journal.append("end", epoch=1, step=1)
    assert open_run(tmp_path, WHO, "a: 1\n", card_of((3,))).state is None
    assert (tmp_path / "journal.1.jsonl").exists()


def test_resuming_with_other_code_or_data_is_refused(tmp_path) -> None:
    start_of(tmp_path)
    require_same(tmp_path, WHO)
    with pytest.raises(Refusal, match="the data and code differ"):
        require_same(tmp_path, Identity("config", "new", "new"))


def test_a_checkpoint_holds_data_and_nothing_that_runs(tmp_path) -> None:
    import pickle

    class Evil:
        def __reduce__(self):
            return os.system, ("touch pwned",)

    (tmp_path / "checkpoint.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(Refusal, match="damaged"):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "pwned").exists() and not Path("pwned").exists()


def test_an_atomic_write_leaves_no_draft(tmp_path) -> None:
    for data in (b"old", b"new"):
        write_atomic(tmp_path / "f", data)
    assert os.listdir(tmp_path) == ["f"] and (tmp_path / "f").read_bytes() == b"new"


def test_a_second_process_names_the_first(tmp_path) -> None:
    code = "import sys; from pathlib import Path; from crucible.tracking.folder import locked\nwith locked(Path(sys.argv[1])): pass"
    with locked(tmp_path / "run"):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 1 and f"process {os.getpid()} is training in this folder" in done.stderr
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")]).returncode == 0


def test_a_refusal_takes_the_new_folder_away_and_leaves_an_old_one(tmp_path) -> None:
    (tmp_path / "old").mkdir()
    for name in ("new/deep", "old"):
        with pytest.raises(Refusal), locked(tmp_path / name):
            raise Refusal("x", "y")
    assert os.listdir(tmp_path) == ["old"]


def test_looks_count_models_on_the_same_pictures(tmp_path) -> None:
    """Half of them at least: under another key, in another order, or with some left out they are the same pictures."""
    ledger, rng = tmp_path / "looks.jsonl", np.random.default_rng(0)
    d, e = rng.integers(0, 256, (2, 40, 16), dtype=np.uint8)
    looks = [
        (d, "a"),
        (d[::-1], "a"),
        (d, "b"),
        (e, "a"),
        (d[:30], "c"),
        (np.concatenate([d[:15], e[:25]]), "d"),
        (d, "b"),
    ]
    assert [count_look(examples, weights, ledger) for examples, weights in looks] == [1, 1, 2, 1, 3, 2, 3]
    assert len(ledger.read_text().splitlines()) == 5
    ledger.write_text("{}\n")
    with pytest.raises(Refusal, match="damaged"):
        count_look(d, "a", ledger)
