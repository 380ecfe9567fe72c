"""Two features: the clouds that are made, and what a network answers at every point of the plane."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_generated import arrays

from crucible.app import reporting
from crucible.data.readers import generated
from crucible.inference.saved_run import Predictor, load_run

SIZES = {"train_size": 3000, "dev_size": 100, "test_size": 50}
LATEST = Path("outputs/latest")
BLOBS = ("data=blobs", "tracking=none", "trainer.threads=1", "trainer.total_epochs=60", "optimizer.lr=0.02")


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_blobs_lie_around_the_corners_of_a_polygon(classes) -> None:
    x, y = arrays(generated.blobs(None, **SIZES, classes=classes, noise=0.2, seed=0), "train")
    assert np.bincount(y).tolist() == [3000 // classes + (k < 3000 % classes) for k in range(classes)]
    for k in range(classes):
        corner = [np.cos(2 * np.pi * k / classes), np.sin(2 * np.pi * k / classes)]
        assert x[y == k].mean(axis=0) == pytest.approx(corner, abs=0.04)
        assert x[y == k].std(axis=0) == pytest.approx([0.2, 0.2], rel=0.15)


def answers(points: np.ndarray) -> np.ndarray:
    """Return the class of each point (n, 2) by the latest run."""
    with torch.inference_mode():
        return (
            Predictor(load_run(LATEST, torch.device("cpu")))(torch.from_numpy(points.astype(np.float32)))
            .argmax(1)
            .numpy()
        )


def share_outside(rng: np.random.Generator) -> float:
    """Return how often the middle between two points of one class is of another: never where each region is convex."""
    points = rng.uniform(-2.5, 2.5, (4000, 2))
    found = answers(points)
    pairs = rng.integers(0, len(points), (40000, 2))
    pairs = pairs[found[pairs[:, 0]] == found[pairs[:, 1]]]
    return float((answers(points[pairs].mean(axis=1)) != found[pairs[:, 0]]).mean())


def test_softmax_cuts_the_plane_with_straight_lines_and_a_hidden_layer_bends_them(command) -> None:
    rng = np.random.default_rng(0)
    assert command("train", *BLOBS, "model=logistic").code == 0
    assert share_outside(rng) == 0  # what half planes cut out is convex
    assert command("train", *BLOBS[1:], "data=moons", "task=binary", "model=logistic").code == 0
    assert share_outside(rng) == 0
    assert command("train", *BLOBS[1:], "data=moons", "task=binary", "model.layers=[16]").code == 0
    assert share_outside(rng) > 0.005


@pytest.mark.parametrize(
    "words",
    [
        ("data=blobs", "data.reader.classes=12"),
        ("data=moons", "task=binary"),
        ("data=gates",),
        ("data=npz", "data.path=plane.npz", "task=regression"),
    ],
)
def test_the_report_of_two_features_shows_the_answer_at_every_point(command, tmp_path, monkeypatch, words) -> None:
    x = np.random.default_rng(0).normal(0, 1, (60, 2)).astype(np.float32)
    np.savez(tmp_path / "plane.npz", x=x, y=x[:, 0] * 3 - x[:, 1])
    drawn = []
    monkeypatch.setattr(reporting, "Predictor", lambda saved: drawn.append(saved) or Predictor(saved))
    for line in (("train", *words, "trainer.total_epochs=2", "tracking=none"), ("evaluate", "run=latest")):
        done = command(*line)
        assert done.code == 0, done.err
    assert drawn and (LATEST / "figures" / "boundary.png").stat().st_size > 8000
    assert "The answer at every point" in (LATEST / "report.html").read_text()


def test_what_has_more_features_than_two_or_a_category_among_them_has_no_such_picture(command, tmp_path) -> None:
    rows = "\n".join(f"{i % 3},{'ab'[i % 2]},{i % 2}" for i in range(60))
    Path("table.csv").write_text("size,kind,y\n" + rows)
    for words in (
        ("data.normalize=scale",),
        ("data=table", "data.path=table.csv", "data.label=y", "data.duplicates=keep"),
    ):
        for line in (("train", *words, "trainer.total_epochs=1", "tracking=none"), ("evaluate", "run=latest")):
            done = command(*line)
            assert done.code == 0, done.err
        assert not (LATEST / "figures" / "boundary.png").exists()
        assert json.loads((LATEST / "metrics.json").read_text())["test"]


@pytest.mark.parametrize(("words", "says"), [("data.reader.classes=1", "greater than or equal to 2"), ("data.reader.classes=101", "less than or equal to 100"),
                                             ("data.reader.noise=-1", "greater than or equal to 0")])  # fmt: skip
def test_clouds_that_are_none_are_refused(command, words, says) -> None:
    done = command("train", "data=blobs", words, "tracking=none")
    assert done.code == 2 and says in done.err
