"""How long a training will take: stated before it begins, and nothing of it changed by the look."""

from pathlib import Path

import pytest
import torch
from conftest import composed
from torch import nn

from crucible.app.build import Parts, assemble, build_model, build_optimizer, build_task
from crucible.app.compose import Job
from crucible.app.training import prepared_data
from crucible.training import expected
from crucible.training.expected import expected_seconds, in_words

WORDS = ["model=resnet", "model.keep_prob=0.5", "tracking=none", "trainer.threads=1", "trainer.total_epochs=1"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "less than a minute"), (20.4, "about 20 seconds"), (89, "about 89 seconds"), (90, "about 1.5 minutes"),
     (720, "about 12 minutes"), (3 * 3600, "about 3.0 hours"), (45 * 3600, "about 1.9 days"), (1e9, "about 11574 days")],
)  # fmt: skip
def test_a_time_in_words(seconds, words) -> None:
    assert in_words(seconds) == words


def test_the_look_leaves_the_weights_of_a_training_as_they_are(command, monkeypatch) -> None:
    """Batch norm, dropout and augmentation: equal bytes with the look and without it."""
    seen = []
    for bound, name in ((float("inf"), "plain"), (0.0, "looked")):
        monkeypatch.setattr(expected, "SHORT_SECONDS", bound)
        done = command("train", *WORDS, "augment=light", f"hydra.run.dir={name}")
        assert done.code == 0, done.err
        assert ("expected: less than a minute" in done.out) == (name == "plain") and "; expected: " in done.out
        seen.append(Path(name, "weights.safetensors").read_bytes())
    assert seen[0] == seen[1]


def test_the_time_is_that_of_every_example_in_every_epoch(command, monkeypatch) -> None:
    """1,078 of train three times as dear as 360 of dev, from a step of 64 that takes two seconds; 50 epochs."""
    parts = _parts()
    monkeypatch.setattr(expected, "SHORT_SECONDS", 0.0)
    monkeypatch.setattr(expected, "_step", lambda model, task, batch: 2.0 * len(batch["x"]) / 64)
    found = expected_seconds(*parts.trained[:3], 50)
    assert found == pytest.approx(50 * 2.0 / 64 * (1078 + 359 / 3), rel=1e-3)


def test_the_model_is_put_back(command, monkeypatch) -> None:
    monkeypatch.setattr(expected, "SHORT_SECONDS", 0.0)
    parts = _parts()
    before = {name: value.clone() for name, value in parts.model.state_dict().items()}
    random = torch.get_rng_state()
    assert expected_seconds(*parts.trained[:3], 1) > 0
    assert all(torch.equal(before[name], value) for name, value in parts.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(each.grad is None for each in parts.model.parameters()) and parts.model.training
    assert any(isinstance(each, nn.BatchNorm2d) for each in parts.model.modules())


def _parts() -> Parts:
    cfg = composed(*WORDS)
    data = prepared_data(Job(cfg, Path("run"), []))
    task = build_task(cfg, data.card)
    model, transfer = build_model(cfg, data, task)
    return assemble(cfg, data, task, model, transfer, *build_optimizer(cfg, model, transfer))
