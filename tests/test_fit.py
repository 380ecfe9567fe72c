"""`fit` is the loop written by hand, to the last bit; and it stops where a number stops being finite."""

import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import card_of, write_split
from torch import nn

from crucible.data.augment import Identity, Light
from crucible.data.batches import Batches
from crucible.optim.guard import GuardedOptimizer
from crucible.optim.optimizers import adam, momentum
from crucible.optim.schedules import inverse_time
from crucible.regularizers import L2
from crucible.seeds import derive
from crucible.tasks.classification import Classification
from crucible.tracking import checkpoint as checkpoint_module
from crucible.tracking.checkpoint import Checkpoints
from crucible.tracking.journal import Journal, read_events
from crucible.training import usage
from crucible.training.best import Best
from crucible.training.fit import evaluate, fit
from crucible.training.locate import locate_nonfinite
from crucible.training.run import NonFinite, Run

CPU = torch.device("cpu")
TASK = {"monitor": "f1", "goal": "maximize", "tolerance": 0.02}


def network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)
    )


def data(folder: Path, train: int = 13) -> Batches:
    rng = np.random.default_rng(0)
    for split, size in (("train", train), ("dev", 7)):
        write_split(folder, split, rng.integers(0, 256, (size, 1, 3, 4)).astype(np.uint8), np.arange(size) % 3)
    card = card_of((1, 3, 4), train=train, kind="standard", mean=[100.0], std=[50.0])
    card.write(folder / "card.json")
    return Batches(folder, card, CPU, batch_size=4, augment=Identity(), seed=3)


def recorder(folder: Path, model: nn.Module, optimizer: GuardedOptimizer, schedule, **changes) -> Run:
    goal, patience, every = (
        changes.pop(key, usual) for key, usual in (("goal", "maximize"), ("patience", None), ("checkpoint_every", 1))
    )
    best, checkpoints = Best(monitor="f1", goal=goal, patience=patience), Checkpoints(folder, every=every, identity={})
    return Run(
        folder, Journal(folder), model, optimizer, schedule, best=best, checkpoints=checkpoints, **{"seed": 3} | changes
    )


def trained(tmp_path: Path, model: nn.Module, max_norm: float, total: int = 4, state=None, **changes) -> Run:
    """Train with everything on: dropout, batch norm, momentum, a schedule, a penalty, clipping."""
    tmp_path.mkdir(exist_ok=True)
    batches = data(tmp_path)
    optimizer = GuardedOptimizer(momentum(model.parameters(), lr=0.5, beta=0.9, form="averaged"), max_norm=max_norm)
    schedule = inverse_time(optimizer.optimizer, decay_rate=0.5, warmup_epochs=1)
    task = L2(Classification(batches.card, **TASK), 13, strength=0.3)
    run = recorder(tmp_path, model, optimizer, schedule, **changes)
    run.restore(state)
    fit(model, task, batches, optimizer, schedule, run, total_epochs=total)
    return run


def loop_by_hand(tmp_path: Path, model: nn.Module, max_norm: float) -> None:
    """The same training, written out."""
    x = torch.from_numpy(np.load(tmp_path / "train" / "x.npy"))
    y = torch.from_numpy(np.load(tmp_path / "train" / "y.npy"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, dampening=0.9, fused=True)
    for p in model.parameters():
        optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    for epoch in range(4):
        torch.manual_seed(derive(3, "dropout", epoch))
        order = torch.randperm(13, generator=torch.Generator().manual_seed(derive(3, "order", epoch)))
        optimizer.param_groups[0]["lr"] = 0.5 * (min(1.0, (epoch + 1) / 2) / (1 + 0.5 * epoch))
        model.train()
        for rows in (order[:4], order[4:8], order[8:13]):  # 13 = 4 + 4 + 4 + 1: the one joins the batch before it
            scale = (1 / torch.tensor(50.0, dtype=torch.float64)).float()
            shift = (-100.0 / torch.tensor(50.0, dtype=torch.float64)).float()
            inputs = torch.addcmul(shift.view(1, 1, 1), x[rows].float(), scale.view(1, 1, 1))
            weights = [p for p in model.parameters() if p.dim() > 1]
            loss = nn.functional.cross_entropy(model(inputs), y[rows])
            loss = loss + 0.3 / 26 * sum((w.pow(2).sum() for w in weights), start=torch.zeros(()))
            optimizer.zero_grad()
            loss.backward()
            if max_norm < float("inf"):
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()


@pytest.mark.parametrize("max_norm", [float("inf"), 0.05])
def test_fit_is_the_loop_written_by_hand_to_the_last_bit(tmp_path, max_norm) -> None:
    ours, theirs = network(), network()
    trained(tmp_path, ours, max_norm)
    loop_by_hand(tmp_path, theirs, max_norm)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


@pytest.mark.parametrize("killed_after", [1, 2, 3, 4])
def test_resumed_is_uninterrupted_to_the_last_bit(tmp_path, killed_after) -> None:
    from crucible.tracking import checkpoint

    whole = trained(tmp_path / "a", network(), 0.05)
    trained(tmp_path / "b", network(), 0.05, total=killed_after)
    torch.manual_seed(12345)
    rest = trained(tmp_path / "b", nn.Sequential(*network()), 0.05, state=checkpoint.load(tmp_path / "b"))
    for run in (whole, rest):
        run.finish()
    assert (tmp_path / "a/weights.safetensors").read_bytes() == (tmp_path / "b/weights.safetensors").read_bytes()
    a, b = ([e for e in read_events(tmp_path / n / "journal.jsonl") if e["kind"] == "metrics"] for n in "ab")
    assert [(e["epoch"], e["step"], e["values"]) for e in a] == [(e["epoch"], e["step"], e["values"]) for e in b]


def test_the_journal_holds_the_mean_of_the_epochs_losses(tmp_path) -> None:
    model = network()
    run = trained(tmp_path, model, float("inf"), log_every=1)
    events = [e for e in read_events(tmp_path / "journal.jsonl") if e["kind"] == "metrics"]
    steps = [e["values"]["step/loss"] for e in events if "step/loss" in e["values"]]
    epochs = [e["values"]["train/loss"] for e in events if "train/loss" in e["values"]]
    for epoch in range(4):
        assert epochs[epoch] == pytest.approx(np.average(steps[3 * epoch : 3 * epoch + 3], weights=[4, 4, 5]), rel=1e-6)
    assert run.step == 12


def test_another_seed_gives_other_weights(tmp_path) -> None:
    first, second = network(), network()
    trained(tmp_path / "a", first, 1.0)
    trained(tmp_path / "b", second, 1.0, seed=4)
    assert not torch.equal(first[1].weight, second[1].weight)


def test_evaluation_changes_nothing_and_uses_running_averages(tmp_path) -> None:
    batches, model = data(tmp_path), network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    task = Classification(batches.card, **TASK)
    scores = evaluate(model, task, batches.evaluation("dev"))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    alone = [
        model.eval()(batch["x"][i : i + 1]).argmax().item() for batch in batches.evaluation("dev") for i in range(7)
    ]
    assert scores["accuracy"] == pytest.approx(np.mean(np.array(alone) == np.arange(7) % 3))
    assert evaluate(model, task, batches.evaluation("test")) == {}


def test_the_best_epoch_is_the_first_best_on_dev_ties_by_loss_and_patience_ends_the_run(tmp_path) -> None:
    scores = iter([(0.5, 1.0), (0.7, 0.9), (0.7, 0.8), (0.7, 0.8), (0.6, 0.1), (0.9, 0.1)])
    model = nn.Linear(2, 2)
    optimizer = GuardedOptimizer(adam(model.parameters(), lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8))
    schedule = inverse_time(optimizer.optimizer, decay_rate=0.0, warmup_epochs=0)
    run = recorder(tmp_path, model, optimizer, schedule, patience=3)
    kept = []
    for _ in run.epochs(100):
        with torch.no_grad():
            model.weight += 1
        kept.append(model.weight.clone())
        run.add({"loss": torch.tensor(1.0)}, 1)
        f1, loss = next(scores)
        run.record({"f1": f1, "loss": loss})
    run.finish()
    assert run.best.epoch == 3 and run.epoch == 5  # the tie went to the lower loss, and patience did not count it
    assert torch.equal(model.weight, kept[2])


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_a_monitored_number_that_is_not_finite_stops_the_run(tmp_path, goal) -> None:
    model = nn.Linear(2, 2)
    optimizer = GuardedOptimizer(adam(model.parameters(), lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8))
    run = recorder(
        tmp_path, model, optimizer, inverse_time(optimizer.optimizer, decay_rate=0.0, warmup_epochs=0), goal=goal
    )
    with pytest.raises(ArithmeticError, match="dev/f1 is nan"):
        for _ in run.epochs(2):
            run.add({"loss": torch.tensor(1.0)}, 1)
            run.record({"f1": float("nan"), "loss": 1.0})


def test_a_poisoned_layer_is_named_and_the_weights_are_those_before(tmp_path) -> None:
    model, batches = network(), data(tmp_path)

    class Poisoned(Classification):
        calls = 0

        def losses(self, model, batch):
            Poisoned.calls += 1
            if Poisoned.calls == 6:  # second epoch, third step
                kept.extend(p.detach().clone() for p in model.parameters())
                model[1].register_forward_hook(lambda layer, inputs, output: output * float("nan"))
            return super().losses(model, batch)

    kept: list[torch.Tensor] = []
    task = Poisoned(batches.card, **TASK)
    optimizer = GuardedOptimizer(adam(model.parameters(), lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8))
    schedule = inverse_time(optimizer.optimizer, decay_rate=0.0, warmup_epochs=0)
    with pytest.raises(NonFinite, match="epoch 2, step 3"):
        fit(model, task, batches, optimizer, schedule, recorder(tmp_path, model, optimizer, schedule), total_epochs=9)
    assert all(torch.equal(p, was) for p, was in zip(model.parameters(), kept, strict=True))
    assert locate_nonfinite(model, task, next(iter(batches.train(1)))) == "the output of layer '1'"


def test_light_augmentation_moves_whole_images_and_flips_only_where_allowed() -> None:
    images = torch.arange(2 * 3 * 10 * 10, dtype=torch.float32).view(2, 3, 10, 10).repeat(40, 1, 1, 1)
    moved = {
        allowed: Light(allowed, shift=0.2)({"x": images}, torch.Generator().manual_seed(0))["x"]
        for allowed in (False, True)
    }
    flips = {}
    for allowed, result in moved.items():
        flips[allowed] = 0
        for before, after in zip(images, result, strict=True):
            options = [
                (dy, dx, flip)
                for dy in range(-2, 3)
                for dx in range(-2, 3)
                for flip in (False, True)
                if torch.equal(after, shifted(before, dy, dx, flip))
            ]
            assert len(options) == 1
            flips[allowed] += options[0][2]
    assert flips[False] == 0 and 20 < flips[True] < 60


def shifted(image: torch.Tensor, dy: int, dx: int, flip: bool) -> torch.Tensor:
    """Shift by repeating the edge, pixel by pixel."""
    h, w = image.shape[1:]
    out = torch.empty_like(image)
    for i in range(h):
        for j in range(w):
            column = w - 1 - j if flip else j
            out[:, i, j] = image[:, min(max(i + dy, 0), h - 1), min(max(column + dx, 0), w - 1)]
    return out


def test_batches_cover_the_split_once_an_epoch_in_an_order_of_their_own(tmp_path) -> None:
    batches = data(tmp_path, train=26)
    raw = np.load(tmp_path / "train" / "x.npy")
    seen = []
    for epoch in range(2):
        x = torch.cat([batch["x"] for batch in batches.train(epoch)])
        seen.append((x * 50 + 100).round().numpy().astype(np.uint8))
        assert sorted(map(bytes, seen[-1])) == sorted(map(bytes, raw))
    assert not np.array_equal(seen[0], seen[1])
    again = torch.cat([batch["x"] for batch in batches.train(0)])
    assert np.array_equal((again * 50 + 100).round().numpy().astype(np.uint8), seen[0])


@pytest.mark.parametrize(("worked", "due"), [(10.0, False), (30.0, True)])
def test_checkpoints_left_to_us_cost_at_most_a_twentieth_of_the_time(tmp_path, worked, due) -> None:
    checkpoints = Checkpoints(tmp_path, identity={})
    checkpoints._saved_at, checkpoints._cost = time.monotonic() - worked, 1.0
    assert checkpoints.is_due(1) is due


def test_the_machine_is_told_every_ten_seconds_and_in_the_end(monkeypatch) -> None:
    clock, busy = [100.0], [5.0]
    monkeypatch.setattr(usage.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(usage.time, "process_time", lambda: busy[0])
    monkeypatch.setattr(usage, "MEMORY", Path("/nowhere"))
    used, told = usage.Usage(), []
    assert used.total() == {}
    for _ in range(9):
        clock[0], busy[0] = clock[0] + 4, busy[0] + 6
        told.append(used.add(1000))
    rate = {"system/examples_per_second": 250.0, "system/cpu_percent": 150.0}
    assert told == [{}, {}, rate, {}, {}, rate, {}, {}, rate] and used.total() == rate


def test_memory_is_what_the_system_says() -> None:
    used = usage.Usage()
    used.add(1)
    said = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert abs(used.total()["system/memory_mib"] - int(said[1]) / 1024) < 20


def test_a_checkpoint_is_written_beside_the_training_and_holds_what_was_then(tmp_path, monkeypatch) -> None:
    go_on, write = threading.Event(), checkpoint_module.save

    def slow(folder: Path, state: dict) -> None:
        assert go_on.wait(20)
        write(folder, state)

    monkeypatch.setattr(checkpoint_module, "save", slow)
    journal, weights = Journal(tmp_path), torch.ones(3)
    checkpoints = Checkpoints(tmp_path, every=1, identity={})
    state = {"model": {"w": weights}, "best_rank": [1.0, -2.0], "latest": {"dev/f1": 0.5}}
    checkpoints.save(journal, lambda: state)
    weights += 1  # the next step
    assert not (tmp_path / "checkpoint.pt").exists()
    go_on.set()
    checkpoints.wait()
    found = checkpoint_module.load(tmp_path)
    assert torch.equal(found["model"]["w"], torch.ones(3)) and found["best_rank"] == [1.0, -2.0]


def test_a_checkpoint_that_cannot_be_written_is_told_before_the_next(tmp_path, monkeypatch) -> None:
    def full(folder: Path, state: dict) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "save", full)
    checkpoints, journal = Checkpoints(tmp_path, every=1, identity={}), Journal(tmp_path)
    checkpoints.save(journal, dict)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(journal, dict)
