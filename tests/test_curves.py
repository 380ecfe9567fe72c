"""The six patterns of the notes, recognised under noise; layers that vanish or explode; what mistakes cost."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import card_of, toy_npz, write_split
from torch import nn

from crucible.data.augment import Identity
from crucible.data.batches import Batches
from crucible.diagnosis.ceiling import ceilings
from crucible.diagnosis.curves import _line, recognise, trend
from crucible.diagnosis.flow import Watch, warnings
from crucible.inference.saved_run import Predictor, load_run
from crucible.tasks.classification import Classification
from crucible.tracking.curves import read_curves
from crucible.training.probe import Probe, dead_units
from crucible.training.sampled import Sampled

EPOCHS = 60
SHAPES = {
    "falling": [2.0 * math.exp(-0.03 * t) + 0.05 for t in range(EPOCHS)],
    "level": [0.3 + 1.5 * math.exp(-0.4 * t) for t in range(EPOCHS)],
    "rising": [0.4 + 0.8 * math.exp(-0.3 * t) + 0.0003 * t * t for t in range(EPOCHS)],
}
PATTERNS = {
    ("falling", "falling"): "still_learning",
    ("falling", "level"): "overfitting_or_uneven",
    ("falling", "rising"): "overfitting",
    ("level", "falling"): "data_problem",
    ("level", "level"): "bottleneck",
    ("rising", "rising"): "diverging",
}


def rows(train: list[float], dev: list[float]) -> list[dict[str, float]]:
    return [{"train/loss": a, "dev/loss": b} for a, b in zip(train, dev, strict=True)]


@pytest.mark.parametrize(("shapes", "name"), PATTERNS.items())
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_six_patterns_are_recognised_at_any_scale(shapes, name, noise) -> None:
    rng = np.random.default_rng(0)
    for scale in (0.01, 1.0, 100.0):
        noisy = [[scale * v * (1 + noise * rng.normal()) for v in SHAPES[shape]] for shape in shapes]
        found = recognise(rows(*noisy))
        assert found is not None and found.name == name


@pytest.mark.parametrize("shape", SHAPES)
def test_the_trend_is_right_in_nearly_all_of_200_noisy_curves(shape) -> None:
    rng = np.random.default_rng(1)
    found = [trend([v * (1 + 0.05 * rng.normal()) for v in SHAPES[shape]]) for _ in range(200)]
    assert found.count(shape) >= 185


def test_the_line_is_scipys_and_its_error_that_of_points_that_share_their_noise() -> None:
    from scipy.stats import linregress

    values = np.random.default_rng(0).normal(size=17).cumsum().tolist()
    slope, error = _line(values)
    theirs = linregress(range(17), values)
    assert slope == pytest.approx(theirs.slope) and error == pytest.approx(theirs.stderr * math.sqrt(3))


def test_what_is_none_of_the_six_or_too_short_has_no_name() -> None:
    assert recognise(rows(SHAPES["rising"], SHAPES["falling"])) is None
    assert recognise(rows([1.0, 0.9, 0.8], [1.0, 0.9, 0.8])) is None
    assert recognise([{"train/loss": 1.0}] * 10) is None and recognise([]) is None


def test_a_loss_that_is_nothing_is_level_even_if_it_halves() -> None:
    assert trend([1e-9 * 0.9**t for t in range(40)]) == "level"
    assert trend([1e-5 + 5e-7 * t for t in range(40)]) == "level"
    found = recognise(rows([1e-6] * 60, SHAPES["rising"]))
    assert found is not None and found.name == "overfitting"


FINE = {"activation/a": 1.0, "activation/b": 0.7, "gradient/a": 0.02, "gradient/b": 0.05}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gradient/a": 4e-5}, "gradients vanish in layer a"),
        ({"gradient/a": 60.0}, "gradients explode in layer a"),
        ({"activation/a": 5e-4}, "activations vanish in layer a"),
        ({"activation/a": 2e3}, "activations explode in layer a"),
    ],
)
def test_a_layer_that_vanishes_or_explodes_is_named_once(change, says) -> None:
    watch = Watch()
    assert watch(FINE) == []
    stated = watch(FINE | change)
    assert len(stated) == 1 and stated[0].startswith(says)
    assert watch(FINE | change) == [] and Watch(stated)(FINE | change) == []


def test_a_second_trouble_is_told_although_the_first_was() -> None:
    watch = Watch()
    assert watch(FINE | {"activation/a": 1e-5}) and watch(FINE | {"gradient/a": 1e-9})


def test_exactly_a_thousandfold_is_not_yet_called_out() -> None:
    for edge in ({"activation/a": 1e3}, {"activation/a": 1e-3}, {"gradient/a": 50.0}, {"gradient/a": 5e-5}):
        assert warnings({"activation/a": 1.0, "activation/b": 1.0, "gradient/a": 0.05, "gradient/b": 0.05} | edge) == []


def test_the_last_layer_may_answer_as_small_or_large_as_it_likes() -> None:
    assert warnings(FINE | {"activation/b": 1e-5}) == [] == warnings({"activation/only": 1e-9, "gradient/only": 1e-9})


def test_a_loss_that_is_learned_has_no_vanishing_gradients() -> None:
    assert warnings(FINE | {"gradient/a": 1e-20, "gradient/b": 1e-14}) == []


def test_the_probe_measures_what_a_hook_and_autograd_would() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 3))
    x = torch.randn(300, 4)
    loss = model(x).pow(2).mean()
    loss.backward()
    found = Probe(model, {"x": x})()
    w, b = model[0].weight.detach(), model[0].bias.detach()
    first = x[:64] @ w.T + b
    second = first.relu() @ model[3].weight.detach().T + model[3].bias.detach()
    assert list(found) == ["activation/0", "activation/3", "gradient/0", "gradient/3"]
    assert found["activation/0"] == pytest.approx(first.numpy().std(), rel=1e-5)
    assert found["activation/3"] == pytest.approx(second.numpy().std(), rel=1e-5)
    assert found["gradient/3"] == pytest.approx(np.sqrt((model[3].weight.grad.numpy() ** 2).mean()), rel=1e-5)


def test_dead_units_fire_for_no_example_of_any_batch() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        model[0].bias.copy_(torch.tensor([0.0, 0.0, -9.0, -1.0]))
    batches = [{"x": torch.tensor([[1.0, 0.0]])}, {"x": torch.tensor([[-1.0, 2.0]])}]
    assert dead_units(model, batches) == {"1": 0.5}
    maps = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    with torch.no_grad():
        maps[0].weight.fill_(1.0)
        maps[0].bias.copy_(torch.tensor([0.0, -5.0]))
    corner = torch.zeros(2, 1, 5, 5)
    corner[1, 0, 4, 4] = 3.0  # one pixel of one image keeps the first channel alive; the second never fires
    assert dead_units(maps, [{"x": corner}]) == {"1": 0.5}


def test_ceilings_say_what_each_kind_of_mistake_would_save() -> None:
    counts = torch.tensor([[50.0, 6, 0], [2, 40, 0], [0, 12, 90]])
    mistakes = counts - torch.diag(counts.diagonal())
    found = ceilings(mistakes, counts, ["cat", "dog", "cow"], lambda mean: mean)
    assert [(row["label"], row["predicted"], row["count"]) for row in found] == [
        ("cow", "dog", 12), ("cat", "dog", 6), ("dog", "cat", 2),
    ]  # fmt: skip
    assert found[0]["share"] == pytest.approx(12 / 20) and found[0]["error_if_mended"] == pytest.approx(8 / 200)
    assert sum(row["share"] for row in found) == pytest.approx(1)
    assert ceilings(torch.zeros(3, 3), counts, ["a", "b", "c"], lambda mean: mean) == []
    rooted = ceilings(torch.tensor([[16.0, 0], [9, 0]]), torch.tensor([[3.0, 0], [1, 0]]), ["a", "b"], math.sqrt)
    assert rooted[0]["error_if_mended"] == pytest.approx(1.5)


def test_train_is_sampled_as_dev_is_measured(command, tmp_path) -> None:
    """After one epoch: accuracy and error on the rows that the sample is drawn of, by the weights that were written."""
    toy_npz(tmp_path / "data.npz", size=90)
    words = [
        "data=npz",
        "data.path=data.npz",
        "trainer.total_epochs=1",
        "model.keep_prob=0.5",
        "tracking=none",
        "hydra.run.dir=run",
    ]
    assert command("train", *words).code == 0
    saved, home = load_run(tmp_path / "run", torch.device("cpu")), next((tmp_path / "artifacts/prepared").iterdir())
    x, y = (np.load(home / "train" / f"{name}.npy") for name in ("x", "y"))
    with torch.inference_mode():
        said = Predictor(saved)(torch.from_numpy(x).float()).argmax(1).numpy()
    rows = torch.randperm(54, generator=torch.Generator().manual_seed(0))[:18].numpy()  # as many as dev has
    said, y = said[rows], y[rows]
    row = read_curves(tmp_path / "run/curves.csv")[0]
    assert row["train/accuracy"] == pytest.approx(float((said == y).mean())) and row["train/error"] == pytest.approx(
        float((said != y).mean())
    )


@pytest.mark.parametrize(
    ("size", "dev", "rows", "every"),
    [(50, 0, 50, 17), (1078, 360, 360, 6), (6000, 2000, 1000, 3), (50_000, 5000, 1000, 1)],
)
def test_a_sample_costs_about_a_fiftieth_of_the_training(tmp_path, size, dev, rows, every) -> None:
    """As many examples a epoch as 6 of 100 that train: a look at one costs a third of a step on it."""
    card = card_of((4,), classes=2, train=size)
    card = card if dev else replace(card, splits={"train": card.splits["train"]})
    for split, count in (("train", size), ("dev", dev)):
        if count:
            write_split(tmp_path, split, np.zeros((count, 4), np.float32), np.arange(count) % 2)
    card.write(tmp_path / "card.json")
    batches = Batches(tmp_path, card, torch.device("cpu"), batch_size=64, augment=Identity(), seed=0)
    task = Classification(card, monitor="f1", goal="maximize", tolerance=0.02)
    sampled = Sampled(nn.Linear(4, 2), task, batches)
    looked = [epoch for epoch in range(1, 61) if sampled(epoch)]
    assert looked == list(range(1, 61, every)) and rows / every <= 0.06 * size + 1
