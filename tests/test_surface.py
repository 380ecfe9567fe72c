"""A point that descends a surface: against closed forms, a loop in float32, and the numbers that the notes print."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import card_of

from crucible.app.reporting import recorded
from crucible.data.readers.generated import tilts
from crucible.errors import Refusal
from crucible.models.point import Point
from crucible.optim import optimizers
from crucible.tasks.surface import SURFACES, Descent, _path

QUICK = ("experiment=surface", "tracking=none", "trainer.threads=1")
LATEST = Path("outputs/latest")


def task(function: str) -> Descent:
    card = card_of((2,), classes=1, kind="none", mean=[0.0], std=[1.0])
    return Descent(card, function=function, monitor="loss", goal="minimize", tolerance=0.01)


def descended(function: str, optimizer, steps: int, start=None) -> np.ndarray:
    """Return the points (steps + 1, d) of a descent on the level surface."""
    own = task(function)
    model = own.attach(Point((2,), own.num_outputs, start=start))
    moves, points = optimizer(model.parameters()), [model.point.detach().numpy().copy()]
    for _ in range(steps):
        moves.zero_grad()
        own.losses(model, {"x": torch.zeros(1, 2)})["loss"].backward()
        moves.step()
        points.append(model.point.detach().numpy().copy())
    return np.array(points)


def rows() -> list[dict[str, str]]:
    return list(csv.DictReader((LATEST / "curves.csv").read_text().splitlines()))


def test_a_point_answers_nothing_and_heights_of_two_surfaces_are_not_compared(command) -> None:
    small = ("-m", "experiment=surface", "trainer.total_epochs=3", "tracking=none", "trainer.threads=1")
    assert command("train", *small, "task.function=valley,parabola", "hydra.sweep.dir=two").code == 0
    done = command("compare", "two")
    assert done.code == 2 and "task.function" in done.err and not Path("outputs/compare").exists()
    np.savez("x.npz", x=np.zeros((2, 2), np.float32))
    for name, word in (("export", "out=x.onnx"), ("predict", "input=x.npz")):
        done = command(name, "run=two/0", word)
        assert done.code == 2 and "says nothing of an example" in done.err
    assert command("compare", "two/0", "x=model.start").code == 0


def test_the_parabola_of_the_notes_digit_for_digit(command) -> None:
    done = command("train", "experiment=parabola", "tracking=none", "trainer.threads=1")
    assert done.code == 0, done.err
    found = [np.float32(row["dev/w/1"]) for row in rows()]
    assert [str(found[0]), str(found[1000])] == ["0.099999994", "4.9999886"]  # as the notes print them (003)
    w, rate = np.float32(0), np.float32(0.01)
    for each in found:
        w = w - rate * (np.float32(2) * w - np.float32(10))
        assert each == w
    assert json.loads((LATEST / "train.json").read_text())["best_epoch"] == 1001  # keep: last


def test_plain_descent_is_a_geometric_series_along_each_axis_and_swings_across_the_valley() -> None:
    rate, t = 0.95, np.arange(41)
    found = descended("valley", lambda p: optimizers.sgd(p, lr=rate), 40)
    assert np.allclose(found[:, 0], -7 * (1 - rate / 10) ** t, rtol=1e-4)
    assert np.allclose(found[:, 1], 2 * (1 - 2 * rate) ** t, rtol=1e-3, atol=1e-6)
    assert (np.sign(found[1:, 1]) != np.sign(found[:-1, 1])).all()


def test_what_scales_each_axis_hardly_crosses_the_valley_and_momentum_crosses_it_less_often() -> None:
    """How far each goes across (the straight way is 2), and how far beyond the middle."""

    def across(optimizer) -> tuple[float, float]:
        w = descended("valley", optimizer, 40)[:, 1]
        return float(np.abs(np.diff(w)).sum()), float(-w.min())

    sgd = across(lambda p: optimizers.sgd(p, lr=0.95))
    assert sgd == pytest.approx((2 * 1.9 * (1 - 0.9**40) / (1 - 0.9), 1.8), rel=1e-3)  # the sum of a geometric series
    adagrad = across(lambda p: optimizers.adagrad(p, lr=1.5, eps=1e-8))
    assert adagrad == pytest.approx((2, 0), abs=0.05)
    for moves in (
        lambda p: optimizers.rmsprop(p, lr=0.3, beta=0.9, eps=1e-8),
        lambda p: optimizers.momentum(p, lr=0.1, beta=0.9, form="velocity"),
        lambda p: optimizers.adam(p, lr=0.3, beta1=0.9, beta2=0.999, eps=1e-8),
    ):
        way, beyond = across(moves)
        assert way < sgd[0] / 2 and beyond < sgd[1]


@pytest.mark.parametrize("name", SURFACES)
def test_the_lowest_point_is_the_lowest_of_a_fine_grid_and_the_gradient_vanishes_there(name) -> None:
    surface = SURFACES[name]
    axes = [torch.linspace(*reach, 401, dtype=torch.float64) for reach in surface.reach]
    grid = torch.cartesian_prod(*axes).view(-1, len(axes))
    heights = surface.height(grid)
    assert float(heights.min()) == pytest.approx(surface.lowest, abs=1e-3) and float(heights.min()) >= surface.lowest
    found = descended(name, lambda p: optimizers.adam(p, lr=0.05, beta1=0.9, beta2=0.999, eps=1e-8), 3000)[-1]
    assert float(surface.height(torch.tensor(found)[None])) == pytest.approx(surface.lowest, abs=1e-4)


def test_a_saddle_holds_what_comes_along_its_valley_and_nothing_else() -> None:
    descent = lambda p: optimizers.sgd(p, lr=0.1)  # noqa: E731
    assert np.abs(descended("saddle", descent, 300, start=[-2.0, 0.0])[-1]).max() < 1e-6
    assert descended("saddle", descent, 300)[-1] == pytest.approx([0, 1], abs=1e-3)
    assert descended("saddle", descent, 300, start=[-2.0, -0.001])[-1] == pytest.approx([0, -1], abs=1e-3)


def test_all_tilts_together_leave_the_surface_level_and_few_do_not() -> None:
    source = tilts(None, size=64, noise=2.0, seed=0)
    x = next(iter(source.pools["train"].chunks()))
    assert np.abs(x.mean(axis=0)).max() < 1e-6 and x.std(axis=0) == pytest.approx([2, 2], rel=0.25)
    assert not next(iter(source.pools["dev"].chunks())).any()
    own = task("valley")
    model = own.attach(Point((2,), 2, start=None))
    with torch.no_grad():
        level, tilted, one = (
            own.losses(model, {"x": each}) for each in (torch.zeros(1, 2), torch.from_numpy(x), torch.from_numpy(x[:1]))
        )
    assert float(level["loss"]) == pytest.approx(float(tilted["loss"]), abs=1e-5) == pytest.approx(49 / 20 + 4)
    assert float(one["loss"]) == pytest.approx(49 / 20 + 4 - 7 * x[0, 0] + 2 * x[0, 1], rel=1e-5)
    assert (float(level["w/1"]), float(level["w/2"])) == (-7, 2)


def test_batch_descent_falls_in_every_step_and_stochastic_descent_does_not(command) -> None:
    noisy = (*QUICK, "data.reader.size=64", "data.reader.noise=2", "optimizer.lr=0.1", "trainer.total_epochs=3")
    falls = {}
    for size in ("null", "8", "1"):
        assert command("train", *noisy, f"trainer.batch_size={size}").code == 0
        path = np.array(_path(recorded(LATEST), 2))
        heights = path[:, 0] ** 2 / 20 + path[:, 1] ** 2
        falls[size] = bool((np.diff(heights) <= 0).all())
        assert len(path) == 3 * (64 // (int(size) if size != "null" else 64)) + 3
        assert path[0].tolist() == [-7, 2] and path[-1].tolist() == [float(rows()[-1][f"dev/w/{i}"]) for i in (1, 2)]
    assert falls == {"null": True, "8": False, "1": False}


def test_a_step_that_is_too_large_is_said_to_swing_and_decay_is_the_advice(command) -> None:
    noisy = (*QUICK, "data.reader.size=64", "data.reader.noise=3", "optimizer.lr=0.3", "trainer.batch_size=4")
    assert command("train", *noisy).code == 0
    found = json.loads((LATEST / "train.json").read_text())["diagnosis"]
    assert "swinging" in found["reasons"] and "schedule=inverse_time" in found["advice"][0]["command"]
    assert command("train", *noisy, "data.reader.noise=0").code == 0
    assert "swinging" not in json.loads((LATEST / "train.json").read_text())["diagnosis"]["reasons"]


def test_the_report_and_the_comparison_draw_the_way(command) -> None:
    for name in ("sgd", "adam"):
        done = command("train", *QUICK, f"optimizer={name}", "optimizer.lr=0.1", f"hydra.run.dir=outputs/runs/{name}")
        assert done.code == 0, done.err
    assert command("evaluate", "run=latest").code == 0
    assert (LATEST / "figures" / "descent.png").stat().st_size > 10000
    numbers = json.loads((LATEST / "metrics.json").read_text())
    assert numbers["test"] == numbers["dev"] and "baseline" not in numbers["diagnosis"]["baseline"]
    assert (
        "The way over the surface" in (LATEST / "report.html").read_text()
        and "by the number" not in (LATEST / "report.html").read_text()
    )
    done = command("compare", "outputs/runs")
    assert done.code == 0, done.err
    assert "descent.png" in done.out and Path("outputs/compare/descent.png").stat().st_size > 10000


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["data=surface", "task=surface"], "model=point"),
        (["task=surface", "model=point"], "data=surface model=point task=surface"),
        (["experiment=surface", "model.start=[1]"], "1 numbers for a point of 2"),
        (["experiment=surface", "task.function=vally"], "'bowl', 'valley', 'saddle', 'plateau' or 'parabola'"),
        (["experiment=surface", "data.normalize=standard"], "as they are"),
        (["experiment=surface", "task.goal=maximize"], "maximize loss makes models worse"),
        (["experiment=surface", "augment=light"], "augment=none"),
    ],
)
def test_what_descends_nothing_is_refused(command, words, says) -> None:
    done = command("train", *words, "tracking=none")
    assert done.code == 2 and says in done.err, done.err
    assert not LATEST.exists()


def test_a_start_of_ones_own_is_kept() -> None:
    own = task("valley")
    assert own.attach(Point((2,), 2, start=[1.0, 3.0])).point.tolist() == [1, 3]
    with pytest.raises(Refusal, match="moves a point"):
        own.attach(torch.nn.Linear(2, 2))
