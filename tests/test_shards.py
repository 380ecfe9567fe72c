"""The same bits on one process or on many: what a step of S shards gives, against a loop written by hand, and between processes."""

import copy
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from conftest import ROOT, card_of, sh
from torch import nn
from torch.multiprocessing import get_context

from crucible.data.batches import Batch
from crucible.optim.guard import GuardedOptimizer
from crucible.optim.optimizers import momentum
from crucible.regularizers import L2
from crucible.seeds import derive
from crucible.tasks.classification import Classification
from crucible.tasks.multitask import Multitask
from crucible.training.fit import train_step
from crucible.training.shards import ShardedStep, cut
from crucible.training.together import InTurn
from crucible.training.world import Several, World, added, shares, subtrees, summed

TASK = {"monitor": "f1", "goal": "maximize", "tolerance": 0.02}


def network(*, dropout: float = 0.3) -> nn.Module:
    torch.manual_seed(5)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * 36, 3)]
    model = nn.Sequential(*layers)
    model[0].weight.data = model[0].weight.data.contiguous(memory_format=torch.channels_last)
    return model


def task_of() -> L2:
    return L2(Classification(card_of((3, 8, 8)), **TASK, class_weights=[1.0, 2.0, 0.5]), 100, strength=3.0)


def batches(count: int = 4, size: int = 37) -> list[Batch]:
    """Return batches, of which the last is too small for eight shards."""
    draw = torch.Generator().manual_seed(1)
    sizes = [size] * (count - 1) + [9]
    return [
        {"x": torch.randn(n, 3, 8, 8, generator=draw), "label": torch.randint(3, (n,), generator=draw)} for n in sizes
    ]


def trained(step: ShardedStep, model: nn.Module) -> tuple[str, list[float]]:
    """Return the digest of weights and statistics after the batches, and the losses."""
    optimizer = GuardedOptimizer(momentum(model.parameters(), lr=0.1, beta=0.9, form="averaged"), max_norm=0.5)
    task, losses = task_of(), []
    model.train()
    for batch in batches():
        losses.append(float(step(model, task, batch, optimizer)["loss"]))
    found = hashlib.sha256()
    for value in model.state_dict().values():
        found.update(value.contiguous().numpy().tobytes())
    return found.hexdigest(), losses


def by_hand(model: nn.Module, shards: int) -> None:
    """The same steps with everything in the open: one tree of eight leaves, written out."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.9)
    for p in model.parameters():
        optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    weights = torch.tensor([1.0, 2.0, 0.5])
    model.train()
    for number, batch in enumerate(batches()):
        size = len(batch["x"])
        count = min(shards, size // 2)
        norm = model[1]
        mean, var, seen = norm.running_mean.clone(), norm.running_var.clone(), int(norm.num_batches_tracked)
        leaves = []
        for i in range(count):
            rows = slice(size * i // count, size * (i + 1) // count)
            share = (rows.stop - rows.start) / size
            norm.running_mean.copy_(mean), norm.running_var.copy_(var)
            torch.manual_seed(derive(7, f"dropout/{number}/{i}"))
            each = nn.functional.cross_entropy(model(batch["x"][rows]), batch["label"][rows], reduction="none")
            data = (each * weights[batch["label"][rows]]).mean()
            penalty = 3.0 / 200 * sum(p.pow(2).sum() for p in model.parameters() if p.dim() > 1)
            gradients = torch.autograd.grad(data * share + penalty * share, list(model.parameters()))
            leaves.append([*gradients, norm.running_mean * share, norm.running_var * share])
        level = leaves
        while len(level) > 1 and count == 8:
            level = [[a + b for a, b in zip(level[i], level[i + 1], strict=True)] for i in range(0, len(level), 2)]
        if count == 4:
            level = [[(a + b) + (c + d) for a, b, c, d in zip(*leaves, strict=True)]]
        [whole] = level
        norm.running_mean.copy_(whole[-2]), norm.running_var.copy_(whole[-1])
        norm.num_batches_tracked.fill_(seen + 1)
        for p, g in zip(model.parameters(), whole, strict=False):
            p.grad = torch.empty_like(p).copy_(g)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()


def test_a_step_in_shards_is_the_loop_written_by_hand() -> None:
    ours, theirs = network(), network()
    trained(ShardedStep(8, seed=7, world=World()), ours)
    by_hand(theirs, 8)
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7), name
    assert ours[0].weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_one_shard_without_dropout_is_the_usual_step_to_the_last_bit() -> None:
    ours, theirs = network(dropout=0.0), network(dropout=0.0)
    assert trained(ShardedStep(1, seed=7, world=World()), ours) == trained(train_step, theirs)


@pytest.mark.parametrize(("count", "size"), [(n, m) for n in (8, 6, 5, 1) for m in (1, 2, 3, 5, 8) if m <= n])
def test_the_tree_is_the_same_whoever_has_which_leaf(count: int, size: int) -> None:
    leaves = (
        torch.randn(count, 50, generator=torch.Generator().manual_seed(0))
        * 10.0 ** torch.arange(-4, count - 4)[:, None]
    )
    [alone] = summed((0, count), lambda i: [leaves[i].clone()])
    known, had = {}, []
    for own in shares(count, size):
        had += list(own)
        for node in subtrees(own, count):
            [known[node]] = summed(node, lambda i: [leaves[i].clone()])
    assert had == list(range(count)) and torch.equal(added((0, count), known), alone)


def test_a_cut_batch_is_the_batch() -> None:
    batch = batches()[0]
    pieces = cut(batch, 8)
    assert [len(each["x"]) for each in pieces] == [4, 5, 4, 5, 5, 4, 5, 5]
    assert torch.equal(torch.cat([each["x"] for each in pieces]), batch["x"])


def one_of_several(rank: int, size: int, port: int, home: str) -> None:
    """Train as one process of several, and write the digest."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    world = Several(torch.device("cpu"))
    assert world.shared(f"said by {rank}") == "said by 0"
    digest, _ = trained(ShardedStep(8, seed=7, world=world), network())
    Path(home, str(rank)).write_text(digest)
    world.close()


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 8])
def test_so_many_processes_have_the_bits_of_one(tmp_path, size: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = get_context("spawn")
    several = [context.Process(target=one_of_several, args=(rank, size, port, str(tmp_path))) for rank in range(size)]
    for each in several:
        each.start()
    for each in several:
        each.join(120)
    alone, _ = trained(ShardedStep(8, seed=7, world=World()), network())
    assert {path.read_text() for path in tmp_path.iterdir()} == {alone} and len(list(tmp_path.iterdir())) == size


class Meeting(World):
    """Threads of this process as processes of several."""

    def __init__(self, rank: int, table: list, barrier: threading.Barrier) -> None:
        self.rank, self.size, self._table, self._barrier = rank, len(table), table, barrier

    def gathered(self, value):
        self._table[self.rank] = value
        self._barrier.wait(20)
        found = list(self._table)
        self._barrier.wait(20)
        return found


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_on_dev_each_process_computes_its_turn_and_all_have_all(count: int) -> None:
    def model(x: torch.Tensor) -> dict[str, torch.Tensor]:
        passed.append(threading.get_ident())
        return {"scores": x * 2, "boxes": (x + 1, [x])}

    model.eval = lambda: None
    passed: list[int] = []
    chunks = [{"x": torch.full((2, 3), float(i))} for i in range(count)]
    table, barrier = [None] * 3, threading.Barrier(3)
    with ThreadPoolExecutor(3) as ranks:
        several = list(ranks.map(lambda rank: list(InTurn(Meeting(rank, table, barrier))(model, chunks)), range(3)))
    assert len(passed) == count and len(set(passed)) == min(count, 3)
    for found in several:
        assert [float(batch["x"][0, 0]) for _, batch in found] == list(range(count))
        for i, (said, _) in enumerate(found):
            assert torch.equal(said["scores"], torch.full((2, 3), 2.0 * i)) and torch.equal(
                said["boxes"][1][0], chunks[i]["x"]
            )
            assert isinstance(said["boxes"], tuple) and torch.equal(said["boxes"][0], chunks[i]["x"] + 1)


def test_statistics_that_nobody_updates_stay_to_the_last_bit() -> None:
    model = network()
    model[1].eval()
    model[1].running_mean.copy_(torch.randn(8))
    model[1].running_var.copy_(torch.rand(8) + 0.3)
    was = [each.clone() for each in model.buffers()]
    optimizer = GuardedOptimizer(momentum(model.parameters(), lr=0.1, beta=0.9, form="averaged"))
    step = ShardedStep(6, seed=7, world=World())
    for batch in batches():
        step(model, task_of(), batch, optimizer)
    assert all(map(torch.equal, model.buffers(), was))


def test_shards_in_which_nothing_counts_count_for_nothing() -> None:
    task = Multitask(card_of((3, 8, 8)), **TASK)
    batch = batches()[0]
    label = torch.full((len(batch["x"]), 3), -1)
    for known in (0, 2):  # none, or of the first shard alone
        label[:known] = 1
        model = network(dropout=0.0)
        model[1].eval()
        twin = copy.deepcopy(model)
        found = []
        for each, step in ((model, ShardedStep(8, seed=7, world=World())), (twin, train_step)):
            optimizer = GuardedOptimizer(momentum(each.parameters(), lr=0.1, beta=0.9, form="averaged"))
            found.append(step(each, task, {"x": batch["x"], "label": label}, optimizer)["loss"])
            assert not optimizer.flag
        assert torch.allclose(*found) and all(
            map(partial(torch.allclose, atol=1e-6), model.parameters(), twin.parameters())
        )


WORDS = ["trainer.shards=8", "tracking=none"]
TRAININGS = {
    "mlp": ["model.keep_prob=0.8", "model.batch_norm=true", "regularizer=l2", "optimizer=momentum", "trainer.max_norm=1", "trainer.total_epochs=3"],
    "resnet": ["model=resnet", "model.depth=8", "augment=strong", "trainer.total_epochs=1"],
    "detection": ["experiment=detection", "data.reader.scenes={train: 60, dev: 20, test: 20}", "trainer.total_epochs=1", "trainer.batch_size=16"],
    "multitask": ["experiment=digit_traits", "trainer.total_epochs=2"],
}  # fmt: skip


def together(home: Path, size: int, *words: str, more: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    """Start a training on so many processes; one needs no torchrun."""
    start = (
        [f"{Path(sys.executable).parent}/torchrun", "--standalone", "--nproc-per-node", str(size), *more]
        if size > 1
        else [sys.executable]
    )
    return subprocess.Popen([*start, str(ROOT / "src/train.py"), *WORDS, *words], cwd=home, env=os.environ | {"OMP_NUM_THREADS": "1"},
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip


def ended(process: "subprocess.Popen[str]") -> str:
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0, told[-3000:]
    return told


@pytest.mark.slow
@pytest.mark.parametrize("what", TRAININGS)
def test_a_training_leaves_the_same_bytes_on_one_process_and_on_several(tmp_path, what: str) -> None:
    for size in (1, 3):
        ended(together(tmp_path, size, *TRAININGS[what], f"hydra.run.dir={size}"))
        done = sh(tmp_path, sys.executable, str(ROOT / "src/evaluate.py"), f"run={size}", "report=none")
        assert "result" in done
    predicted = "predictions.json" if what == "detection" else "predictions.csv"
    for name in ("weights.safetensors", "curves.csv", predicted):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes(), name


def epochs_of(folder: Path) -> int:
    journals = list(folder.glob("outputs/20*/*/journal.jsonl"))
    return sum('"dev/loss"' in line for each in journals for line in each.read_text().splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("repetition", range(int(os.environ.get("RANK_KILLS", "2"))))
def test_a_process_that_is_killed_leaves_the_digest_of_an_undisturbed_training(tmp_path, repetition: int) -> None:
    """SIGKILL of a rank at a random moment: torchrun starts all anew, and they go on; RANK_KILLS=20 makes it twenty (docs/scale.md)."""
    words = [
        "model.keep_prob=0.8",
        "model.batch_norm=true",
        "trainer.total_epochs=30",
        f"trainer.checkpoint_every={('2', '{steps: 7}')[repetition % 2]}",
    ]
    draw = random.Random(repetition)
    running = together(tmp_path, 2, *words, more=("--max-restarts", "3"))
    moment = draw.randint(1, 20)
    while epochs_of(tmp_path) < moment:
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.05)
    ranks = [
        each for each in psutil.Process(running.pid).children(recursive=True) if "train.py" in " ".join(each.cmdline())
    ]
    draw.choice(ranks[:2]).kill()
    ended(running)
    [run] = tmp_path.glob("outputs/20*/*")
    assert '"resume"' in (run / "journal.jsonl").read_text()
    ended(together(tmp_path, 1, *words, "hydra.run.dir=alone"))
    assert (run / "weights.safetensors").read_bytes() == (tmp_path / "alone" / "weights.safetensors").read_bytes()


def listening(place: str) -> None:
    host, _, port = place.rpartition(":")
    for _ in range(600):
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError("nobody listens")


@pytest.mark.slow
def test_a_host_that_is_lost_for_good_changes_no_bit(tmp_path) -> None:
    """Two agents of torchrun as two hosts: one is killed, and the other goes on alone by itself."""
    words = ["model.keep_prob=0.8", "trainer.total_epochs=60", "trainer.checkpoint_every=1"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"

    def host() -> "subprocess.Popen[str]":
        start = [f"{Path(sys.executable).parent}/torchrun", "--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "5", "--rdzv-id", "training",
                 "--rdzv-backend", "c10d", "--rdzv-endpoint", place, "--rdzv-conf", "join_timeout=60,last_call_timeout=8"]  # fmt: skip
        return subprocess.Popen([*start, str(ROOT / "src/train.py"), *WORDS, *words], cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"},
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip

    def until(epochs: int) -> None:
        while epochs_of(tmp_path) < epochs:
            assert first.poll() is None, first.communicate()[0]
            time.sleep(0.05)

    first = host()
    listening(place)  # it holds the store
    second = host()
    until(5)
    for each in (second.pid, *(child.pid for child in psutil.Process(second.pid).children(recursive=True))):
        os.kill(each, signal.SIGKILL)
    ended(first)
    [run] = tmp_path.glob("outputs/20*/*")
    resumed = [each for each in (run / "journal.jsonl").read_text().splitlines() if '"resume"' in each]
    assert len(resumed) == 1
    ended(together(tmp_path, 1, *words, "hydra.run.dir=alone"))
    assert (run / "weights.safetensors").read_bytes() == (tmp_path / "alone" / "weights.safetensors").read_bytes()


@pytest.mark.slow
def test_a_process_whose_bits_are_others_is_refused_before_the_first_step(tmp_path) -> None:
    """As on a host with another processor: one process is told to compute without its vector instructions."""
    (tmp_path / "script.py").write_text(
        "import os, sys\n"
        "if os.environ['RANK'] == '1':\n"
        "    os.environ['ATEN_CPU_CAPABILITY'] = 'default'\n"
        f"sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        "sys.argv = ['src/train.py', *sys.argv[1:]]\n"
        "from crucible.app.cli import run_command\n"
        "run_command('train')\n"
    )
    start = [
        f"{Path(sys.executable).parent}/torchrun",
        "--standalone",
        "--nproc-per-node",
        "2",
        "script.py",
        *WORDS,
        "hydra.run.dir=run",
    ]
    done = subprocess.run(
        start, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode and "their bits would not be the same" in done.stderr and "process 1 has" in done.stderr
    assert "train/loss" not in (tmp_path / "run" / "journal.jsonl").read_text()


@pytest.mark.slow
def test_two_trainings_of_one_torchrun_have_a_folder_each(tmp_path) -> None:
    """A script with two trainings, on two processes, one of which is killed in the second."""
    (tmp_path / "script.py").write_text(
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        "import crucible\n"
        "from crucible.training.run import Run\n"
        "record, done = Run.record, []\n"
        "def killing(self, dev):\n"
        "    record(self, dev)\n"
        "    done.append(1)\n"
        "    if len(done) == 6 and not os.environ['TORCHELASTIC_RESTART_COUNT'] != '0':\n"
        "        self.settle()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "Run.record = killing\n"
        "for lr in (0.1, 0.01):\n"
        "    crucible.train('trainer.shards=2', 'trainer.total_epochs=4', 'trainer.checkpoint_every=1', 'tracking=none', f'optimizer.lr={lr}')\n"
    )
    start = [
        f"{Path(sys.executable).parent}/torchrun",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "2",
        "script.py",
    ]
    done = subprocess.run(
        start, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = sorted(tmp_path.glob("outputs/20*/*/journal.jsonl"))
    rates = [each.parent.joinpath("config.yaml").read_text().split("lr: ")[1].split()[0] for each in runs]
    assert sorted(rates) == ["0.01", "0.1"] and [
        '"resume"' in each.read_text() for each, lr in zip(runs, rates, strict=True) if lr == "0.01"
    ] == [True]


def test_several_trainings_at_once_are_refused_on_several_processes(command, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for words in (["sweep=coarse_to_fine"], ["seed=1,2"]):
        done = command("train", "-m", *words)
        assert done.code == 2 and "torchrun has started several processes for one training" in done.err


@pytest.mark.slow
def test_more_processes_than_shards_are_refused_and_leave_nothing(tmp_path) -> None:
    running = together(tmp_path, 3, "trainer.shards=2")
    told, _ = running.communicate(timeout=120)
    assert running.returncode and "3 processes would share 2 shard(s)" in told and not (tmp_path / "outputs").exists()


def test_shards_are_chosen_by_data_and_device_and_the_record_says_how_many(command, tmp_path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", x=rng.integers(0, 256, (1400, 8, 8), np.uint8), y=np.arange(1400) % 3)
    words = [
        "data=npz",
        "data.path=a.npz",
        "model=lenet5",
        "trainer.total_epochs=1",
        "tracking=none",
        "trainer.threads=1",
    ]
    for shards, size, folder in (
        ("auto", 768, "chosen"),
        (3, 768, "declared"),
        ("auto", 256, "small"),
        (1, 256, "plain"),
    ):
        done = command(
            "train", *words, f"trainer.shards={shards}", f"trainer.batch_size={size}", f"hydra.run.dir={folder}"
        )
        assert done.code == 0, done.err
        assert (f"{ {'chosen': 3, 'small': 1}.get(folder) } shard(s) a batch" in done.out) == (shards == "auto")
    summaries = {
        name: json.loads((tmp_path / name / "train.json").read_text()) for name in ("chosen", "declared", "small")
    }
    assert (
        summaries["chosen"]["shards"] == 3
        and summaries["small"]["shards"] == 1
        and "shards" not in summaries["declared"]
    )
    weights = {
        name: (tmp_path / name / "weights.safetensors").read_bytes()
        for name in ("chosen", "declared", "small", "plain")
    }
    assert weights["chosen"] == weights["declared"] != weights["small"] == weights["plain"]
    vectors = command(
        "train",
        "trainer.shards=auto",
        "trainer.batch_size=1024",
        "trainer.total_epochs=1",
        "tracking=none",
        "data=circles",
        "hydra.run.dir=v",
    )
    assert "1 shard(s) a batch" in vectors.out
