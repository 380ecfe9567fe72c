"""Random command lines, drawn from a seed: values of every wrong kind, extremes of the right kind, words of no kind.

No path leads further than beside the folder of the case: what a command may overwrite by mistake is its copy.
"""

import importlib
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from forked import BY_WORDS, Case
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException

from crucible.app.compose import CONF, GROUPS, compose, plain
from crucible.instantiate import PARTS

BAD = ["1e400", "-1e400", "1e308", "1e-320", "-1", "0", "1", "2", "3.5", "0.5", "nan", "inf", "-inf", ".nan", "", "null", "true", "false", "[]", "{}",
    "[1,2]", "[1,2,3]", "[-1]", "[0,0]", "[null]", "[[1]]", "{a: 1}", "{a: null}", "[{}]", "[{conv: 8}]", "é", "猫", "a b", "x" * 5000, "x" * 50000,
    "${seed}", "${nowhere}", "${oc.env:NOPE}", "${model}", "???", str(10**30), str(-(10**30)), str(2**63 - 1), str(2**32), str(2**31), "1000000", "100000",
    "[" * 40 + "]" * 40, "[" * 3000 + "]" * 3000, "{a:" * 2000 + "1" + "}" * 2000, "'", '"', "\\", "\n", "a=b", "${", "}", "a,b", "(", "choice(1,2)",
    "range(1,3)", "interval(0,1)", "glob(*)", "\x1b]0;pwn\x07", "\udcff", "../x", "cut.png", "run/config.yaml", "data.npz", ".", "None", "True",
    "0x10", "1_000", "01", "1e3", "+1", "abc"]  # fmt: skip
TARGETS = ["crucible.models.mlp.MLP", "crucible.tracking.mirror.Nothing", "crucible.tracking.mlflow.main", "crucible.training.fit.fit",
    "crucible.data.card.read_card", "crucible.models.resnet.Block", "crucible.models.resnet.first_width", "crucible.transfer.pretrained", "torch.nn.Linear",
    "torch.nn.Module", "torch.nn.Identity", "torch.nn.Sequential", "torch.nn.LSTM", "torch.nn.Transformer", "torch.nn.Flatten", "torch.nn.ParameterList",
    "torch.optim.LBFGS", "torch.optim.SGD", "torch.optim.SparseAdam", "torch.optim.Optimizer", "torch.optim.Adafactor", "torch.optim.Muon",
    "torch.optim.lr_scheduler.SequentialLR", "torch.optim.lr_scheduler.ReduceLROnPlateau", "torch.optim.lr_scheduler.LambdaLR",
    "torch.optim.lr_scheduler.OneCycleLR", "torch.optim.lr_scheduler.CyclicLR", "torch.optim.lr_scheduler.LRScheduler", "torch.optim.lr_scheduler.StepLR",
    "torch.optim.lr_scheduler.MultiStepLR", "torch.optim.lr_scheduler.CosineAnnealingWarmRestarts", "os.system", "builtins.eval", "antigravity.geohash",
    "hydra.utils.instantiate", "crucible.schema.Section", "crucible.errors.Refusal", "crucible.search.local.serve", "crucible..x", "", "x", "this.x",
    "torch.nn.modules.module.Module", "crucible.data.prepare.PrepareConfig", "crucible.optim.optimizers.Adam", "crucible.optim.optimizers.FusedAdam"]  # fmt: skip
INTS = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "1000",
    "100000",
    "1000000",
    str(2**31 - 1),
    str(2**31),
    str(2**32),
    str(2**63 - 1),
    str(2**63),
    str(2**64 - 1),
    str(10**30),
    "-1",
]
FLOATS = ["9" * 400, "0", "0.0", "1e-320", "1e-45", "1e-38", "1e-10", "0.5", "1", "1.0", "0.9999999999999999", "1e10", "1e38", "3.5e38", "1e308", "1.7976931348623157e308",
    "-0.0", "inf", "nan", "-1e-300", str(10**30)]  # fmt: skip
TEXTS = ["", "a", "x" * 300, "x" * 5000, "猫", "a\nb", "\x1b]0;t\x07", "\u202e", "a b", "'", '"', "$HOME", "`id`", "a;b", "../x", ".", "..",
    "null ", "true", "1", "a/b", "\udcff", "*", "%s%n", "{}", "{0}", "a:b", "sqlite://", "sqlite:///", "file:///", "http://", "http://[", "http://127.0.0.1:1",
    "postgresql://u:p@127.0.0.1:9/x", "databricks", "ftp://x", "\x00x", "a\x00b", "a/" * 3000]  # fmt: skip
LISTS = ["[]", "[0]", "[1]", "[8]", "[1,1]", "[8,8]", "[1,1,1]", "[1000000]", "[1000000000]", "[9223372036854775807]", "[2147483647,2147483647]", "[100000,100000]",
    "[1000000000,1000000000]", "[2147483648,1]", "[1,1,1,1]", "[1,1,1,1,1]", "[" + ",".join(["8"] * 300) + "]", "[" + ",".join(["1"] * 3000) + "]", "[0.5,0.5]",
    "[a]", "[-1,1]", "[[1,1]]", "[true]"]  # fmt: skip
SCENES = ["data=digit_scenes", "data.reader.scenes={train: 20, dev: 10, test: 10}"]
YOLO = [*SCENES, "task=detection", "model=yolo", "model.settings={depth: 8, width: 4}"]
STARTS = [[], ["model=resnet"], ["model=lenet5"], ["model=convnet"], ["model=inception"], ["model=logistic"], ["model=perceptron", "data=gates"],
    ["data=diabetes", "task=regression"], ["data=moons"], ["data=circles"], ["data=gates"], ["data=digit_traits", "task=multitask"], ["augment=light"],
    ["augment=strong"], ["regularizer=l2"], ["regularizer=l1"], ["optimizer=momentum"], ["optimizer=nesterov"], ["optimizer=rmsprop"], ["optimizer=adagrad"],
    ["optimizer=adadelta"], ["optimizer=adamw"], ["optimizer=sgd"], ["schedule=cosine"], ["schedule=step"], ["schedule=exponential"], ["schedule=inverse_time"],
    ["init=normal"], ["tracking=mlflow", "tracking.uri=sqlite:///m.db"], YOLO, [*SCENES, "task=localization", "model=convnet"],
    [*SCENES, "task=landmarks", "model=convnet"], ["transfer=from_run", "transfer.source=run"], ["data=npz", "data.path=data.npz"],
    ["data=image_folder", "data.path=pictures"]]  # fmt: skip
QUICK = {"data": ["digits", "diabetes", "moons", "circles", "gates", "digit_traits"], "task": ["classification", "regression", "binary", "multitask"],
    "sweep": ["none"], "experiment": ["none"], "tracking": ["none"]}  # fmt: skip
ODD = ["--cfg", "--cfg=x", "--help", "--foo", "-x", "--info=x", "--package", "--resolve", "--run", "--shell-completion", "--hydra-help", "--version",
    "--experimental-rerun=x", "--config-name", "--config-name=nope", "--config-name=\udcff", "--config-dir", "--config-dir=nope", "--config-path=nope", "-m", "=", "==",
    "a", "a=", "=b", "", " ", "\n", "hydra.run.dir=", "hydra.run.dir=${", "hydra.run.dir=run/config.yaml", "hydra=x", "hydra.job=1", "@a=b", "model@x=mlp",
    "data=[digits,npz]", "model=null", "~model", "~trainer", "~task=True", "~seed", "+seed=1", "model/x=1", "model.=1", ".model=1", "model..layers=1", "model.layers.0=1",
    "trainer.total_epochs.x=1", "experiment=xor", "seed=1,2", "hydra.sweeper.n_trials=x", "hydra.searchpath=[x]", "hydra.mode=x", "hydra.verbose=true", "\udcff=1", "a\x1b[2J=1",
    "resume=run", "resume=nope", "resume=[]", "run=run", "prepared=.", "prepared=cut.png", "prepared=run", "run=\x00"]  # fmt: skip
WORDS_OF_COMMANDS = ["latest", "run", "run/weights.safetensors", "nope", "picture.png", "data.npz", "pictures", "cut.png", "0", "1", "0.5", "1e400", "table", "json", "csv", "none",
    "head", "stem.0", "train", "dev", "test", "out.json", "f1", "loss"]  # fmt: skip
KEYS_OF_COMMANDS = [
    "run",
    "input",
    "format",
    "out",
    "score",
    "draw",
    "layer",
    "unit",
    "split",
    "top",
    "overlap",
    "task.monitor",
    "task.satisficing",
]
CHANGES = ["stop", "checkpoint", "evaluate", "optimizer.lr", "trainer.total_epochs", "trainer.patience", "seed"]


NAMED = [("model", "torch.nn", ["model=logistic"])] * 3 + [("optimizer", "torch.optim", ["optimizer=sgd"])] * 2 + [
    ("schedule", "torch.optim.lr_scheduler", ["~schedule.warmup_epochs"]), ("model", "crucible.models.layers", ["model=logistic"]),
    ("model", "crucible.models.resnet", ["model=logistic"]), ("optimizer", "crucible.optim.optimizers", ["optimizer=sgd"]),
    ("schedule", "crucible.optim.schedules", []), ("init", "crucible.initializers", []), ("transfer", "crucible.transfer", []),
    ("regularizer", "crucible.regularizers", []), ("augment", "crucible.data.augment", []), ("tracking", "crucible.tracking.mirror", ["tracking=none"]),
    ("task", "crucible.tasks.classification", []), ("data.reader", "crucible.data.readers.source", ["data=npz", "data.path=data.npz"]),
    ("data.reader", "crucible.data.readers.generated", ["data=npz", "data.path=data.npz"])]  # fmt: skip


PATHS = [*(("train", f"data={kind}", "data.path") for kind in ("npz", "csv", "hdf5", "idx", "image_folder", "voc", "coco", "yolo", "keypoints")),
    *(("train", key) for key in ("prepared", "run", "resume", "hydra.run.dir", "data.name", "--config-dir", "--config-name")),
    ("train", "transfer=from_run", "transfer.source"), ("train", "tracking=mlflow", "tracking.uri"), ("describe", "hydra.run.dir"), ("prepare", "prepared"),
    ("evaluate", "run=run", "hydra.run.dir"), ("evaluate", "run"), ("evaluate", "run=run", "data=npz", "data.path"),
    ("evaluate", "run=run", "data=npz", "data.path=data.npz", "data.name")]  # fmt: skip


class CommandLines:
    """A stream of cases: equal seeds give equal streams."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def draw(self) -> Case:
        """Return the next case."""
        kinds: list[Callable[[], Case]] = [self._bad, self._extreme, self._by_words, self._named, self._path, self._odd]
        return self._random.choices(kinds, [38, 31, 14, 8, 4, 5])[0]()

    def _bad(self) -> Case:
        """Values of every kind, wherever a value may stand."""
        some, groups = self._random, _groups()
        chosen = some.sample(sorted(groups), some.choice([0, 0, 1, 1, 2, 3]))
        words = [
            f"{group}={some.choice(QUICK.get(group, groups[group]) if some.random() < 0.8 else groups[group])}"
            for group in chosen
        ]
        known = list(_leaves(*words))
        words += [self._assigned(known) for _ in range(some.choice([1, 1, 1, 2, 3]))]
        script = some.choices(["train", "prepare", "describe", "evaluate"], [12, 1, 2, 1])[0]
        return Case(script, _quick(script, words))

    def _assigned(self, known: list[str]) -> str:
        some, key = self._random, self._random.choice(known)
        if key.endswith("_target_") or some.random() < 0.04:
            return f"{some.choice(sorted(PARTS))}._target_={some.choice(TARGETS)}"
        prefix = some.choices(["", "+", "++", "~"], [20, 1, 2, 1])[0]
        return prefix + (key if prefix == "~" and some.random() < 0.5 else f"{key}={some.choice(BAD)}")

    def _extreme(self) -> Case:
        """One or two values of the right type, at its ends."""
        some, start = self._random, self._random.choice(STARTS)
        found = {
            key: value for key, value in _leaves(*start).items() if not isinstance(value, dict) or some.random() < 0.2
        }
        words = [f"{key}={self._like(found[key])}" for key in some.sample(sorted(found), some.choice([1, 1, 2]))]
        return Case("train", _quick("train", [*start, *words]))

    def _like(self, value: Any) -> str:
        some, kinds = self._random, {bool: ["true", "false"], int: INTS, float: FLOATS, list: LISTS, str: TEXTS}
        if some.random() < 0.1 or type(value) not in kinds:
            return some.choice(some.choice([INTS, FLOATS, TEXTS, LISTS]))
        return some.choice(kinds[type(value)])

    def _by_words(self) -> Case:
        """Commands that read their words themselves."""
        some, script = self._random, self._random.choice([*BY_WORDS, "evaluate"])
        if script == "control":
            words = ["run", f"{some.choice(CHANGES)}={some.choice(INTS + FLOATS + TEXTS)}"]
            return Case(script, some.sample([*words, self._word()], some.choice([1, 2, 2, 2, 2, 3])))
        own = list(getattr(importlib.import_module(script), "KEYS", {"split": "", "out": ""}))
        named = ["run"] if script == "compare" else ["run=run"] if some.random() < 0.9 else []
        named += (
            [f"input={some.choice(['picture.png', 'data.npz', 'pictures'])}"]
            if "input" in own and some.random() < 0.7
            else []
        )
        keys = [some.choice(own if some.random() < 0.8 else KEYS_OF_COMMANDS) for _ in range(some.choice([1, 1, 2]))]
        given = [f"{key}={self._word()}" for key in keys if all(key != word.partition("=")[0] for word in named)]
        return Case(script, [*named, *given, *([self._word()] if some.random() < 0.1 else [])])

    def _word(self) -> str:
        some = self._random
        return some.choice(WORDS_OF_COMMANDS) if some.random() < 0.4 else some.choice(BAD + INTS + FLOATS + TEXTS)

    def _path(self) -> Case:
        """Texts that are no path, or none that a file system takes, where one belongs."""
        some, (script, *start, key) = self._random, self._random.choice(PATHS)
        return Case(script, _quick(script, [*start, f"{key}={some.choice(TEXTS + BAD)}"]))

    def _named(self) -> Case:
        """Everything that torch has for a group, and everything of ours, in a group whose own keys do not stand in the way."""
        some, (group, home, start) = self._random, self._random.choice(NAMED)
        found = {
            name: each
            for name, each in vars(importlib.import_module(home)).items()
            if inspect.isclass(each) or inspect.isfunction(each)
        }
        name = some.choice(sorted(found))
        keys = [key for key in _parameters(found[name])[1:] if key not in ("lr", "self")]
        given = [
            f"+{group}.{key}={some.choice(BAD + INTS + FLOATS + LISTS)}"
            for key in some.sample(keys, min(len(keys), some.choice([0, 0, 1, 1, 2])))
        ]
        return Case("train", _quick("train", [*start, f"{group}._target_={home}.{name}", *given]))

    def _odd(self) -> Case:
        """Hydra's flags, and words that are no override."""
        some, script = self._random, self._random.choice(["train", "prepare", "describe", "evaluate"])
        return Case(script, _quick(script, some.sample(ODD, some.choice([1, 1, 2]))))


def _quick(script: str, words: list[str]) -> list[str]:
    """Return the words of a short training without a server, unless they say otherwise."""
    given = {word.lstrip("+~").partition("=")[0].partition(".")[0] for word in words if "tracking" in word}
    own = {word.lstrip("+~").partition("=")[0] for word in words} | given
    base = ["tracking=none", "trainer.total_epochs=1", "trainer.threads=1"] if script == "train" else []
    return [*words, *(each for each in base if each.partition("=")[0] not in own)]


def _parameters(found: Any) -> list[str]:
    try:
        return list(inspect.signature(found).parameters)
    except ValueError:  # written in C
        return []


@cache
def _groups() -> dict[str, list[str]]:
    return {
        group: sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "base") for group in GROUPS
    }


@cache
def _leaves(*words: str) -> dict[str, Any]:
    """Return dotted keys and values of what these words compose; of the defaults where they compose nothing."""
    try:
        composed = plain(compose(get_args_parser().parse_args([]), list(words)))
    except (HydraException, ValueError):
        return _leaves()
    return dict(_flat(composed, ""))


def _flat(node: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    flat = []
    for key, value in node.items():
        flat.append((f"{prefix}{key}", value))
        flat += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else []
    return flat


def furnish(home: Path) -> None:
    """Put data into a folder: arrays, a folder of pictures, a picture, and one that is cut short."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
    np.savez(home / "data.npz", x=x, y=np.arange(60) % 3)
    for i in range(24):
        picture = home / "pictures" / f"kind{i % 3}" / f"{i}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[i, 0]).save(picture)
    Image.fromarray(x[59, 0]).save(home / "picture.png")
    (home / "cut.png").write_bytes((home / "picture.png").read_bytes()[:60])
