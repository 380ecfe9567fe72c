"""That a device is never waited for, without one: on torch's meta device a value cannot be read, and what the host holds is missed."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import card_of, toy_npz, write_split
from test_signs import CHOICES
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from crucible.app.commands import train
from crucible.data import batches as batches_module
from crucible.data.augment import Identity
from crucible.data.batches import Batch, Batches, ahead
from crucible.errors import Refusal
from crucible.inference.saved_run import is_channels_last, on_device
from crucible.optim import guard, optimizers
from crucible.tasks.task import total_of
from crucible.training import device as device_module
from crucible.training.device import NONDETERMINISTIC, require_deterministic, require_precision, with_precision

TASKS = [
    "task=classification task.class_weights=balanced", "task=classification task.loss=mean_squared_error", "data=moons task=binary",
    "data=diabetes task=regression", "experiment=digit_traits", "experiment=sequence", "experiment=tagging",
    "experiment=tagging task.decode=viterbi", "experiment=language", "experiment=surface",
    "experiment=detection data.reader.scenes={train:60,dev:20,test:20}", "experiment=detection data.reader.scenes={train:60,dev:20,test:20} task.form=notes augment=strong",
    "experiment=localization augment=light", "experiment=landmarks augment=strong", "experiment=verification",
    "experiment=verification task.whitening=0.3", "experiment=verification task.loss=pair", "experiment=verification task.loss=softmax",
]  # fmt: skip
KNOBS = [
    "model=mlp model.batch_norm=true model.keep_prob=0.5",
    "model=inception model.auxiliary=0.3",
    "augment=strong augment.elastic=0.05",
]
READ = {  # what reads the device all the same, and why
    "experiment=style": "the size of the picture depends on the step",
    "data=dates model=encoder_decoder task=language task.of=answer": "as many steps are unrolled as the longest of a batch has",
}


class HostUse(AssertionError):
    """A copy from the host, or a wait for the device."""


class NoHost(TorchFunctionMode):
    """What a step may not do once it has been done before: copy numbers of the host, or wait for a solver's answer."""

    COPIES = (torch.tensor, torch.as_tensor, torch.from_numpy, Tensor.new_tensor, torch.linalg.inv, torch.bincount)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in self.COPIES:
            raise HostUse(str(function))
        found = function(*args, **(kwargs or {}))
        taken = [each for each in args if isinstance(each, Tensor) and each.device.type == "cpu" and each.dim() > 0]
        if taken and isinstance(found, Tensor) and found.is_meta:
            raise HostUse(f"{function} takes {list(taken[0].shape)} of the host")
        return found


class NoRead(TorchDispatchMode):
    """No value of a tensor may be read."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default):
            raise HostUse(str(function))
        return function(*args, **(kwargs or {}))


class Tried(Exception):
    """A step was tried in place of a training."""


@contextmanager
def as_stored(batches: Batches) -> Iterator[Batch]:
    """Give the first batch of train before it is augmented and normalised."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "augment", lambda batch, moves: batch)
        patch.setattr(batches, "_ready", lambda batch: batch)
        yield next(batches.train(0))


def try_on_meta(
    model: nn.Module,
    task: Any,
    batches: Batches,
    optimizer: Any,
    schedule: Any,
    run: Any,
    *more: Any,
    total_epochs: int,
) -> None:
    """Take a step and measure it on the meta device, twice: the second time nothing may come from the host any more."""
    with as_stored(batches) as stored:
        there = {name: value.to("meta") for name, value in stored.items()}
    model = model.to("meta")
    batches._normalizer.to("meta")
    if hasattr(model, "_carried"):
        model._carried = None  # of a step on the host, which told how long it will take
    for watched in (nullcontext(), NoHost()):
        with watched:
            model.train()
            batch = batches._ready(batches.augment(there, torch.Generator()))
            loss = total_of(task.losses(model, batch))
            loss.backward()
            model.eval()
            with torch.inference_mode():
                task.metrics().update(model(batch["x"]), batch)
    require_deterministic(loss)
    raise Tried


@pytest.mark.parametrize("words", [*CHOICES, *KNOBS, *TASKS, *READ])
def test_no_step_and_no_metric_waits_for_the_device(command, tmp_path, monkeypatch, words) -> None:
    side = {"model=alexnet": 17, "model=vgg16": 32}.get(words.split()[0], 10)
    toy_npz(tmp_path / "data.npz", shape=(side, side))
    if words == "transfer=from_run":
        assert command("train", "trainer.total_epochs=1", "tracking=none").code == 0
        words = "transfer=from_run transfer.source=latest data.image_size=[8,8]"
    own = [] if "data=" in words or "experiment=" in words else ["data=npz", "data.path=data.npz"]
    monkeypatch.setattr(train, "fit", try_on_meta)
    wanted: Any = pytest.raises(RuntimeError, match="meta tensors") if words in READ else pytest.raises(Tried)
    with wanted:
        done = command("train", *own, *words.split(), "tracking=none")
        pytest.fail(done.err)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optimizers.rmsprop(p, lr=0.1, beta=0.9, eps=1e-8),
        lambda p: optimizers.adagrad(p, lr=0.1, eps=1e-8),
        lambda p: optimizers.adadelta(p, lr=1.0, beta=0.9, eps=1e-6),
        lambda p: optimizers.momentum(p, lr=0.1, beta=0.9, form="velocity"),
        lambda p: optimizers.nesterov(p, lr=0.1, beta=0.9, form="averaged"),
    ],
)
def test_without_a_read_the_weights_are_those_of_the_read_flag(make: Callable[[Any], Any]) -> None:
    """Three good steps, one with a gradient that is not finite, one good: the flag read on the host is the reference."""
    draw = torch.Generator().manual_seed(0)
    gradients = [torch.randn(5, generator=draw) for _ in range(5)]
    gradients[3][2] = float("nan")
    found = []
    for move, watched in ((guard._plain, nullcontext()), (guard._unread, NoRead())):
        weight = nn.Parameter(torch.linspace(-1, 1, 5))
        optimizer = guard.GuardedOptimizer(make([weight]))
        optimizer._move = move
        with watched:
            for gradient in gradients:
                weight.grad = gradient.clone()
                optimizer.step(torch.ones(()))
        found.append((weight.detach().clone(), float(optimizer.steps)))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1] == 3


def test_on_a_device_no_flag_is_read_but_by_what_moves_without_a_gradient() -> None:
    weight = [nn.Parameter(torch.ones(2))]
    device = torch.device("cuda")
    assert guard._move_of(optimizers.rmsprop(weight, lr=0.1, beta=0.9, eps=1e-8), device) is guard._unread
    assert guard._move_of(torch.optim.NAdam(weight), device) is guard._plain
    assert guard._move_of(optimizers.sgd(weight, lr=0.1), device) is guard._fused
    assert guard._move_of(optimizers.rmsprop(weight, lr=0.1, beta=0.9, eps=1e-8), torch.device("cpu")) is guard._plain


X = torch.ones(2, 3, 8)
KINDS = {
    "UpsampleLinear1DBackward": lambda x: F.interpolate(x, scale_factor=2, mode="linear"),
    "UpsampleBicubic2DBackward": lambda x: F.interpolate(x[None], scale_factor=2, mode="bicubic"),
    "UpsampleTrilinear3DBackward": lambda x: F.interpolate(x[:, :, :, None, None], scale_factor=2, mode="trilinear"),
    "AvgPool3DBackward": lambda x: F.avg_pool3d(x[None], 2),
    "AdaptiveAvgPool2DBackward": lambda x: F.adaptive_avg_pool2d(x, 2),
    "AdaptiveAvgPool3DBackward": lambda x: F.adaptive_avg_pool3d(x[None], 2),
    "AdaptiveMaxPool2DBackward": lambda x: F.adaptive_max_pool2d(x, 2),
    "FractionalMaxPool2DBackward": lambda x: F.fractional_max_pool2d(x, 2, output_size=1),
    "FractionalMaxPool3DBackward": lambda x: F.fractional_max_pool3d(x[None], (1, 2, 2), output_size=(1, 1, 1)),
    "ReflectionPad1DBackward": lambda x: F.pad(x, (1, 1), mode="reflect"),
    "ReflectionPad2DBackward": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "ReflectionPad3DBackward": lambda x: F.pad(x[None], (1, 1, 1, 1, 1, 1), mode="reflect"),
    "NllLoss2DBackward": lambda x: F.cross_entropy(x, torch.zeros(2, 8, dtype=torch.long)),
    "CtcLossBackward": lambda x: F.ctc_loss(x.permute(2, 0, 1).log_softmax(2), torch.ones(2, 2).long(), torch.tensor([8, 8]), torch.tensor([2, 2])),
    "GridSampler2DBackward": lambda x: F.grid_sample(x[None], torch.zeros(1, 2, 2, 2), align_corners=False),
    "GridSampler3DBackward": lambda x: F.grid_sample(x[None, None], torch.zeros(1, 2, 2, 2, 3), align_corners=False),
}  # fmt: skip


@pytest.mark.parametrize("kind", NONDETERMINISTIC)
def test_what_torch_says_has_no_deterministic_way_back_is_refused(kind: str) -> None:
    with pytest.raises(Refusal, match="no deterministic backward"):
        require_deterministic(KINDS[kind](X.clone().requires_grad_()).sum())
    require_deterministic(F.interpolate(X[None].clone().requires_grad_(), scale_factor=2, mode="bilinear").sum())


def test_kernels_are_asked_for_before_the_first_product(command, monkeypatch) -> None:
    """cuBLAS reads CUBLAS_WORKSPACE_CONFIG once: the network is multiplied with when it is measured, for `threads: auto`."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seen, measure = [], device_module.measure

    def measured(*args: Any) -> Any:
        seen.append((torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")))
        return measure(*args)

    monkeypatch.setattr(device_module, "measure", measured)
    try:
        done = command("train", "trainer.deterministic=true", "trainer.total_epochs=1", "tracking=none")
    finally:
        torch.use_deterministic_algorithms(mode=False)
    assert done.code == 0 and seen[0] == (True, ":4096:8"), done.err


def test_tf32_is_of_all_kinds_of_products_or_of_none() -> None:
    kinds: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
    try:
        with_precision(nn.Linear(2, 2), torch.device("cuda"), "tf32")
        assert [each.allow_tf32 for each in kinds] == [True, True]
    finally:
        with_precision(nn.Linear(2, 2), torch.device("cpu"), "float32")
    assert [each.allow_tf32 for each in kinds] == [False, False]
    with pytest.raises(Refusal, match="TF32 is CUDA"):
        require_precision(torch.device("cpu"), "tf32")
    require_precision(torch.device("cuda"), "tf32")


def pictures(folder: Path, **more: Any) -> Batches:
    """Return batches of 26 made pictures, four a step."""
    rng = np.random.default_rng(0)
    write_split(folder, "train", rng.integers(0, 256, (26, 3, 8, 8)).astype(np.uint8), np.arange(26) % 3)
    card = card_of((3, 8, 8), train=26, kind="standard", mean=[100.0], std=[50.0])
    card.write(folder / "card.json")
    return Batches(folder, card, torch.device("cpu"), batch_size=4, augment=Identity(), seed=3, **more)


def test_what_lies_on_disk_gives_the_same_batches(tmp_path, monkeypatch) -> None:
    there = list(pictures(tmp_path).train(1))
    monkeypatch.setattr(batches_module, "available_memory", lambda device: 0)
    mapped = pictures(tmp_path)
    read = list(mapped.train(1))
    assert mapped._on_disk == {"train"} and len(read) == len(there) == 7
    assert all(torch.equal(a[name], b[name]) for a, b in zip(there, read, strict=True) for name in ("x", "label"))


def test_the_next_part_is_read_while_one_is_worked_on() -> None:
    begun: list[int] = []
    second = threading.Event()

    def read(rows: Tensor) -> Tensor:
        begun.append(int(rows))
        if int(rows) == 1:
            second.set()
        return rows

    parts = ahead(read, torch.arange(4))
    assert int(next(parts)) == 0 and second.wait(10) and begun == [0, 1]
    assert [int(each) for each in parts] == [1, 2, 3]


def test_pictures_come_as_the_filters_are_stored_and_nothing_else_changes(tmp_path) -> None:
    torch.manual_seed(0)
    filters = on_device(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3)), torch.device("cpu"), channels_last=True
    )
    assert (
        is_channels_last(filters) and not is_channels_last(nn.Linear(2, 2)) and not is_channels_last(nn.Conv2d(3, 4, 3))
    )
    found = []
    for last in (False, True):
        [x, *_] = (batch["x"] for batch in pictures(tmp_path, channels_last=last).train(0))
        assert x.is_contiguous(memory_format=torch.channels_last) is last
        filters.zero_grad()
        filters(x).pow(2).sum().backward()
        found.append([p.grad.clone() for p in filters.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_every_optimizer_of_a_gpu_takes_a_step_and_none_once_the_flag_is_up() -> None:
    """As they are made there, with foreach, which the CPU's fused ones do not show."""
    made = (lambda p: torch.optim.Adagrad(p, foreach=True), lambda p: torch.optim.RMSprop(p, foreach=True), lambda p: torch.optim.Adadelta(p, foreach=True),
            lambda p: optimizers.Velocity(p, lr=0.1, beta=0.9, form="velocity"))  # fmt: skip
    for make in made:
        weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        guarded = guard.GuardedOptimizer(make([weight]))
        guarded._move = guard._unread
        for flag in (False, True):
            before = weight.detach().clone()
            weight.grad = torch.tensor([float("nan") if flag else 0.5, 1.0])
            guarded.step(torch.tensor(1.0))
            assert bool(guarded.flag) is flag and torch.equal(weight, before) is flag, guarded.optimizer
