"""Augmentation: what moves with the pixels, what stays, and what each part of `strong` does by itself."""

import numpy as np
import pytest
import torch
from conftest import composed

from crucible.data.augment import Light, Strong
from crucible.instantiate import build

OFF = {"shift": 0.0, "crop": 0.0, "rotation_degrees": 0.0, "colour": 0.0, "noise": 0.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spots(count: int, size: tuple[int, int] = (33, 41)) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images with one smooth bright spot each, and where its middle is (N, 1, 2) as x, y in pixels."""
    rng = np.random.default_rng(1)
    middle = np.stack([rng.uniform(14, size[1] - 14, count), rng.uniform(12, size[0] - 12, count)], 1)
    x, y = np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5
    squares = (x[None, None] - middle[:, 0, None, None]) ** 2 + (y[None, :, None] - middle[:, 1, None, None]) ** 2
    return torch.tensor(np.exp(-squares / 4)[:, None], dtype=torch.float32), torch.tensor(middle[:, None])


def centre(images: torch.Tensor) -> np.ndarray:
    """Return the centre of brightness of each image as x, y in pixels."""
    values = images[:, 0].double().numpy()
    mass = values.sum((1, 2))
    x, y = np.arange(values.shape[2]) + 0.5, np.arange(values.shape[1]) + 0.5
    return np.stack([(values.sum(1) * x).sum(1) / mass, (values.sum(2) * y).sum(1) / mass], 1)


PARTS = [
    {"shift": 0.1},
    {"crop": 0.3},
    {"rotation_degrees": 25.0},
    {"shift": 0.1, "crop": 0.2, "rotation_degrees": 20.0},
]


@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("flip", [False, True])
def test_points_and_boxes_go_where_their_pixels_go(parts, flip) -> None:
    images, points = spots(64)
    boxes = torch.cat([points - 2, points + 2], dim=2)
    moved = Strong(flip, **OFF | parts)({"x": images, "points": points, "boxes": boxes}, generator())
    inside = np.abs(moved["points"][:, 0].numpy() - [20.5, 16.5]) < [14, 10]
    rows = inside.all(axis=1)  # spots that the crop has not pushed to the edge
    assert rows.sum() > 30
    assert np.abs(centre(moved["x"])[rows] - moved["points"][rows, 0].numpy()).max() < 0.35
    assert np.abs(moved["points"][rows, 0].numpy() - points[rows, 0].numpy()).max() > 1
    middle = (moved["boxes"][:, 0, :2] + moved["boxes"][:, 0, 2:]) / 2
    assert torch.allclose(middle[rows].double(), moved["points"][rows, 0].double(), atol=1e-3)


@pytest.mark.parametrize("flip", [False, True])
def test_light_moves_points_and_boxes_too(flip) -> None:
    images, points = spots(64)
    boxes = torch.cat([points - 2, points + 2], dim=2)
    moved = Light(flip, shift=0.2)({"x": images, "points": points, "boxes": boxes}, generator())
    rows = (np.abs(moved["points"][:, 0].numpy() - [20.5, 16.5]) < [12, 9]).all(axis=1)
    assert rows.sum() > 20
    assert np.abs(centre(moved["x"])[rows] - moved["points"][rows, 0].numpy()).max() < 0.1


def test_a_box_is_cut_at_the_edge_and_stays_ordered() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 41.0, 33.0], [1.0, 2.0, 5.0, 4.0]]]).repeat(32, 1, 1)
    moved = Strong(True, **OFF | {"shift": 0.4, "rotation_degrees": 45.0})(
        {"x": torch.zeros(32, 1, 33, 41), "boxes": boxes}, generator()
    )
    x0, y0, x1, y1 = moved["boxes"].unbind(2)
    assert (x0 >= 0).all() and (y0 >= 0).all() and (x1 <= 41).all() and (y1 <= 33).all()
    assert (x0 <= x1).all() and (y0 <= y1).all()


def test_with_everything_off_images_stay_as_they_are() -> None:
    images = torch.randint(0, 256, (4, 3, 9, 7), dtype=torch.uint8)
    moved = Strong(False, **OFF)({"x": images, "label": torch.arange(4)}, generator())
    assert torch.allclose(moved["x"], images.float(), atol=1e-2) and torch.equal(moved["label"], torch.arange(4))


def test_half_the_images_are_mirrored_where_the_label_allows_it() -> None:
    images = torch.rand(400, 1, 6, 5)
    moved = Strong(True, **OFF)({"x": images}, generator())["x"]
    mirrored = [torch.allclose(a, b.flip(2), atol=1e-4) for a, b in zip(moved, images, strict=True)]
    straight = [torch.allclose(a, b, atol=1e-4) for a, b in zip(moved, images, strict=True)]
    assert 160 < sum(mirrored) < 240 and sum(mirrored) + sum(straight) == 400


def test_noise_is_in_units_of_the_images_own_deviation() -> None:
    images = 100 * torch.randn(8, 3, 64, 64) + 7
    moved = Strong(False, **OFF | {"noise": 0.2})({"x": images}, generator())["x"]
    assert torch.allclose((moved - images).std(dim=(1, 2, 3)), 0.2 * images.std(dim=(1, 2, 3)), rtol=0.05)


def test_colour_changes_contrast_about_the_mean_and_brightness_by_at_most_what_is_declared() -> None:
    images = torch.randn(200, 3, 16, 16) * 10 + 50
    moved = Strong(False, **OFF | {"colour": 0.3})({"x": images}, generator())["x"]
    contrast = moved.std(dim=(2, 3)) / images.std(dim=(2, 3))
    brightness = (moved.mean(dim=(2, 3)) - images.mean(dim=(2, 3))) / images.std(dim=(1, 2, 3), correction=0)[:, None]
    for change, middle in ((contrast, 1.0), (brightness, 0.0)):
        assert abs(change.mean() - middle) < 0.03
        assert 0.27 < (change - middle).abs().max() < 0.305
        assert abs(change.std() - 0.3 / 3**0.5) < 0.02  # uniform


@pytest.mark.parametrize("choice", ["light", "strong"])
def test_the_same_generator_gives_the_same_batch_and_another_does_not(choice: str) -> None:
    augment = build("augment", composed(f"augment={choice}")["augment"], True)
    batch = {"x": torch.rand(6, 3, 12, 12)}
    first, again, other = (augment(batch, generator(seed))["x"] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_every_image_is_drawn_anew() -> None:
    image = torch.rand(1, 1, 12, 12).repeat(20, 1, 1, 1)
    moved = build("augment", composed("augment=strong")["augment"], True)({"x": image}, generator())["x"]
    assert len({each.numpy().tobytes() for each in moved}) == 20


def coordinates(size: tuple[int, int], count: int = 8) -> torch.Tensor:
    """Return images (N, 2, H, W) whose values are the x and y of their pixels: after a change they say where each pixel came from."""
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    return torch.stack([x, y]).expand(count, 2, *size).clone()


def test_shear_slants_by_up_to_so_many_degrees_and_points_go_along() -> None:
    where = coordinates((40, 60), 200)
    moved = Strong(False, **OFF, shear_degrees=20.0)({"x": where}, generator())["x"]
    middle = moved[:, :, 15:25, 25:35]
    slant = (middle[:, 0, 9] - middle[:, 0, 0]).mean(dim=1) / 9  # how far x moves a row
    assert (moved[:, 1, 15:25, 25:35] - where[:, 1, 15:25, 25:35]).abs().max() < 1e-3  # rows stay rows
    degrees = np.degrees(np.arctan(slant.numpy()))
    assert np.abs(degrees).max() <= 20.01 and np.abs(degrees).max() > 18 and abs(degrees.mean()) < 2
    images, points = spots(64)
    own = Strong(False, **OFF, shear_degrees=20.0)({"x": images, "points": points}, generator())
    assert np.abs(centre(own["x"]) - own["points"][:, 0].numpy()).max() < 0.35
    assert np.abs(own["points"][:, 0].numpy() - points[:, 0].numpy()).max() > 1


def test_elastic_moves_pixels_by_so_much_and_neighbours_alike() -> None:
    size = (40, 80)
    where = coordinates(size, 60)
    moved = Strong(False, **OFF, elastic=0.03, elastic_width=0.1)({"x": where}, generator())["x"]
    apart = (moved - where)[:, :, 8:-8, 12:-12]
    assert apart[:, 0].std() == pytest.approx(0.03 * 80, rel=0.2) and apart[:, 1].std() == pytest.approx(
        0.03 * 40, rel=0.2
    )
    steps = apart[:, 0].diff(dim=2).std() / apart[:, 0].std()
    assert steps == pytest.approx(
        1 / (np.sqrt(2) * 0.1 * 80), rel=0.2
    )  # of white noise blurred by a bell of that width
    still = Strong(False, **OFF, elastic=0.0)({"x": where}, generator())["x"]
    assert torch.allclose(still, where, atol=1e-3)


def test_new_parts_that_are_off_draw_nothing() -> None:
    images, _ = spots(4)
    before = Strong(True, shift=0.1, crop=0.2, rotation_degrees=15.0, colour=0.2, noise=0.1)(
        {"x": images}, generator()
    )["x"]
    now = Strong(
        True, shift=0.1, crop=0.2, rotation_degrees=15.0, colour=0.2, noise=0.1, shear_degrees=0.0, elastic=0.0
    )({"x": images}, generator())["x"]
    assert torch.equal(before, now)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["augment.shear_degrees=80"], "less than or equal to 60"),
        (["augment.elastic=-1"], "augment.elastic"),
        (["augment.elastic_width=0"], "augment.elastic_width"),
        (["experiment=detection", "augment.elastic=0.1"], "does not bend with its picture"),
    ],
)
def test_distortions_that_cannot_be_are_refused(command, words, says) -> None:
    done = command("train", "augment=strong", *words, "tracking=none")
    assert done.code == 2 and says in done.err, done.err


def test_the_report_shows_what_training_sees(command) -> None:
    from pathlib import Path

    assert command("train", "augment=light", "trainer.total_epochs=1", "tracking=none").code == 0
    weights = Path("outputs/latest/weights.safetensors").read_bytes()
    assert command("evaluate", "run=latest").code == 0
    assert Path("outputs/latest/figures/augmented.png").stat().st_size > 3000
    assert "What training sees" in Path("outputs/latest/report.html").read_text()
    assert command("train", "augment=light", "trainer.total_epochs=1", "tracking=none").code == 0
    assert Path("outputs/latest/weights.safetensors").read_bytes() == weights
