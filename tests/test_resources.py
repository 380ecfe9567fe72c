"""What the machine cannot give: memory, room on the disk, a process. One screen, and what was done stays."""

import errno
import json
import os
import subprocess
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Done

from crucible import resources
from crucible.app import identity
from crucible.app.commands import train
from crucible.tracking.folder import append_whole, write_atomic
from crucible.tracking.journal import read_events
from crucible.tracking.mlflow import behind
from crucible.training.device import choose_threads

Command = Callable[..., Done]
QUICK = [
    "tracking=none",
    "trainer.total_epochs=6",
    "trainer.checkpoint_every=2",
    "model.layers=[8]",
    "hydra.run.dir=run",
]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
NO_PROCESS = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
NO_MEMORY = RuntimeError(
    "[enforce fail at alloc.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
)


def test_a_model_that_cannot_fit_is_refused_with_what_it_takes_and_what_there_is(command: Command) -> None:
    done = command("train", "tracking=none", "model.layers=[1000000,1000000]")
    parameters = 65 * 10**6 + (10**6 + 1) * 10**6 + (10**6 + 1) * 10
    assert done.code == 2 and f"{parameters:,} parameters" in done.err
    assert f"{parameters * 4 * 4 / 2**30:,.1f} GiB" in done.err  # float32: weights, gradient, and Adam's two moments
    assert not list(Path().iterdir())


def test_sizes_that_overflow_are_refused(command: Command) -> None:
    done = command("train", "tracking=none", "model.layers=[2147483647,2147483647]")
    assert done.code == 2 and "Storage size calculation overflowed" in done.err


@pytest.mark.parametrize("optimizer, copies", [("sgd", 2), ("momentum", 3), ("adam", 4)])
def test_what_an_optimizer_remembers_counts(command: Command, monkeypatch, optimizer: str, copies: int) -> None:
    size = 4 * copies * (64 * 10 + 10)
    monkeypatch.setattr("crucible.app.compatibility.available_memory", lambda device: size - 1)
    assert command("train", "tracking=none", "model=logistic", f"optimizer={optimizer}").code == 2
    monkeypatch.setattr("crucible.app.compatibility.available_memory", lambda device: size)
    assert command("train", *QUICK[:2], "model=logistic", f"optimizer={optimizer}", "hydra.run.dir=run").code == 0


def test_the_memory_of_a_container_is_its_limit_less_what_it_uses_and_cannot_drop(tmp_path) -> None:
    for name, text in (("max", "1000"), ("current", "400"), ("stat", "anon 150\nfile 250\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert resources._control_group(tmp_path) == 1000 - 150
    (tmp_path / "memory.max").write_text("max\n")
    assert resources._control_group(tmp_path) > 1 << 20


@pytest.mark.parametrize("error", [NO_MEMORY, MemoryError()])
def test_memory_that_runs_out_stops_a_training_on_one_screen_and_it_goes_on(command, monkeypatch, error) -> None:
    assert command("train", *QUICK).code == 0
    wanted = Path("run/weights.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", _raises_after(train.fit, error))
        done = command("train", *QUICK, "hydra.run.dir=other")
    assert done.code == 2 and "stopped" in done.err and "out of memory" in done.err
    assert [event["kind"] for event in read_events(Path("other/journal.jsonl"))][-1] == "failed"
    assert command("train", "resume=other").code == 0
    assert Path("other/weights.safetensors").read_bytes() == wanted


def _raises_after(fit: Any, error: Exception) -> Any:
    def fails(*args: Any, total_epochs: int) -> None:
        fit(*args, total_epochs=total_epochs // 2)
        raise error

    return fails


@pytest.mark.parametrize("nth", [3, 5, 6, 8, 11])
def test_a_disk_that_fills_leaves_a_run_that_goes_on_to_the_same_bytes(command, monkeypatch, nth: int) -> None:
    assert command("train", *QUICK).code == 0
    wanted = Path("run/weights.safetensors").read_bytes()
    written = iter(range(1, 10_000))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: _fail(FULL) if next(written) >= nth else None)
        done = command("train", *QUICK, "hydra.run.dir=other")
    assert done.code == 2 and "it is full" in done.err and "Traceback" not in done.err
    assert not list(Path("other").glob("*.new"))
    assert command("train", "resume=other").code == 0
    assert Path("other/weights.safetensors").read_bytes() == wanted
    recorded = [event["epoch"] for event in read_events(Path("other/journal.jsonl")) if event["kind"] == "metrics"]
    assert recorded == [1, 2, 3, 4, 5, 6]


def _fail(error: Exception) -> None:
    raise error


def test_a_file_on_a_full_disk_stays_what_it_was(tmp_path, monkeypatch) -> None:
    write_atomic(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", lambda file: _fail(FULL))
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_bytes() == b"old"


class Filling(FileIO):
    """A file on a disk with room for three more bytes."""

    room = 3

    def write(self, data: Any) -> int:
        """Write what there is room for."""
        if not self.room:
            raise FULL
        taken = super().write(data[: self.room])
        self.room -= taken
        return taken


def test_a_line_is_appended_whole_or_not_at_all(tmp_path) -> None:
    (tmp_path / "journal").write_bytes(b"1\n")
    with Filling(tmp_path / "journal", "a") as file, pytest.raises(OSError, match="No space"):
        append_whole(file, b"2345\n")
    assert (tmp_path / "journal").read_bytes() == b"1\n"
    with Filling(tmp_path / "journal", "a") as file:
        append_whole(file, b"2\n")
    assert (tmp_path / "journal").read_bytes() == b"1\n2\n"


@pytest.mark.parametrize("key", ["hydra.run.dir", "data.path", "prepared"])
def test_a_name_that_is_too_long_is_one_screen(command: Command, key: str) -> None:
    done = command("train", *QUICK[:2], f"{key}={'a' * 300}")
    assert done.code == 2 and "letters" in done.err and "refuses, and nothing was changed" in done.err


def test_lengths_without_end_are_refused(command: Command) -> None:
    assert command("train", "tracking=none", f"trainer.total_epochs={10**18}").code == 2
    assert not list(Path().iterdir())


def test_without_a_process_for_git_or_the_mirror_a_training_goes_on(command, monkeypatch, tmp_path) -> None:
    uri = f"sqlite:///{tmp_path}/m.db"
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", lambda *args, **more: _fail(NO_PROCESS))
        patch.setattr(identity, "commit", identity.commit.__wrapped__)  # not remembered from another test
        done = command("train", *QUICK[1:], f"tracking.uri={uri}", "hydra.run.dir=outputs/d/a")
    assert done.code == 0 and "no mirror" in done.err
    folder = tmp_path / "outputs/d/a"
    assert next(read_events(folder / "journal.jsonl"))["tags"]["git.commit"] == ""
    assert json.loads((folder / "mirror.json").read_text())[uri]["offset"] == 0
    assert behind(tmp_path, uri) == [folder / "journal.jsonl"]


def test_a_large_step_takes_one_thread_where_the_machine_is_busy(monkeypatch) -> None:
    model = torch.nn.Linear(1000, 1000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    for load, threads in ((0.1, 8), (7.9, 1)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert choose_threads("auto", model, [1000], 1000) == threads
        assert choose_threads(3, model, [1000], 1000) == 3
