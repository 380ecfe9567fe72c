"""Checkpoints within an epoch: what goes on there ends with the bytes of what was never interrupted."""

from collections import Counter, OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import card_of, write_split

from crucible.data.augment import Strong
from crucible.data.batches import Batches
from crucible.nested import moved
from crucible.seeds import random_state, set_random_state
from crucible.tracking import checkpoint as checkpoint_module
from crucible.tracking.checkpoint import Checkpoints
from crucible.tracking.control import send
from crucible.tracking.journal import read_events
from crucible.training.run import Run

FILES = ("weights.safetensors", "curves.csv", "train.json")
TRAINED = {
    "all that is drawn": ["model.keep_prob=0.7", "model.batch_norm=true", "augment=light", "optimizer=momentum", "trainer.max_norm=1", "trainer.log_every=3"],
    "a windowed order": ["data.order=windowed", "optimizer=rmsprop", "schedule=inverse_time"],
    "balanced classes": ["data.sampling=balanced", "model.keep_prob=0.8"],
    "no dev": ["data.split.dev=0", "regularizer=l2"],
    "two shards": ["trainer.shards=2", "model.keep_prob=0.8"],
    "triplets at random": ["experiment=verification", "task.mining=random", "trainer.batch_size=64"],
}  # fmt: skip


def interrupted(monkeypatch, step: int) -> None:
    """Let training stop, as if it was killed, before this step is taken in."""
    add = Run.add

    def stopping(self: Run, losses, size: int) -> None:
        if self.step == step:
            raise KeyboardInterrupt
        add(self, losses, size)

    monkeypatch.setattr(Run, "add", stopping)


@pytest.mark.parametrize("trained", [name for name in TRAINED if name != "triplets at random"])
def test_what_goes_on_within_an_epoch_ends_with_the_same_bytes(command, tmp_path, monkeypatch, trained: str) -> None:
    words = [*TRAINED[trained], "trainer.total_epochs=3", "trainer.checkpoint_every={steps: 5}", "tracking=none"]
    assert command("train", *words, "hydra.run.dir=whole").code == 0
    with monkeypatch.context() as patch:
        interrupted(patch, 28)  # an epoch has 17 to 23 steps: within the second
        assert command("train", *words, "hydra.run.dir=part").code == 130
    assert command("train", "resume=part").code == 0
    [resumed] = [event for event in read_events(tmp_path / "part" / "journal.jsonl") if event["kind"] == "resume"]
    assert (resumed["epoch"], resumed["step"]) == (1, 25)
    for name in FILES:
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_last_step_of_an_epoch_is_no_place_to_stop_as_its_gradients_are_looked_at(
    command, tmp_path, monkeypatch
) -> None:
    words = ["data.split.dev=0", "trainer.total_epochs=3", "trainer.checkpoint_every={steps: 1}", "tracking=none"]
    assert command("train", *words, "hydra.run.dir=whole").code == 0
    steps = next(
        e["step"] for e in read_events(tmp_path / "whole" / "journal.jsonl") if "train/loss" in e.get("values", {})
    )
    record = Run.record

    def stopping(self: Run, dev) -> None:
        if self.epoch == 1:
            raise KeyboardInterrupt
        record(self, dev)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "record", stopping)
        assert command("train", *words, "hydra.run.dir=part").code == 130
    assert command("train", "resume=part").code == 0
    [resumed] = [event for event in read_events(tmp_path / "part" / "journal.jsonl") if event["kind"] == "resume"]
    assert (resumed["epoch"], resumed["step"]) == (1, 2 * steps - 1)
    for name in FILES:
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_what_is_asked_in_between_is_done_at_the_next_boundary(command, tmp_path, monkeypatch) -> None:
    words = ["trainer.total_epochs=3", "trainer.checkpoint_every={steps: 5}", "tracking=none"]
    with monkeypatch.context() as patch:
        interrupted(patch, 28)
        assert command("train", *words, "hydra.run.dir=part").code == 130
    send(tmp_path / "part", "optimizer.lr=0.002")
    assert command("train", "resume=part").code == 0
    done = [
        e for e in read_events(tmp_path / "part" / "journal.jsonl") if e["kind"] == "control" and e["state"] == "done"
    ]
    assert [event["epoch"] for event in done] == [2]
    lines = (tmp_path / "part" / "curves.csv").read_text().splitlines()
    rate = lines[0].split(",").index("lr")
    assert [float(line.split(",")[rate]) for line in lines[1:]] == [0.001, 0.001, 0.002]


def test_batches_go_on_where_they_were_with_their_augmentation(tmp_path) -> None:
    rng = np.random.default_rng(0)
    write_split(tmp_path, "train", rng.integers(0, 256, (50, 1, 8, 8)).astype(np.uint8), np.arange(50) % 3)
    card_of((1, 8, 8), train=50).write(tmp_path / "card.json")

    def made() -> Batches:
        augment = Strong(True, shift=1, crop=0.2, rotation_degrees=10, colour=0.1, noise=0.1)
        return Batches(
            tmp_path, card_of((1, 8, 8), train=50), torch.device("cpu"), batch_size=8, augment=augment, seed=3
        )

    whole, first = [batch["x"] for batch in made().train(2)], made()
    some = first.train(2)
    for _ in range(3):
        next(some)
    state = first.state_dict()
    next(some)  # the state is a copy
    second = made()
    second.load_state_dict(state)
    rest = [batch["x"] for batch in second.train(2)]
    assert len(rest) == len(whole) - 3 and all(map(torch.equal, rest, whole[3:]))
    again = [batch["x"] for batch in second.train(2)]
    assert len(again) == len(whole) and all(map(torch.equal, again, whole))  # once
    second.load_state_dict(state)
    assert len(list(second.train(3))) == len(whole)  # another epoch is whole


def test_when_a_checkpoint_is_due(tmp_path, monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda: clock[0])
    by_steps, by_minutes, by_epochs, ours = (
        Checkpoints(tmp_path, every=every, identity={}) for every in ({"steps": 4}, {"minutes": 0.5}, 2, None)
    )
    assert [by_steps.is_due_within(step) for step in range(1, 9)] == [False, False, False, True] * 2
    assert not by_steps.is_due(1) and not by_minutes.is_due(4)
    clock[0] = 29.0
    assert not by_minutes.is_due_within(7)
    clock[0] = 31.0
    assert by_minutes.is_due_within(7) and not by_epochs.is_due_within(8) and not ours.is_due_within(8)
    assert by_epochs.is_due(2) and not by_epochs.is_due(3)
    clock[0] = 601.0
    assert ours.is_due_within(9) and not by_epochs.is_due_within(9)


def test_while_one_is_written_no_other_is_due(tmp_path, monkeypatch) -> None:
    from crucible.tracking.journal import Journal

    clock = [0.0]
    monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda: clock[0])
    checkpoints = Checkpoints(tmp_path, every={"minutes": 1}, identity={})
    monkeypatch.setattr(checkpoints, "_write", lambda state, start: None)  # never there
    clock[0] = 61.0
    assert checkpoints.is_due_within(1)
    checkpoints.save(Journal(tmp_path), dict)
    assert not checkpoints.is_due_within(2)


def test_what_was_not_finite_is_in_no_checkpoint(command, tmp_path, monkeypatch) -> None:
    words = [
        "optimizer=sgd",
        "optimizer.lr=1e30",
        "model.layers=[8]",
        "trainer.checkpoint_every={steps: 1}",
        "tracking=none",
    ]
    done = command("train", *words, "hydra.run.dir=run")
    assert done.code == 2 and "is not finite" in done.err
    state = checkpoint_module.load(tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in state["model"].values())
    failed = next(e for e in read_events(tmp_path / "run" / "journal.jsonl") if e["kind"] == "failed")
    assert state["step"] == failed["step"] - 1 <= 3  # and not at the end of the epoch


def test_examples_a_second_count_what_this_process_has_trained_on(command, tmp_path, monkeypatch) -> None:
    words = ["trainer.total_epochs=2", "trainer.checkpoint_every={steps: 5}", "tracking=none"]
    with monkeypatch.context() as patch:
        interrupted(patch, 28)
        command("train", *words, "hydra.run.dir=part")
    counted = []
    add = Run.record

    def recording(self: Run, dev) -> None:
        add(self, dev)
        counted.append(self.usage._now.examples - self.usage._start.examples)

    monkeypatch.setattr(Run, "record", recording)
    assert command("train", "resume=part").code == 0
    size = 1078  # of train: 17 steps, of which the second epoch had taken 8
    assert counted == [size - 8 * 64]


def test_the_generators_are_where_they_were() -> None:
    torch.manual_seed(4)
    torch.rand(3)
    state = random_state(torch.device("cpu"))
    first = torch.rand(5)
    set_random_state(state, torch.device("cpu"))
    assert torch.equal(torch.rand(5), first)


@pytest.mark.slow
def test_triplets_drawn_at_random_go_on(command, tmp_path: Path, monkeypatch) -> None:
    words = [
        *TRAINED["triplets at random"],
        "trainer.total_epochs=2",
        "trainer.checkpoint_every={steps: 2}",
        "tracking=none",
    ]
    assert command("train", *words, "hydra.run.dir=whole").code == 0
    with monkeypatch.context() as patch:
        interrupted(patch, 3)
        assert command("train", *words, "hydra.run.dir=part").code == 130
    assert command("train", "resume=part").code == 0
    for name in FILES:
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_schedule_of_torch_goes_on_with_its_milestones(command, tmp_path, monkeypatch) -> None:
    words = ["~schedule.warmup_epochs", "schedule._target_=torch.optim.lr_scheduler.MultiStepLR", "+schedule.milestones=[3]", "+schedule.gamma=0.1",
             "trainer.total_epochs=5", "trainer.checkpoint_every=1", "tracking=none"]  # fmt: skip
    assert command("train", *words, "hydra.run.dir=whole").code == 0
    with monkeypatch.context() as patch:
        interrupted(patch, 28)
        assert command("train", *words, "hydra.run.dir=part").code == 130
    assert command("train", "resume=part").code == 0
    for name in FILES:
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_what_is_copied_is_of_the_same_kinds() -> None:
    Point = namedtuple("Point", "x y")
    state = {
        "c": Counter({3: 1}),
        "o": OrderedDict(b=1, a=torch.ones(2)),
        "p": Point(torch.ones(1), 2),
        "l": [torch.zeros(1), (1, "a")],
        "n": None,
    }
    found = moved(state, torch.device("cpu"), copied=True)
    assert str(found) == str(state) and [type(each) for each in found.values()] == [
        type(each) for each in state.values()
    ]
    state["o"]["a"] += 1
    state["l"][0] += 1
    assert found["o"]["a"].tolist() == [1, 1] and found["l"][0].item() == 0
