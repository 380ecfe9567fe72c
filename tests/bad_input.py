"""What a person gets wrong, case by case; `python tests/bad_input.py` prints the table of docs/errors.md."""

import contextlib
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)


def images(size: int = 60) -> np.ndarray:
    """Return distinct 8x8 images."""
    return RNG.integers(0, 256, (size, 8, 8)).astype(np.uint8)


def npz(**arrays: np.ndarray) -> Callable[[Path], None]:
    """Return a maker of data.npz; x and y are good unless given."""
    good = {"x": images(), "y": np.arange(60) % 3}
    return lambda home: np.savez(home / "data.npz", **({} if "x_train" in arrays else good) | arrays)


def leak() -> Callable[[Path], None]:
    """Return a maker of official splits that share an image."""
    train, test = images(), images(30)
    test[4] = train[7]
    labels = {"y_train": np.arange(60) % 3, "y_test": np.arange(30) % 3}
    return npz(x_train=train, x_test=test, **labels)


def pictures(home: Path, *, sizes: tuple[int, ...] = (8,), damage: bool = False) -> None:
    """Make a folder of pictures, two classes."""
    for i in range(20):
        for kind in ("cat", "dog"):
            (home / "pics" / kind).mkdir(parents=True, exist_ok=True)
            side = sizes[i % len(sizes)]
            Image.fromarray(RNG.integers(0, 256, (side, side)).astype(np.uint8)).save(home / "pics" / kind / f"{i}.png")
    if damage:
        file = home / "pics" / "dog" / "7.png"
        file.write_bytes(file.read_bytes()[:60])


def truncated_hdf5(home: Path) -> None:
    """Make an HDF5 file whose end is missing."""
    with h5py.File(home / "data.h5", "w") as file:
        for split in ("train", "test"):
            file[f"{split}_set_x"], file[f"{split}_set_y"] = RNG.integers(0, 256, (50, 8, 8, 3)), np.arange(50) % 2
    whole = (home / "data.h5").read_bytes()
    (home / "data.h5").write_bytes(whole[: len(whole) // 2])


def nothing(home: Path) -> None:
    """Make nothing."""


def with_nan() -> Callable[[Path], None]:
    """Return a maker of float images one of which has a NaN."""
    x = images().astype(np.float32)
    x[13, 2, 2] = np.nan
    return npz(x=x)


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
        name: what is wrong. args: for src/train.py. says: what the screen must hold. make: makes the data.
    """

    name: str
    args: list[str]
    says: list[str]
    make: Callable[[Path], None] = field(default=nothing)


def text(raw: bytes) -> Callable[[Path], None]:
    """Return a maker of a.txt."""
    return lambda home: (home / "a.txt").write_bytes(raw)


def csv_of(content: str) -> Callable[[Path], None]:
    """Return a maker of t.csv."""
    return lambda home: (home / "t.csv").write_text(content)


TABLE = ["data=table", "data.path=t.csv", "data.label=kind"]
TEXT = ["data=text", "data.path=a.txt", "task=language", "model=lstm"]
SCENES = ["data=digit_scenes", "data.reader.scenes={train: 20, dev: 10, test: 10}"]
SEARCH = ["-m", "sweep=coarse_to_fine"]
OWN = ["data=npz", "data.path=data.npz"]
CASES = [
    Case("unknown group choice", ["model=mlpp"], ["no choice 'mlpp'", "nearest: mlp", "logistic"]),
    Case("unknown key", ["trainer.epochs=3"], ["no key 'epochs'", "nearest: total_epochs"]),
    Case("unknown key of a choice", ["optimizer.learning_rate=0.1"], ["no key 'learning_rate'", "nearest: lr"]),
    Case("unknown group", ["modle=mlp"], ["no key 'modle'", "nearest: model"]),
    Case("unknown key, added with +", ["+model.widht=3"], ["no key 'widht'"]),
    Case("wrong type", ["trainer.total_epochs=many"], ["trainer.total_epochs", "'many' is refused", "integer"]),
    Case("wrong type in a list", ["model.layers=[64,wide]"], ["model.layers.1", "'wide' is refused"]),
    Case("text for a number", ["optimizer.lr=fast"], ["optimizer.lr", "valid number"]),
    Case("negative learning rate", ["optimizer.lr=-0.1"], ["optimizer.lr", "greater than 0", "optimizer.lr=0.01"]),
    Case("keep_prob 0", ["model.keep_prob=0"], ["model.keep_prob", "greater than 0", "model.keep_prob=0.8"]),
    Case("keep_prob above 1", ["model.keep_prob=1.5"], ["less than or equal to 1"]),
    Case("negative seed", ["seed=-1"], ["seed", "greater than or equal to 0"]),
    Case("keep_prob for other layers", ["model.keep_prob=[0.5]"], ["1 values for 2 hidden layers"]),
    Case("two classes asked of ten", ["task=binary"], ["the data have 10 classes", "task=classification"]),
    Case("goal against the metric", ["task.monitor=loss"], ["maximize loss makes models worse"]),
    Case("batch norm over one example", ["model.batch_norm=true", "trainer.batch_size=1"], ["no deviation over one"]),
    Case("contradicted shape", ["data.feature_shape=[3,8,8]"], ["[3, 8, 8] is declared, the data have [1, 8, 8]"]),
    Case("contradicted class count", ["data.num_classes=7"], ["7 is declared, the data have 10"]),
    Case("no such device", ["trainer.device=gpu"], ["trainer.device", "'gpu' is refused"]),
    Case("target not on the allow-list", ["model._target_=torch.hub.load"], ["may not be named here"]),
    Case("misspelt target", ["model._target_=crucible.models.mlp.MPL"], ["nearest: crucible.models.mlp.MLP"]),
    Case("empty folder", ["data=image_folder", "data.path=pics"], ["there are no pictures"], lambda home: (home / "pics").mkdir()),
    Case("truncated HDF5", ["data=hdf5", "data.path=data.h5"], ["data.h5", "truncated"], truncated_hdf5),
    Case("corrupt PNG in an image folder", ["data=image_folder", "data.path=pics"], ["dog/7.png", "damaged"],
         lambda home: pictures(home, damage=True)),
    Case("labels out of range (negative)", OWN, ["row 3", "label -1 is out of range"],
         npz(y=np.where(np.arange(60) == 3, -1, np.arange(60) % 3))),
    Case("labels out of range (a gap)", OWN, ["class '2' has no example"],
         npz(y=np.where(np.arange(60) % 3 == 2, 9, np.arange(60) % 3))),
    Case("labels that are not whole", OWN, ["label 0.5 is out of range"], npz(y=np.arange(60) % 3 / 2)),
    Case("NaN pixels", OWN, ["row 13", "NaN or infinite"], with_nan()),
    Case("one class only", OWN, ["one class only"], npz(y=np.zeros(60, dtype=int))),
    Case("different image sizes", ["data=image_folder", "data.path=pics"], ["its shape is [1, 9, 9]", "data.image_size=[8,8]"],
         lambda home: pictures(home, sizes=(8, 9))),
    Case("x and y of different length", OWN, ["60 examples but 59 labels"], npz(y=np.arange(59) % 3)),
    Case("no examples", OWN, ["there are no examples"], npz(x=images(0), y=np.zeros(0, dtype=int))),
    Case("a duplicate across splits", OWN, ["test/4 = train/7", "data.duplicates=drop"], leak()),
    Case("missing file", ["data=npz", "data.path=dtaa.npz"], ["does not exist", "nearest: data.npz"], npz()),
    Case("data.path not given", ["data=signs"], ["data.path", "is missing"]),
    Case("not a zip file", OWN, ["not a .npz file, or truncated"], lambda home: (home / "data.npz").write_text("hello")),
    Case("arrays of another layout", OWN, ["it holds", "x_train y_train"], npz(x_train=images(), labels=images())),
    Case("unknown label column", ["data=csv", "data.path=t.csv", "data.label=kidn"], ["no column 'kidn'", "nearest: kind"],
         lambda home: (home / "t.csv").write_text("a,kind\n1,x\n2,y\n")),
    Case("augmenting what is no image", [*OWN, "augment=light"], ["it moves images"], npz(x=RNG.normal(size=(60, 5)))),
    Case("a convolution on vectors", [*OWN, "model=resnet"], ["needs images"], npz(x=RNG.normal(size=(60, 5)))),
    Case("unwritable output folder", ["hydra.run.dir=/proc/nowhere/run"], ["/proc/nowhere/run", "cannot be written"]),
    Case("resuming what is no run", ["resume=outputs/none"], ["there is no run in this folder"]),
    Case("resuming with other settings", ["resume=latest", "optimizer.lr=1"], ["the run's own configuration"]),
    Case("misspelt optimizer", ["optimizer=rmsporp"], ["no choice 'rmsporp'", "nearest: rmsprop", "adagrad"]),
    Case("training through steps", ["model.activation=step"], ["a step has no gradient", "model.activation=sigmoid"]),
    Case("weights for other classes", ["task.class_weights=[1.0,2.0]"], ["2 weights for 10 classes"]),
    Case("a bound that is none", ["task.satisficing={parameters: small}"], ["task.satisficing.parameters", "'small' is refused", "<= 1"]),
    Case("a bound on what is not measured", ["task.satisficing={speed: '< 1'}"], ["task.satisficing.speed", "latency_ms_per_example"]),
    Case("smoothing everything away", ["task.label_smoothing=1"], ["task.label_smoothing", "less than 1"]),
    Case("a human error rate above 1", ["data.human_error=5"], ["data.human_error", "5 is no error rate"]),
    Case("unknown gate", ["data=gates", "data.reader.gate=nor"], ["data.reader.gate", "'nor' is refused", "'xor'"]),
    Case("weights for other features", ["data=gates", "task=binary", "model=perceptron", "model.weights=[1.0]"],
         ["1 weights for 2 features"]),
    Case("numbers to predict that are text", [*OWN, "task=regression"], ["row 0", "'a' is no finite number"],
         npz(y=np.array(["a", "b", "c"] * 20))),
    Case("numbers to predict that never change", [*OWN, "task=regression"], ["every target in train is 3"], npz(y=np.full(60, 3.0))),
    Case("balanced batches of numbers", ["data=diabetes", "task=regression", "data.sampling=balanced"], ["these data have no classes"]),
    Case("a part of train set apart that is all of it", ["data.split.train_dev=1"], ["data.split.train_dev", "less than 1"]),
    Case("a search without -m", ["sweep=coarse_to_fine"], ["a search takes -m", "python src/train.py -m sweep=coarse_to_fine"]),
    Case("unknown search", ["-m", "sweep=coarse_to_fin"], ["no choice 'coarse_to_fin'", "nearest: coarse_to_fine"]),
    Case("searching a key that is none", [*SEARCH, "optimizer.lrr=interval(0.1, 1)"], ["no key 'lrr'", "nearest: lr"]),
    Case("an empty interval", [*SEARCH, "optimizer.lr=interval(0.1, 0.1)"], ["optimizer.lr", "interval(0.1, 0.1) is empty"]),
    Case("a reversed interval", [*SEARCH, "optimizer.lr=interval(1, 0.1)"], ["interval(1, 0.1) is reversed"]),
    Case("a logarithm of 0", [*SEARCH, "optimizer.lr=tag(log, interval(0, 1))"], ["no logarithm at 0", "low > 0"]),
    Case("a tag that is none", [*SEARCH, "optimizer.lr=tag(lgo, interval(0.1, 1))"], ["no tag 'lgo'", "nearest: log"]),
    Case("a range with illegal values", [*SEARCH, "model.keep_prob=interval(0.5, 1.5)"], ["model.keep_prob", "1.5 is refused"]),
    Case("a choice with a name that is none", [*SEARCH, "optimizer=choice(adam, rmsporp)"], ["no choice 'rmsporp'", "nearest: rmsprop"]),
    Case("searching the seed", [*SEARCH, "seed=1,2,3"], ["seed", "it cannot be searched", "hydra.sweeper.confirm"]),
    Case("unknown key of a search", [*SEARCH, "hydra.sweeper.n_trial=9"], ["no key 'n_trial'", "nearest: n_trials"]),
    Case("an engine that is none", [*SEARCH, "hydra.sweeper.engine=dask"], ["hydra.sweeper.engine", "'dask' is refused", "'local' or 'ray'"]),
    Case("a worker without a core", [*SEARCH, "hydra.sweeper.resources.cpus=0"], ["hydra.sweeper.resources.cpus", "0 is refused"]),
    Case("more shards than a batch has", ["trainer.shards=64"], ["trainer.shards", "a batch of 64 has no two examples for each of 64", "1 to 32"]),
    Case("shards without two classes of pairs", ["data.sampling={per_class: 4}", "trainer.shards=16"],
         ["trainer.shards", "must hold two classes or more with 4 examples each", "trainer.shards=16 trainer.batch_size=128"]),
    Case("no shard", ["trainer.shards=0"], ["trainer.shards", "0 is refused"]),
    Case("an order that is none", ["data.order=sorted"], ["data.order", "'sorted' is refused", "'shuffled' or 'windowed'"]),
    Case("an order for what has its own", ["data.order=windowed", "data.sampling=balanced"], ["data.order=windowed", "data.sampling=balanced has an order of its own"]),
    Case("nobody to prepare", ["data.workers=0"], ["data.workers", "0 is refused"]),
    Case("an engine that prepares nothing", ["data.engine=spark"], ["data.engine", "'spark' is refused", "'local' or 'ray'"]),
    Case("checkpoints by what is not counted", ["trainer.checkpoint_every={step: 500}"], ["trainer.checkpoint_every", "no key 'step'", "steps"]),
    Case("checkpoints by two things at once", ["trainer.checkpoint_every={steps: 5, minutes: 1}"], ["it takes one of its keys", "minutes, steps"]),
    Case("checkpoints after no step", ["trainer.checkpoint_every={steps: 0}"], ["trainer.checkpoint_every.steps", "0 is refused"]),
    Case("checkpoints within an epoch of one stream", [*TEXT, "data.sampling=streams", "data.reader.item=file", "data.reader.window=10", "trainer.checkpoint_every={steps: 5}"],
         ["trainer.checkpoint_every", "would lose what came before"], text(" ".join(str(i * i) for i in range(300)).encode())),
    Case("TF32 without CUDA", ["trainer.device=cpu", "trainer.precision=tf32"], ["trainer.precision=tf32", "the device is cpu", "float32, bfloat16"]),
    Case("no number of trials", [*SEARCH, "hydra.sweeper.n_trials=many"], ["hydra.sweeper.n_trials", "'many' is refused"]),
    Case("too few trials for the stages", [*SEARCH, "hydra.sweeper.n_trials=1"], ["leave none for the stage 'fine'"]),
    Case("a stage's key that is none", [*SEARCH, "+hydra.sweeper.stages.fine.budget=1"], ["no key 'budget'", "epochs"]),
    Case("a search without dev", [*SEARCH, "data.split.dev=0"], ["a search chooses on dev", "data.split.dev=0.2"]),
    Case("two searches at once", ["-m", "sweep=coarse_to_fine,random"], ["one search at a time", "sweep=coarse_to_fine"]),
    Case("sweeping what says how runs are made", [*SEARCH, "hydra.sweeper.n_trials=2,3"], ["hydra.sweeper.n_trials", "cannot be swept"]),
    Case("an illegal option among many combinations", [*SEARCH, "optimizer=choice(sgd, adam, rmsporp)", "init=choice(default, he, xavier, normal)",
          "regularizer=choice(none, l1, l2)"], ["no choice 'rmsporp'", "nearest: rmsprop"]),
    Case("a search in a folder that is none", [*SEARCH, "hydra.sweep.dir=file/x"], ["cannot be written", "hydra.sweep.dir=DIR"],
         lambda home: (home / "file").write_text("a file")),
    Case("a study's name that is a path", [*SEARCH, "hydra.sweeper.study_name=a/b"], ["hydra.sweeper.study_name", "'a/b' is refused"]),
    Case("a storage in memory", [*SEARCH, "hydra.sweeper.storage=sqlite:///:memory:"], ["no storage", "sqlite:///FILE"]),
    Case("a storage that is a letter", [*SEARCH, "hydra.sweeper.storage=sqlite:///letter.txt"], ["letter.txt", "file is not a database"],
         lambda home: (home / "letter.txt").write_text("this is a letter, not a database\n" * 50)),
    Case("a storage of another kind", [*SEARCH, "hydra.sweeper.storage=redis://host"], ["no storage", "sqlite:///FILE"]),
    Case("a storage that does not answer", [*SEARCH, "hydra.sweeper.storage=postgresql://me:secret@127.0.0.1:9/db"],
         ["postgresql://me:***@127.0.0.1:9/db", "it cannot be reached"]),
    Case("an image too small for the network", ["model=vgg16"], ["sides of 32 or more", "data.image_size=[32,32]"]),
    Case("a layer that is none", ["model=convnet", "model.layers=[{cnov: 8, f: 3}]"], ["there is no layer 'cnov'", "nearest: conv"]),
    Case("a layer's key that is none", ["model=convnet", "model.layers=[{conv: 8, f: 3, stride: 2}]"], ["no key 'stride'", "model.layers.0"]),
    Case("a filter larger than what is left", ["model=convnet", "model.layers=[{conv: 8, f: 5}, {max_pool: 2}, {conv: 8, f: 5}]"],
         ["a window of 5 does not fit into 2", "sides of 14 or more"]),
    Case("a depth of no residual network", ["model=resnet", "model.depth=19"], ["19 is neither in table 1 nor 6n + 2"]),
    Case("transfer from nothing", ["transfer=from_run"], ["transfer.source", "is missing"]),
    Case("transfer from a file that is none", ["transfer=from_run", "transfer.source=w.safetensors"], ["no safetensors file, or damaged"],
         lambda home: (home / "w.safetensors").write_text("dear friend")),
    Case("transfer from nowhere", ["transfer=from_run", "transfer.source=outputs/none"], ["does not exist"]),
    Case("a label that is neither yes nor no", [*OWN, "task=multitask"], ["row 1, label 0", "'2' is neither yes nor no"],
         npz(y=np.stack([np.arange(60) % 3 + 1, np.arange(60) % 2], axis=1))),
    Case("a label that is never no", [*OWN, "task=multitask"], ["no example in it has no for the label '0'"], npz(y=np.ones((60, 1), int))),
    Case("boxes asked of data without any", ["task=detection", "model=yolo"], ["these data have no boxes", "data=digit_scenes"]),
    Case("points asked of data without any", ["task=landmarks"], ["these data have no points", "data=face_keypoints"]),
    Case("a detector without a grid", [*SCENES, "task=detection"], ["only model=yolo predicts for every cell", "example: model=yolo"]),
    Case("a grid without a detector", ["model=yolo", "data.image_size=[64,64]"], ["only task=detection learns that", "example: task=detection"]),
    Case("several objects where one is asked for", [*SCENES, "task=localization", "model=convnet"], ["up to 4 objects", "task=detection"]),
    Case("a stride that the backbone does not have", [*SCENES, "task=detection", "model=yolo", "model.stride=64"], ["model.stride", "example: model.stride="]),
    Case("more anchors than are found", [*SCENES, "task=detection", "model=yolo", "task.anchors=20"], ["20 are asked for", "1 to 10"]),
    Case("a key that another backbone has", [*SCENES, "task=detection", "model=yolo", "model.backbone=vgg16", "model.settings.depth=18"],
         ["vgg16 has no such key"]),
    Case("eyes that are no points", [*SCENES, "task=landmarks", "model=convnet"], ["task.eyes", "there are 4 points"]),
    Case("annotations that are damaged", ["data=voc", "data.path=voc", "task=detection", "model=yolo"], ["a.xml", "no annotation, or damaged"],
         lambda home: ((home / "voc" / "Annotations").mkdir(parents=True), (home / "voc" / "Annotations" / "a.xml").write_text("<object>"))),
    Case("people who may stand in two splits", ["task=verification"], ["data.group_by", "people must not stand in two splits"]),
    Case("batches that hold no groups", ["data=digit_numbers", "task=verification", "trainer.batch_size=50"],
         ["50 examples are not several classes of 4", "example: trainer.batch_size=32"]),
    Case("a margin below 0", ["data=digit_numbers", "task=verification", "task.margin=-1"], ["task.margin", "greater than or equal to 0"]),
    Case("text in another encoding", [*TEXT], ["a.txt, line 2", "0xef", "data.reader.encoding=latin-1"], text(b"abc\nna\xefve\n")),
    Case("a text file that is empty", [*TEXT], ["there is no text in it"], text(b"\n \n")),
    Case("a line that is too long, and that is refused", [*TEXT, "data.reader.max_length=5", "data.reader.too_long=refuse"],
         ["a.txt, line 1", "it has 9 tokens", "data.reader.too_long=cut"], text(b"too long\n")),
    Case("a text of one symbol", [*TEXT], ["nothing to tell apart"], text("".join("a" * n + "\n" for n in range(1, 30)).encode())),
    Case("a language model that looks ahead", [*TEXT, "model.bidirectional=true"], ["has seen it", "example: model.bidirectional=false"],
         text("".join(f"{n} bottles\n" for n in range(30)).encode())),
    Case("a network without steps for text", ["data=pydoc", "task=language", "model=mlp"], ["step by step", "example: task=language model=lstm"]),
    Case("a tag outside the scheme", ["data=conll", "data.path=a.txt", "task=tagging", "model=lstm"], ["a.txt, line 3", "'PER' is no tag"],
         text(b"John B-PER\n\nSmith PER\n")),
    Case("a table without a label", ["data=table", "data.path=t.csv"], ["the column of the label is not named", "example: data.label=kind"], csv_of("a,kind\n1,x\n2,y\n")),
    Case("a word among the numbers of a table", TABLE, ["1 of 30 cells are no numbers, the first in row 29: 'old'", "data.columns={age: category}"],
         csv_of("age,kind\n" + "".join(f"{n},{'xy'[n % 2]}\n" for n in range(29)) + "old,x\n")),
    Case("dates that may be day or month first", TABLE, ["its dates may be %d/%m/%Y or %m/%d/%Y"],
         csv_of("when,kind\n" + "".join(f"{1 + n % 9}/{1 + n % 7}/2024,{'xy'[n % 2]}\n" for n in range(30)))),
    Case("a row of a table that is too short", TABLE, ["t.csv, line 3", "1 cells, the header has 2"], csv_of("a,kind\n1,x\n2\n")),
    Case("a kind of column that is none", [*TABLE, "data.columns={a: numbr}"], ["'numbr' is no kind", "nearest: number"], csv_of("a,kind\n1,x\n2,y\n")),
    Case("a table of which nothing is left", [*TABLE, "data.drop=[a]"], ["no column is left to learn from", "a: data.drop"], csv_of("a,kind\n1,x\n2,y\n")),
    Case("auto without a path", ["data=auto"], ["it looks at a path, and none is given", "data.path=~/pictures"]),
    Case("auto on what nothing reads", ["data=auto", "data.path=t.csv"], ["nothing that is read"],
         lambda home: ((home / "t.csv").mkdir(), (home / "t.csv" / "a.doc").write_text("x"))),
    Case("a data.yaml that names what is not there", ["data=yolo", "data.path=data.yaml", "task=detection", "model=yolo"],
         ["it names pictures/train, which is not there"], lambda home: (home / "data.yaml").write_text("train: pictures/train\nnames: [a]\n")),
    Case("a key that stands in a group", ["lr=0.1"], ["it stands in a group", "example: optimizer.lr=..."]),
    Case("a value that is no Hydra grammar", ["model.layers=[64,"], ["model.layers", "is refused"]),
]  # fmt: skip


def anchor(name: str) -> str:
    """Return where a heading's link leads."""
    return "#" + "".join(c for c in name.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def tried(case: Case) -> tuple[int, str, list[str]]:
    """Run src/train.py in an empty folder; return exit code, screen, and what was left besides the data."""
    from crucible.app.cli import run_command

    home = Path(tempfile.mkdtemp())
    case.make(home)
    before, here, argv = {*home.rglob("*")}, Path.cwd(), sys.argv
    screen = io.StringIO()
    os.chdir(home)
    sys.argv = ["src/train.py", *case.args, "tracking=none"][: None if "resume" not in case.args[0] else -1]
    try:
        with contextlib.redirect_stderr(screen), contextlib.redirect_stdout(screen):
            run_command("train")
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os.chdir(here)
        sys.argv = argv
    return code, screen.getvalue().replace(f"{home}/", ""), sorted(str(path) for path in {*home.rglob("*")} - before)


def table() -> str:
    """Return the table of what was tried and what was printed."""
    rows = []
    for case in CASES:
        code, screen, _ = tried(case)
        words = shlex.join(["python", "src/train.py", *case.args])
        rows.append(f"### {case.name}\n\n```\n$ {words}\n{screen.rstrip()}\n(exit {code})\n```\n")
    return "\n".join(rows)


if __name__ == "__main__":
    print(
        "# What is refused, and what is printed\n\nMade by `python tests/bad_input.py > docs/errors.md`; "
        "tests/test_refusals.py runs every case and checks that nothing is left on disk.\n"
    )
    print("\n".join(f"- [{case.name}]({anchor(case.name)})" for case in CASES) + "\n")
    print(table())
