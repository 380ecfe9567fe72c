"""What excites a unit, where a network looks, and the map of the test set, each against a planted truth."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch.nn import functional as F

from crucible.diagnosis import inside
from crucible.errors import Refusal
from crucible.models.convnet import ConvNet
from crucible.models.lenet5 import LeNet5
from crucible.models.mlp import MLP
from crucible.models.profile import measure
from crucible.models.resnet import ResNet

LATEST = Path("outputs/latest")


def net(shape, layers, outputs: int = 3, **keys) -> ConvNet:
    keys = {"activation": "tanh", "batch_norm": False, "keep_prob": 1.0} | keys
    torch.manual_seed(0)
    return ConvNet(shape, outputs, layers=layers, **keys)


NETS = [
    (LeNet5([1, 28, 28], 10, variant="notes", keep_prob=1.0), [1, 28, 28]),
    (net([2, 17, 13], [{"conv": 4, "f": 3, "s": 2, "p": 1}, {"max_pool": 3, "s": 2}, {"conv": 4, "f": 3, "p": "same"}]), [2, 17, 13]),
    (ResNet([1, 12, 12], 3, depth=8, width=4, keep_prob=1.0), [1, 12, 12]),
]  # fmt: skip


def seen(model, layer: str, shape, place: int) -> tuple[int, ...]:
    """Return the pixels that change a value, found by its gradient."""
    outputs, hits = [], torch.zeros(shape[1:])
    hook = dict(model.named_modules())[layer].register_forward_hook(lambda m, i, o: outputs.append(o))
    for _ in range(30):
        x = torch.rand(1, *shape, requires_grad=True)
        outputs.clear()
        model.eval()(x)
        (gradient,) = torch.autograd.grad(outputs[0].flatten(2)[0, :, place].sum(), x)
        hits += gradient[0].abs().sum(0)
    hook.remove()
    rows, columns = hits.sum(1).nonzero()[:, 0], hits.sum(0).nonzero()[:, 0]
    return (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


@pytest.mark.parametrize(("model", "shape"), NETS, ids=["lenet5", "strides", "resnet"])
def test_a_patch_is_what_the_unit_sees(model, shape) -> None:
    for row in measure(model, shape):
        if len(row.shape) == 3:
            count = row.shape[1] * row.shape[2]
            for place in {0, count // 2, count - 1}:
                found, truth = inside._box(row, place, shape), seen(model, row.name, shape, place)
                whole = truth == (0, 0, *shape[1:])
                assert found == truth or whole, (row.name, place, found, truth)


def with_edges(count: int = 40) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Images of faint noise; in each one vertical edge, bright on its left, and one horizontal edge, as strong."""
    draw = np.random.default_rng(0)
    x, places = draw.normal(0, 0.02, (count, 1, 16, 16)).astype(np.float32), []
    for image in x:
        i, j = int(draw.integers(0, 4)), int(draw.integers(0, 4))
        image[0, i : i + 4, j : j + 3] += 1.0  # ends at column j + 3: vertical edge there
        image[0, 9:12, 8 : 8 + 4] += 0.3
        places.append((i, j))
    return torch.from_numpy(x), places


def test_the_best_patches_of_a_vertical_edge_filter_are_vertical_edges() -> None:
    x, _ = with_edges()
    model = net([1, 16, 16], [{"conv": 2, "f": 3, "filters": ["vertical", "horizontal"], "activation": "relu"}])
    for unit, across in ((0, 1), (1, 0)):
        found = inside.patches(model, "features.conv1", unit, [{"x": x[:25]}, {"x": x[25:]}], [1, 16, 16], top=9)
        assert [each.value for each in found] == sorted((each.value for each in found), reverse=True)
        for each in found:
            top, left, bottom, right = each.box
            part = x[each.row, 0, top:bottom, left:right].numpy()
            assert part.shape == (3, 3)
            change = [abs(np.diff(part, axis=axis)).sum() for axis in (0, 1)]
            assert change[across] > 3 * change[1 - across]
            assert part.take(0, across).mean() > part.take(-1, across).mean() + 0.2
            assert float(
                F.conv2d(x[each.row, None, :, top:bottom, left:right], model.features.conv1.weight[[unit]])
            ) == pytest.approx(each.value, rel=1e-4)


def test_each_image_counts_once_and_batches_do_not_matter() -> None:
    x, _ = with_edges(20)
    model = net([1, 16, 16], [{"conv": 4, "f": 3}, {"max_pool": 2}])
    whole = inside.patches(model, "features.max_pool1", 1, [{"x": x}], [1, 16, 16], top=6)
    parts = inside.patches(model, "features.max_pool1", 1, [{"x": each} for each in x.split(3)], [1, 16, 16], top=6)
    assert [each.row for each in whole] == [each.row for each in parts] and len({each.row for each in whole}) == 6
    best = model.features[:3](x)[:, 1].flatten(1).amax(dim=1)
    assert [each.row for each in whole] == best.topk(6).indices.tolist()


def test_maps_are_class_activation_maps_behind_a_global_pool() -> None:
    """Zhou et al., 2016, equation 2: the class's weights times the maps, summed; here above its mean."""
    model, x = net([1, 8, 8], [{"conv": 5, "f": 3, "p": "same"}, "global_average"]).eval(), torch.randn(4, 1, 8, 8)
    classes = torch.tensor([0, 2, 1, 1])
    maps = model.features[:2](x)
    wanted = torch.einsum("bk,bkhw->bhw", model.head.weight[classes], maps).detach()
    wanted = (wanted - wanted.mean(dim=(1, 2), keepdim=True)).clamp(min=0)
    wanted = wanted / wanted.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    assert torch.allclose(inside.activation_maps(model, x, classes), wanted, atol=1e-5)


@pytest.mark.parametrize("model", ["resnet", "convnet", "lenet5"])
def test_maps_of_a_network_whose_object_stands_in_one_corner_lie_there(command, tmp_path, model) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(240) % 2
    x = rng.integers(100, 156, (240, 24, 24)).astype(np.uint8)
    x[y == 1, 2:8, 2:8] = np.indices((6, 6)).sum(0) % 2 * 255  # a chequered object, top left
    x[y == 0, 2:8, 2:8] = np.arange(6)[:, None] % 2 * 255  # a striped one
    np.savez(tmp_path / "data.npz", x=x, y=y)
    done = command(
        "train", "data=npz", "data.path=data.npz", f"model={model}", "trainer.total_epochs=12", "tracking=none"
    )
    assert done.code == 0, done.err
    from crucible.data.augment import Identity
    from crucible.data.batches import Batches
    from crucible.inference.saved_run import load_run

    saved = load_run(LATEST, torch.device("cpu"))
    assert json.loads((LATEST / "train.json").read_text())["dev"]["accuracy"] > 0.95
    data = next(Path("artifacts/prepared").iterdir())
    batch = next(
        Batches(data, saved.card, torch.device("cpu"), batch_size=8, augment=Identity(), seed=0).evaluation("dev")
    )
    maps = inside.activation_maps(saved.model, batch["x"], batch["label"])
    shares = (maps[:, :12, :12].sum(dim=(1, 2)) / maps.sum(dim=(1, 2)))[maps.amax(dim=(1, 2)) > 0]
    assert len(shares) > 20 and float(shares.mean()) >= 0.8


def test_the_map_of_the_examples_is_their_first_two_principal_components() -> None:
    sklearn = pytest.importorskip("sklearn.decomposition")
    model = MLP([6], 3, layers=[5], activation="tanh", keep_prob=1.0, batch_norm=False)
    x = torch.randn(50, 6)
    points, shares = inside.embedding(model, [{"x": x[:20]}, {"x": x[20:]}])
    features = model.hidden(x).detach().double().numpy()
    wanted = sklearn.PCA(2, svd_solver="full").fit(features)
    assert np.allclose(np.abs(points.numpy()), np.abs(wanted.transform(features)), atol=1e-6)
    assert np.allclose(shares.numpy(), wanted.explained_variance_ratio_)


def test_a_linear_layer_on_images_has_filters_as_large_as_the_image() -> None:
    model = MLP([1, 8, 8], 3, layers=[5], activation="tanh", keep_prob=1.0, batch_norm=False)
    assert inside.filters(model, [1, 8, 8]).shape == (5, 1, 8, 8)
    assert inside.filters(net([7], [{"conv": 2, "f": 3}]), [7]).shape[0] == 0


def test_what_is_not_there_is_refused() -> None:
    model = net([1, 8, 8], [{"conv": 5, "f": 3}])
    with pytest.raises(Refusal, match=r"nearest: features\.conv1"):
        inside.patches(model, "feature.conv1", 0, [], [1, 8, 8], top=3)
    with pytest.raises(Refusal, match="has 5 units"):
        inside.patches(model, "features.conv1", 5, [{"x": torch.zeros(2, 1, 8, 8)}], [1, 8, 8], top=3)
    with pytest.raises(Refusal, match="no maps"):
        inside.activation_maps(
            MLP([1, 8, 8], 3, layers=[5], activation="tanh", keep_prob=1.0, batch_norm=False),
            torch.zeros(2, 1, 8, 8),
            torch.tensor([0, 1]),
        )


@pytest.mark.parametrize(("words", "pictures"), [
    (["model=resnet", "model.width=4"], {"filters", "patches", "maps", "feature_maps", "embedding"}),
    (["model=mlp"], {"filters", "embedding"}),
    (["data=diabetes", "task=regression"], set()),
])  # fmt: skip
def test_the_full_report_shows_what_there_is_to_see(command, words, pictures) -> None:
    assert command("train", *words, "trainer.total_epochs=2", "tracking=none").code == 0
    done = command("evaluate", "run=latest", "report=full")
    assert done.code == 0, done.err
    drawn = {path.stem for path in (LATEST / "figures").glob("*.png")}
    assert drawn & {"filters", "patches", "maps", "feature_maps", "embedding"} == pictures
    assert (LATEST / "report.html").read_text().count('<img class="drawn"') == len(pictures)


def test_a_chosen_unit_from_the_command_line(command) -> None:
    command("train", "model=resnet", "model.width=4", "trainer.total_epochs=1", "tracking=none")
    done = command("inside", "run=latest", "layer=stages.1.conv1", "unit=2", "top=5")
    assert done.code == 0, done.err
    assert done.out.count("rows ") == 5 and (LATEST / "inside" / "stages.1.conv1-2.png").exists()
    for wrong, says in (
        ("layer=stage.1", "nearest"),
        ("unit=99", "has 4 units"),
        ("unit=x", "no whole number"),
        ("top=0", "no whole number from 1"),
        ("split=test", "is refused"),
    ):
        done = command("inside", "run=latest", wrong)
        assert done.code == 2 and says in done.err, done.err


@pytest.mark.parametrize(
    "words",
    [
        ["model=inception", "data.image_size=[12,12]"],
        ["model=lenet5", "trainer.precision=bfloat16"],
        ["model=lenet5", "model.variant=1998"],
    ],
)
@pytest.mark.slow
def test_the_full_report_of_every_kind_of_network_and_on_other_data(command, tmp_path, words) -> None:
    x, y = (np.load(ROOT / "data" / "digits" / f"{name}.npy") for name in "xy")
    for name, part in (("own", slice(0, 200)), ("other", slice(200, 300))):
        np.savez(tmp_path / f"{name}.npz", x=x[part], y=y[part])
    own = ["data=npz", "data.path=own.npz"]
    assert command("train", *own, *words, "trainer.total_epochs=1", "tracking=none", "hydra.run.dir=run").code == 0
    for more in ([], ["data=npz", "data.path=other.npz"]):
        done = command("evaluate", "run=run", "report=full", *more)
        assert done.code == 0, done.err


def test_feature_maps_of_one_image_are_the_convolution_of_it(command) -> None:
    from torch.nn import functional as F

    layers = "[{conv: 3, f: 3, filters: [vertical, horizontal, sobel_45]}, flatten]"
    words = [
        "model=convnet",
        f"model.layers={layers}",
        "model.batch_norm=false",
        "data.normalize=none",
        "trainer.total_epochs=1",
        "tracking=none",
    ]
    assert command("train", *words).code == 0
    done = command("inside", "run=latest", "layer=features.conv1", "example=5", "split=dev")
    assert done.code == 0, done.err
    assert (
        "3 maps of 6 x 6" in done.out and (LATEST / "inside" / "features.conv1-example-dev-5.png").stat().st_size > 2000
    )
    from crucible.app.interpretation import feature_maps
    from crucible.data.augment import identity
    from crucible.data.batches import Batches
    from crucible.inference.saved_run import load_run

    saved = load_run(LATEST, torch.device("cpu"))
    folder = next(Path("artifacts/prepared").iterdir())
    batches = Batches(folder, saved.card, torch.device("cpu"), batch_size=8, augment=identity(False), seed=0)
    maps, image = feature_maps(saved, batches, "dev", 5, "features.conv1")
    kernels = torch.tensor([[[1.0, 0, -1]] * 3, [[1.0] * 3, [0.0] * 3, [-1.0] * 3]])
    wanted = F.conv2d(torch.tensor(np.array(image, dtype=np.float32))[None], kernels[:, None])[0]
    assert np.allclose(np.stack(maps)[:2, 0], wanted.numpy(), atol=1e-4)
    for wrong, says in (("example=9999", "examples"), ("example=x", "no whole number")):
        done = command("inside", "run=latest", wrong, "split=dev")
        assert done.code == 2 and says in done.err, done.err
