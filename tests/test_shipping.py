"""Folders brought to a host: found by content, fetched in parts and once, checked; and no Ray where nobody asks for it."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import crucible.search
from crucible.app.search import engines
from crucible.errors import Refusal
from crucible.search import shipping
from crucible.search.local import Local
from crucible.search.plan import Resources, Settings
from crucible.search.shipping import brought, content_of, digests_of, packed, read_part, scratch, unpack
from crucible.search.trials import TrialRequest, TrialResult
from crucible.training.fingerprint import fingerprint


def filled(folder: Path) -> Path:
    """Write a folder with a small file, a large one below, and a lock."""
    (folder / "train").mkdir(parents=True)
    (folder / "card.json").write_text("{}")
    (folder / "train" / "x.npy").write_bytes(bytes(range(256)) * 10)
    (folder / ".lock").write_text("1")
    return folder


def test_what_is_there_is_not_fetched_and_what_is_not_comes_in_parts(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CRUCIBLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shipping, "PART", 1000)
    home = filled(tmp_path / "home")
    content, asked = content_of(home), []

    def read(name: str, offset: int, size: int) -> bytes:
        asked.append((name, offset, size))
        return read_part(home / name, offset, size)

    def fetch(path: str) -> Path:
        return brought(path, content, lambda: digests_of(home), read)

    assert fetch(str(home)) == home and not asked
    there = fetch("/nowhere/at/all")
    assert asked == [
        ("card.json", 0, 2),
        ("train/x.npy", 0, 1000),
        ("train/x.npy", 1000, 1000),
        ("train/x.npy", 2000, 560),
    ]
    assert digests_of(there) == digests_of(home) and content_of(there) == content
    assert fetch("/nowhere/at/all") == there and len(asked) == 4
    (home / "card.json").write_text("{ }")  # other data at the same place are no more the same folder
    assert content_of(home) != content and fetch(str(home)) == there


def test_what_comes_damaged_is_refused_and_not_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CRUCIBLE_CACHE", str(tmp_path / "cache"))
    home = filled(tmp_path / "home")
    with pytest.raises(Refusal, match="did not come as it is at home"):
        brought("/nowhere", content_of(home), lambda: digests_of(home), lambda name, offset, size: b"x" * size)
    assert not [each for each in (tmp_path / "cache").iterdir() if not each.name.startswith(".")]


def test_an_archive_brings_back_what_it_took_and_leaves_no_other_folder(tmp_path) -> None:
    unpack(packed(filled(tmp_path / "a")), tmp_path / "b")
    assert digests_of(tmp_path / "a") == digests_of(tmp_path / "b") and not (tmp_path / "b" / ".lock").exists()


def test_without_ray_the_refusal_says_how_to_get_it_and_nothing_is_made(command, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "crucible.search.ray", raising=False)
    monkeypatch.delattr(crucible.search, "ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    done = command("train", "-m", "sweep=coarse_to_fine", "model=mlp", "hydra.sweeper.engine=ray")
    assert done.code == 2 and "pip install 'crucible-dl[ray]'" in done.err and not list(Path().iterdir())


def test_a_search_of_this_machine_imports_no_ray() -> None:
    code = "import sys, crucible.app.search.run; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def settings(**changes: Any) -> Settings:
    """Return the keys of a search."""
    usual = {"study_name": None, "n_trials": 4, "n_jobs": "auto", "storage": None, "max_failure_rate": 0.5, "default_space": True,
             "space": {}, "stages": {"only": {"sampler": "random", "trials": None, "epochs": 1.0, "keep": 1, "margin": 0.1,
                                              "prune": {"first": 1.0, "keep": 1.0, "startup": 1}}},
             "confirm": {"best": 1, "seeds": 1}}  # fmt: skip
    return Settings.model_validate(usual | changes)


@pytest.mark.parametrize(
    ("device", "visible", "gpus"),
    [("auto", None, ["0", "1", "2"]), ("cuda", "4,7", ["4", "7"]), ("cuda:1", None, []), ("cpu", None, [])],
)
def test_as_many_workers_as_gpus_each_with_its_own(monkeypatch, device, visible, gpus) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3 if visible is None else len(visible.split(",")))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert engines._gpus(device) == gpus
    asked = settings(resources=Resources(cpus=1, gpus="auto"))
    assert engines.workers(asked, {"trainer": {"device": device}}) == (len(gpus) or len(os.sched_getaffinity(0)))


def test_a_worker_sees_its_gpu_alone_and_the_next_takes_the_place_of_one_that_is_gone() -> None:
    engine = Local(2, ["4", "7"])
    first, second = engine.start(looking), engine.start(looking)
    job = TrialRequest("s", "only", 0, (), 1, (), None, "f")

    def seen(handle: Any) -> str:
        engine.send(handle, job)
        while True:
            for _, message in engine.heard([handle], 30):
                assert message is not None
                if message[0] == "done":
                    return str(message[1].facts["sees"])

    assert [seen(first), seen(second)] == ["4", "7"]
    assert engine.end(first) == "exit code -9"
    third = engine.start(looking)
    assert seen(third) == "4"
    assert [engine.end(each) for each in (second, third)] == [
        "exit code -9"
    ] * 2 and not multiprocessing.active_children()


def looking(job: TrialRequest, tell: Any) -> TrialResult:
    """Tell which GPU is to be seen."""
    return TrialResult("complete", 1.0, facts={"sees": os.environ.get("CUDA_VISIBLE_DEVICES")})


def test_a_fingerprint_is_the_same_again_and_tells_other_numbers(monkeypatch) -> None:
    cpu = torch.device("cpu")
    once = fingerprint(cpu, 1)
    fingerprint.cache_clear()
    state = torch.get_rng_state()
    assert fingerprint(cpu, 1) == once and torch.equal(state, torch.get_rng_state())
    assert once["torch"] == torch.__version__ and len(once["gradients"]) == 16
    fingerprint.cache_clear()
    linear = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, w, b: linear(x, w, b) * (1 + 1e-6))
    assert fingerprint(cpu, 1)["gradients"] != once["gradients"]
    fingerprint.cache_clear()


def test_workers_of_hosts_that_share_a_cache_leave_each_other_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CRUCIBLE_CACHE", str(tmp_path))
    mine = scratch()
    (tmp_path / "trials" / "elsewhere-1").mkdir()
    (tmp_path / "trials" / ".elsewhere-1.lock").touch()
    ended = f"import os; os.environ['CRUCIBLE_CACHE'] = {str(tmp_path)!r}; from crucible.search.shipping import scratch; print(scratch())"
    other = Path(
        subprocess.run([sys.executable, "-c", ended], capture_output=True, text=True, check=True).stdout.strip()
    )
    assert mine.exists() and other.exists() and other != mine
    third = scratch()
    assert mine.exists() and third.exists() and not other.exists()  # its process is gone
    assert (tmp_path / "trials" / "elsewhere-1").exists()
