"""describe.py: the table of a network without data, its sums, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crucible.models.profile import measure

VGG = ["model=vgg16", "data.feature_shape=[3,224,224]", "data.num_classes=1000"]


def test_vgg_is_described_without_data_and_leaves_no_run(command) -> None:
    done = command("describe", *VGG)
    assert done.code == 0, done.err
    assert "138,357,544 parameters" in done.out and "15,470,264,320 multiplications" in done.out
    files = {path.as_posix() for path in Path("outputs").rglob("*") if path.is_file()}
    assert files == {f"outputs/describe/vgg16-3x224x224.{suffix}" for suffix in ("png", "svg", "json")} | {
        "outputs/describe/vgg16-3x224x224-activations.png"
    }
    rows = json.loads(Path("outputs/describe/vgg16-3x224x224.json").read_text())["layers"]
    assert (
        rows[0]["name"] == "features.conv1"
        and rows[0]["shape"] == [64, 224, 224]
        and rows[0]["multiplications"] == 86_704_128
    )
    assert Path("outputs/describe/vgg16-3x224x224.svg").read_text().startswith("<?xml")


def test_the_bottleneck_is_visible(command) -> None:
    done = command("describe", "model=inception", "model.batch_norm=false", *VGG[1:])
    assert "12.44 million multiplications, 120.42 without its 1x1" in done.out
    assert "129,024 weights, 221,184 without" in done.out


def test_memory_shares_add_up(command) -> None:
    done = command("describe", "model=lenet5", "data.feature_shape=[1,32,32]", "data.num_classes=10")
    shares = [float(line.rpartition("  ")[2].rstrip(" %")) for line in done.out.splitlines() if line.endswith(" %")]
    assert len(shares) == 13 and sum(shares) == pytest.approx(100, abs=0.8)


def test_data_are_described_for_as_they_are(command) -> None:
    done = command("describe", "model=resnet", "hydra.run.dir=here")
    assert done.code == 0 and "resnet on 1x8x8" in done.out and Path("here/resnet-1x8x8.png").exists()
    assert "next  python src/train.py model=resnet" in done.out


@pytest.mark.parametrize("task", ["binary", "regression", "multitask"])
def test_every_task_has_its_number_of_outputs(command, task) -> None:
    done = command("describe", "model=mlp", f"task={task}", "data.feature_shape=[5]", "data.num_classes=2")
    outputs = {"multitask": 2}.get(task, 1)
    assert done.code == 0 and f"{65 * outputs} " in done.out.split("head")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=vgg16", "data.feature_shape=[3,16,16]", "data.num_classes=5"], "sides of 32 or more"),
        (["model=vgg16"], "sides of 32 or more"),
        (["model=vgg16", "data.feature_shape=[3,64,64]"], "only one of them is declared"),
        (["model=vgg16", "data.num_classes=5"], "only one of them is declared"),
        (["model=vgg19", *VGG[1:]], "nearest: vgg16"),
    ],
)
def test_what_cannot_be_described_says_why(command, words, message) -> None:
    done = command("describe", *words)
    assert done.code == 2 and message in done.err and not Path("outputs").exists(), done.err


def test_where_branches_meet_the_widest_sight_counts() -> None:
    """1x1 beside 5x5, brought together: what follows sees 5 pixels, whichever branch stands first."""

    class Branches(nn.Module):
        def __init__(self, first: int, second: int) -> None:
            super().__init__()
            self.a, self.b = (nn.Conv2d(1, 2, f, padding=f // 2) for f in (first, second))
            self.last = nn.Conv2d(4, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.cat([self.a(x), self.b(x)], dim=1))

    for sides in ((1, 5), (5, 1)):
        assert {row.name: row for row in measure(Branches(*sides), [1, 9, 9])}["last"].receptive_field == (5, 5)
