"""A search on the hosts of a Ray cluster, here nodes of this machine: the same totals, the same winner, the same bits."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from optuna.trial import TrialState
from test_search import crashing, killing, require_exact, trials_of

from crucible.errors import Stopped
from crucible.search.trials import TrialRequest, TrialResult
from tests.test_large import pictures
from tests.toy_search import planned, searched, work

pytest.importorskip("ray", reason="Ray is not installed: pip install 'crucible-dl[ray]'")

import ray
from ray.cluster_utils import Cluster as Nodes

from crucible.search.ray import Cluster, connected

pytestmark = pytest.mark.slow
QUICK = [
    "-m",
    "sweep=coarse_to_fine",
    "model=mlp",
    "tracking=none",
    "trainer.total_epochs=6",
    "hydra.sweeper.n_trials=8",
]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Nodes]:
    """Give a cluster whose head does no work, with two nodes of one core each."""
    monkeypatch.setenv("CRUCIBLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    found = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            found.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", found.address)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


@pytest.fixture
def hosts(nodes: Nodes, tmp_path: Path) -> Iterator[Nodes]:
    """Give the cluster, connected, with the toy search on its hosts."""
    code = tmp_path / "code"
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    with connected(code, "src:.:tests"):
        yield nodes


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db"


def engine(**changes: Any) -> Cluster:
    return Cluster(**{"cpus": 1, "gpus": 0.0, "most": None, "folders": {}} | changes)


def test_the_totals_are_exact_and_failures_keep_their_causes(hosts, url, tmp_path) -> None:
    found = searched(url, tmp_path / "w", planned(20, 2, max_failure_rate=1.0), crashing, engine())
    require_exact(url, 12, 8)
    causes = {each.user_attrs["cause"] for each in trials_of(url, "coarse") if each.state == TrialState.FAIL}
    assert causes == {"out of memory", "non-finite", "data", "code"} and found.done == 20


def test_what_kills_its_worker_twice_has_failed(hosts, url, tmp_path) -> None:
    searched(url, tmp_path / "w", planned(8, 2, max_failure_rate=1.0), killing, engine())
    large = [t for t in trials_of(url, "coarse") if t.params["optimizer.lr"] > 0.001]
    assert large and all(t.state == TrialState.FAIL for t in large)


def test_one_worker_searches_as_one_of_this_machine(hosts, url, tmp_path) -> None:
    searched(url, tmp_path / "w", planned(16, 1), engine=engine(most=1))
    other = f"sqlite:///{tmp_path}/o.db"
    searched(other, tmp_path / "o", planned(16, 1))
    for stage in ("coarse", "fine", "confirm"):
        ours, theirs = ([(t.params, t.value, t.state) for t in trials_of(each, stage)] for each in (url, other))
        assert ours == theirs


@pytest.mark.parametrize("repetition", range(int(os.environ.get("NODE_KILLS", "3"))))
def test_a_node_that_dies_loses_no_trial_and_one_that_comes_takes_some(hosts, url, tmp_path, repetition) -> None:
    """SIGKILL at a random moment; NODE_KILLS=20 in the environment makes it twenty (docs/scale.md)."""
    draw, plan = random.Random(repetition), planned(20, 2, max_failure_rate=1.0)
    with ThreadPoolExecutor(1) as beside:
        search = beside.submit(searched, url, tmp_path / "w", plan, slowly, engine())
        time.sleep(draw.uniform(1.0, 8.0))
        hosts.remove_node(draw.choice(list(hosts.worker_nodes)), allow_graceful=False)
        time.sleep(draw.uniform(0.0, 2.0))
        hosts.add_node(num_cpus=1)
        standing = search.result(timeout=120)
    require_exact(url, 12, 8)
    assert standing.done == 20
    gone = [each for each in trials_of(url, "coarse") + trials_of(url, "fine") if each.state == TrialState.FAIL]
    print(f"{len(gone)} trial(s) were lost with the node, and tried again")


def slowly(job: TrialRequest, tell: Any) -> TrialResult:
    """Pretend to train, half a second a trial."""
    time.sleep(0.5)
    return work(job, tell)


def test_other_code_on_a_host_is_refused(hosts, url, tmp_path) -> None:
    cluster = engine()
    cluster._code = "0" * 64
    with pytest.raises(Stopped, match="is another one than the search's"):
        searched(url, tmp_path / "w", planned(4, 1), engine=cluster)


def test_the_winner_is_promoted_to_the_last_bit(nodes, command, tmp_path) -> None:
    done = command("train", *QUICK, "hydra.sweeper.engine=ray", "hydra.sweep.dir=search")
    assert done.code == 0, done.err
    best = json.loads(json.dumps(__import__("yaml").safe_load(Path("search/best.yaml").read_text())))
    assert sum(best["trials"].values()) == 8
    run = Path(best["trial"]["folder"])
    assert (run / "trial.log").exists() and (run / "journal.jsonl").exists()
    again = command("train", *best["overrides"], "tracking=none", "hydra.run.dir=again")
    assert again.code == 0, again.err
    assert Path("again/weights.safetensors").read_bytes() == (run / "weights.safetensors").read_bytes()


def test_a_host_with_a_disk_of_its_own_fetches_the_data_once(monkeypatch, command, tmp_path) -> None:
    """A node in a mount namespace in which the folder of the search is empty: nothing of it can be read there."""
    cache = tmp_path.with_name(tmp_path.name + "-host")
    cache.mkdir()
    alone = ["unshare", "--mount", "sh", "-c"]
    if subprocess.run([*alone, f"mount -t tmpfs none {tmp_path}"], capture_output=True).returncode:
        pytest.skip("this user may not mount anything")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    found = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    start = f"mount -t tmpfs none {tmp_path} && cd / && exec {Path(sys.executable).parent}/ray start --address={found.address} --num-cpus=1 --block"
    host = subprocess.Popen(
        [*alone, start],
        env=os.environ | {"CRUCIBLE_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        monkeypatch.setenv("RAY_ADDRESS", found.address)
        wait_for_cores(found.address, 1)
        done = command("train", *QUICK, "hydra.sweeper.engine=ray", "hydra.sweep.dir=search")
        assert done.code == 0, done.err
        fetched = [each for each in cache.iterdir() if (each / "card.json").exists()]
        assert len(fetched) == 1 and not list((cache / "trials").glob("*/*"))
        best = __import__("yaml").safe_load(Path("search/best.yaml").read_text())
        again = command("train", *best["overrides"], "tracking=none", "hydra.run.dir=again")
        assert again.code == 0, again.err
        weights = Path(best["trial"]["folder"]) / "weights.safetensors"
        assert Path("again/weights.safetensors").read_bytes() == weights.read_bytes()
    finally:
        ray.shutdown()
        host.kill()
        host.wait()
        found.shutdown()


def wait_for_cores(address: str, count: int) -> None:
    """Wait until the cluster has so many."""
    ray.init(address=address, log_to_driver=False)
    end = time.monotonic() + 60
    while ray.cluster_resources().get("CPU", 0) < count:
        assert time.monotonic() < end, "the node did not come"
        time.sleep(0.2)
    ray.shutdown()


def test_what_is_asked_for_and_not_there_is_refused(nodes, command) -> None:
    done = command("train", *QUICK, "hydra.sweeper.engine=ray", "hydra.sweeper.resources.cpus=64")
    assert done.code == 2 and "no host of the cluster has 64 CPU(s)" in done.err and not Path("multirun").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:10001", "nowhere"])
def test_an_address_that_does_not_answer_is_refused(command, monkeypatch, address) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    start = time.monotonic()
    done = command("train", *QUICK, "hydra.sweeper.engine=ray")
    assert done.code == 2 and f"RAY_ADDRESS={address}" in done.err and not Path("outputs").exists()
    assert time.monotonic() - start < 30


def test_the_hosts_prepare_the_same_bytes(nodes, command, tmp_path, monkeypatch) -> None:
    words = pictures(tmp_path)
    for engine in ("local", "ray"):
        done = command("prepare", *words, f"data.engine={engine}", f"prepared={engine}")
        assert done.code == 0, done.err
    files = sorted(each.relative_to(tmp_path / "ray") for each in (tmp_path / "ray").rglob("*") if each.is_file())
    assert len(files) >= 7
    assert all((tmp_path / "ray" / each).read_bytes() == (tmp_path / "local" / each).read_bytes() for each in files)
    (tmp_path / "raw" / "b" / "77.png").write_bytes(b"no picture")
    done = command("prepare", *words, "data.engine=ray")
    assert done.code == 2 and "b/77.png" in done.err and "no picture, or damaged" in done.err


def test_a_search_on_the_hosts_has_them_prepare_its_data_too(nodes, command, tmp_path) -> None:
    words = pictures(tmp_path)
    done = command(
        "train",
        *QUICK,
        *words,
        "hydra.sweeper.engine=ray",
        "data.engine=ray",
        "hydra.sweeper.n_trials=4",
        "hydra.sweep.dir=search",
    )
    assert done.code == 0, done.err
    assert (tmp_path / "search" / "best.yaml").exists()
