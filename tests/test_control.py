"""Babysitting: a change reaches a running training once, is in the journal first, and survives a kill to the last bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from test_fit import recorder
from torch import nn

from crucible.errors import Refusal
from crucible.optim import optimizers, schedules
from crucible.optim.guard import GuardedOptimizer
from crucible.tracking import checkpoint
from crucible.tracking.control import control_requests, parse, replayed, send
from crucible.tracking.journal import Journal, read_events
from crucible.training.controls import Controls, set_starting_rate
from crucible.training.run import Run

ARGS = ["model.layers=[16]", "tracking=none", "trainer.checkpoint_every=5", "schedule=inverse_time"]


@pytest.mark.parametrize(
    ("change", "meaning"),
    [
        ("optimizer.lr=0.0003", ("optimizer.lr", 0.0003)),
        ("trainer.total_epochs=80", ("trainer.total_epochs", 80)),
        ("stop", ("stop", None)),
        ("checkpoint", ("checkpoint", None)),
        ("evaluate", ("evaluate", None)),
    ],
)
def test_changes_are_understood(change, meaning) -> None:
    assert parse(change) == meaning


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("optimizer.lrr=1", "nearest: optimizer.lr"),
        ("optimizer.lr=fast", "'fast' is refused"),
        ("optimizer.lr=-1", "above 0"),
        ("optimizer.lr=0", "above 0"),
        ("trainer.total_epochs=0", "above 0"),
        ("optimizer.lr=inf", "above 0"),
        ("trainer.total_epochs=1.5", "whole number"),
        ("stpo", "nearest: stop"),
        ("model.layers=[3]", "does not take this"),
    ],
)
def test_what_a_running_training_does_not_take_is_refused(change, says) -> None:
    with pytest.raises(Refusal, match=says):
        parse(change)


@pytest.mark.parametrize("warmup", [0, 4])
def test_the_new_rate_takes_the_place_of_the_schedules_start(warmup) -> None:
    def rates(change_at: int | None, start: float) -> list[float]:
        optimizer = optimizers.sgd([nn.Parameter(torch.zeros(1))], lr=start)
        schedule, seen = schedules.inverse_time(optimizer, decay_rate=0.5, warmup_epochs=warmup), []
        for epoch in range(8):
            if epoch == change_at:
                set_starting_rate(schedule, 0.02)
            assert schedule.get_last_lr()[0] == optimizer.param_groups[0]["lr"]
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return seen

    changed, old, new = rates(3, 0.3), rates(None, 0.3), rates(None, 0.02)
    assert changed[:3] == old[:3] and changed[3:] == pytest.approx(new[3:])


def test_a_request_that_is_being_written_is_not_read_and_rubbish_is_left_alone(tmp_path) -> None:
    identity = send(tmp_path, "stop")
    with (tmp_path / "control.jsonl").open("a") as file:
        file.write('nonsense\n["x"]\n{"id": 3, "change": 5}\n{"id": "2", "change": "st')
    assert control_requests(tmp_path) == [{"id": identity, "change": "stop"}]


def test_replay_knows_what_the_checkpoint_knows() -> None:
    events = [
        {"kind": "control", "id": "a", "change": "stop", "state": "asked", "epoch": 3},
        {"kind": "control", "id": "a", "change": "stop", "state": "done", "epoch": 3},
        {"kind": "control", "id": "b", "change": "checkpoint", "state": "asked", "epoch": 5},
        {"kind": "control", "id": "c", "change": "oops", "state": "refused", "epoch": 5},
    ]
    assert replayed(events, ["a"]) == {5: [{"id": "b", "change": "checkpoint", "done": False}]}
    assert replayed(events, [])[3] == [{"id": "a", "change": "stop", "done": True}]


def epochs_of(
    folder: Path, asked: dict[int, str], total: int = 6, stop_after: int | None = None
) -> tuple[list[float], Run]:
    """Run epochs that train nothing, ask for changes at boundaries, and return the rate of each epoch."""
    model = nn.Linear(2, 2)
    optimizer = GuardedOptimizer(optimizers.sgd(model.parameters(), lr=0.1))
    schedule = schedules.exponential(optimizer.optimizer, decay_rate=0.5, warmup_epochs=0)
    run = recorder(folder, model, optimizer, schedule, checkpoint_every=3)
    run.restore(checkpoint.load(folder))
    if run.epoch in asked:
        send(folder, asked.pop(run.epoch))
    rates = []
    for epoch in run.epochs(total):
        rates.append(optimizer.optimizer.param_groups[0]["lr"])
        run.add({"loss": torch.tensor(1.0)}, 1)
        optimizer.optimizer.step()
        schedule.step()
        run.record({"f1": 0.5, "loss": 1.0})
        if epoch + 1 in asked:
            send(folder, asked.pop(epoch + 1))
        if stop_after == epoch + 1:
            break
    run.settle()
    run.journal.close()
    return rates, run


def reported(folder: Path) -> list[tuple[str, str, int]]:
    return [(e["change"], e["state"], e["epoch"]) for e in events(folder, "control")]


def test_a_request_is_journaled_done_once_and_holds_for_what_follows(tmp_path) -> None:
    rates, run = epochs_of(tmp_path, {2: "optimizer.lr=0.8", 4: "trainer.total_epochs=5"})
    assert rates == pytest.approx([0.1, 0.05, 0.8 / 4, 0.8 / 8, 0.8 / 16])
    assert reported(tmp_path) == [
        ("optimizer.lr=0.8", "asked", 2), ("optimizer.lr=0.8", "done", 2),
        ("trainer.total_epochs=5", "asked", 4), ("trainer.total_epochs=5", "done", 4),
    ]  # fmt: skip
    assert [each["epoch"] for each in run.controls.done] == [2, 4]


@pytest.mark.parametrize(("boundary", "killed_after"), [(2, 3), (2, 5), (4, 5)])
def test_after_a_kill_the_journal_says_what_to_do_again_and_when(tmp_path, boundary, killed_after) -> None:
    """The checkpoint is of epoch 3: a request done at 2 it knows, one done at 4 it does not."""
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    for folder in (whole, halved):
        folder.mkdir()
    straight, _ = epochs_of(whole, {boundary: "optimizer.lr=0.8"})
    epochs_of(halved, {boundary: "optimizer.lr=0.8"}, stop_after=killed_after)
    resumed, run = epochs_of(halved, {})
    assert resumed == straight[3:] and len(run.controls.done) == 1
    assert [state for _, state, _ in reported(halved)] == ["asked", "done"]


def test_a_request_that_was_asked_but_not_done_is_done_at_its_boundary(tmp_path) -> None:
    epochs_of(tmp_path, {}, stop_after=4)
    journal = Journal(tmp_path)
    journal.append("control", epoch=4, step=4, id="x", change="optimizer.lr=0.8", state="asked")
    journal.close()
    rates, _ = epochs_of(tmp_path, {})
    assert rates == pytest.approx([0.1 / 8, 0.8 / 16, 0.8 / 32]) and reported(tmp_path)[-1] == (
        "optimizer.lr=0.8",
        "done",
        4,
    )


def test_a_refused_line_in_the_file_is_journaled_and_changes_nothing(tmp_path) -> None:
    (tmp_path / "control.jsonl").write_text('{"id": "x", "change": "optimizer.lr=-1"}\n')
    rates, _ = epochs_of(tmp_path, {})
    assert rates == pytest.approx([0.1 * 0.5**i for i in range(6)])
    assert reported(tmp_path) == [("optimizer.lr=-1", "refused", 0)]
    _, run = epochs_of(tmp_path, {}, total=8)
    assert len(reported(tmp_path)) == 1 and run.controls.done == []


def test_after_a_kill_a_new_request_waits_until_what_is_recorded_is_done_again(tmp_path) -> None:
    """Checkpoint at 3, journal to 5: epochs 4 and 5 must come out as they are recorded."""
    straight, _ = epochs_of(tmp_path, {}, stop_after=5)
    send(tmp_path, "optimizer.lr=0.8")
    resumed, _ = epochs_of(tmp_path, {})
    assert resumed[:2] == straight[3:5] and resumed[2] == pytest.approx(0.8 / 32)
    assert reported(tmp_path)[-1] == ("optimizer.lr=0.8", "done", 5)


def test_a_checkpoint_that_is_asked_for_is_told_as_done_even_if_death_came_between(tmp_path, monkeypatch) -> None:
    whole = Controls._record

    def dies(self, request, state, *where, **more) -> None:
        if state == "done":
            raise KeyboardInterrupt
        whole(self, request, state, *where, **more)

    monkeypatch.setattr(Controls, "_record", dies)
    with pytest.raises(KeyboardInterrupt):
        epochs_of(tmp_path, {2: "checkpoint"})
    monkeypatch.setattr(Controls, "_record", whole)
    _, run = epochs_of(tmp_path, {})
    assert [state for _, state, _ in reported(tmp_path)] == ["asked", "done"] and len(run.controls.done) == 1


def test_stop_before_the_first_epoch_is_a_stop(tmp_path) -> None:
    rates, run = epochs_of(tmp_path, {0: "stop"})
    assert rates == [] and run.epoch == 0


def start(folder: Path, home: Path, *more: str) -> subprocess.Popen:
    words = [sys.executable, str(ROOT / "src/train.py"), *ARGS, f"hydra.run.dir={folder}", *more]
    return subprocess.Popen(words, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def kill(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def events(folder: Path, kind: str) -> list[dict]:
    return [event for event in read_events(folder / "journal.jsonl") if event["kind"] == kind]


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def epochs(folder: Path) -> int:
    return len(events(folder, "metrics"))


@pytest.mark.slow
def test_a_changed_rate_survives_a_kill_to_the_last_bit_and_changes_the_result(tmp_path) -> None:
    """One run is changed and killed and resumed; its twin is given the same change at the same epoch and left alone."""
    killed, whole, plain = (tmp_path / name for name in ("killed", "whole", "plain"))
    process = start(killed, tmp_path, "trainer.total_epochs=100000")
    wait_for(lambda: epochs(killed) > 12)
    control = [sys.executable, str(ROOT / "src/control.py"), str(killed)]
    done = subprocess.run([*control, "optimizer.lr=0.02"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "optimizer.lr=0.02: done after epoch" in done.stdout, done.stderr
    asked, stated = events(killed, "control")[:2]
    assert (asked["state"], stated["state"], asked["change"]) == ("asked", "done", "optimizer.lr=0.02")
    boundary = asked["epoch"]
    wait_for(lambda: epochs(killed) > boundary + 8)
    kill(process)
    reached = epochs(killed)
    total = reached + 12
    process = start(killed, tmp_path, "trainer.total_epochs=100000")  # the same configuration goes on by itself
    wait_for(lambda: len(events(killed, "resume")) == 1)
    subprocess.run([*control, f"trainer.total_epochs={total}"], cwd=tmp_path, capture_output=True, check=True)
    assert process.wait(120) == 0
    ended = events(killed, "end")[0]["epoch"]
    assert events(killed, "resume")[0]["epoch"] > 0 and len(events(killed, "control")) == 4

    for folder, requests_at in ((whole, {boundary: "optimizer.lr=0.02"}), (plain, {})):
        folder.mkdir()
        code = (
            "import sys\n"
            "from crucible.training import run as module\n"
            "from crucible.tracking.control import send\n"
            f"at = {requests_at!r}\n"
            "goes_on = module.Run._goes_on\n"
            "def planned(self):\n"
            "    if self.epoch in at: send(self.folder, at.pop(self.epoch))\n"
            "    return goes_on(self)\n"
            "module.Run._goes_on = planned\n"
            f"sys.argv = ['train.py', *{ARGS!r}, 'hydra.run.dir={folder}', 'trainer.total_epochs={ended}']\n"
            "from crucible.app.cli import run_command; run_command('train')\n"
        )
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
                       check=True, capture_output=True)  # fmt: skip
    weights = {folder: (folder / "weights.safetensors").read_bytes() for folder in (killed, whole, plain)}
    assert (killed / "histograms.json").read_bytes() == (whole / "histograms.json").read_bytes()
    assert weights[killed] == weights[whole] and weights[killed] != weights[plain]
    assert (killed / "curves.csv").read_bytes() == (whole / "curves.csv").read_bytes()
    reported = json.loads((killed / "train.json").read_text())["diagnosis"]["controls"]
    assert reported[0] == {"epoch": boundary, "change": "optimizer.lr=0.02"}


@pytest.mark.slow
def test_stop_ends_a_run_in_order_and_evaluate_tells_where_it_is(tmp_path) -> None:
    folder = tmp_path / "run"
    process = start(folder, tmp_path, "trainer.total_epochs=100000")
    wait_for(lambda: epochs(folder) > 3)
    words = [sys.executable, str(ROOT / "src/control.py"), str(folder)]
    reported = subprocess.run([*words, "evaluate"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "dev/accuracy 0." in reported and "evaluate: done after epoch" in reported
    before = (folder / "checkpoint.pt").stat().st_mtime_ns
    subprocess.run([*words, "checkpoint"], cwd=tmp_path, capture_output=True, check=True)
    assert (folder / "checkpoint.pt").stat().st_mtime_ns > before
    subprocess.run([*words, "stop"], cwd=tmp_path, capture_output=True, check=True)
    assert process.wait(60) == 0
    summary = json.loads((folder / "train.json").read_text())
    assert summary["epochs"] == events(folder, "control")[-1]["epoch"] == events(folder, "end")[0]["epoch"]
    refused = subprocess.run([*words, "stop"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "it has finished" in refused.stderr


def test_control_of_what_is_not_running_is_refused_and_leaves_nothing(command) -> None:
    command("train", "trainer.total_epochs=1", "tracking=none")
    for args, says in (
        (["latest", "stop"], "it has finished"),
        (["nowhere", "stop"], "no run"),
        (["latest"], "one change"),
    ):
        done = command("control", *args)
        assert done.code == 2 and says in done.err
    assert not Path("outputs/latest/control.jsonl").exists()
