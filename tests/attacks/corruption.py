"""One file of prepared data, of an interrupted or of a finished run is damaged: is it found before it is trusted?"""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.attacks.processes import ROOT, End, command
from tests.attacks.promises import differing, events, fresh, has_begun, promised
from tests.attacks.results import Ended, Result

TRAIN = [
    "trainer.total_epochs=12",
    "trainer.threads=1",
    "trainer.checkpoint_every=1",
    "tracking=none",
    "hydra.run.dir=run",
]
COMMANDS = {
    "train": ("train", TRAIN),
    "resume": ("train", ["resume=run"]),
    "evaluate": ("evaluate", ["run=run", "tracking=none", "report=none"]),
    "predict": ("predict", ["run=run", f"input={ROOT}/data/digits/x.npy", "format=csv"]),
}
WRITTEN = {
    "train": ("weights.safetensors", "curves.csv", "train.json"),
    "resume": ("weights.safetensors", "curves.csv", "train.json"),
    "evaluate": ("metrics.json", "predictions.csv", "confusion.csv"),
    "predict": (),
}
CASES = [
    *(
        ("prepared", f"KEY/{name}", "train")
        for name in ("train/x.npy", "train/y.npy", "dev/x.npy", "dev/y.npy", "card.json")
    ),
    *(("done", f"KEY/{name}", "evaluate") for name in ("test/x.npy", "test/y.npy", "card.json")),
    *(("cut", f"run/{name}", "resume") for name in ("checkpoint.pt", "journal.jsonl", "config.yaml", "card.json")),
    *(("cut", name, "train") for name in ("run/checkpoint.pt", "run/journal.jsonl")),
    ("cut", "KEY/train/x.npy", "resume"),
    *(
        ("done", f"run/{name}", "evaluate")
        for name in ("weights.safetensors", "card.json", "config.yaml", "train.json")
    ),
    *(("done", name, "evaluate") for name in ("run/journal.jsonl", "artifacts/test_looks.jsonl")),
    *(("done", f"run/{name}", "predict") for name in ("weights.safetensors", "card.json", "config.yaml")),
    *(("done", f"run/{name}", "resume") for name in ("journal.jsonl", "train.json", "config.yaml")),
]


def _flipped(rng: Random, data: bytes, first: int, end: int) -> bytes:
    at = rng.randrange(first, max(first + 1, end))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _zeros(rng: Random, data: bytes) -> bytes:
    at, count = rng.randrange(len(data)), rng.choice([1, 16, 512, 4096])
    return data[:at] + b"\0" * min(count, len(data) - at) + data[at + count :]


DAMAGES: dict[str, Callable[[Random, bytes], bytes | None]] = {
    "a bit flipped": lambda rng, data: _flipped(rng, data, 0, len(data)),
    "a bit flipped in the middle": lambda rng, data: _flipped(rng, data, len(data) // 3, 2 * len(data) // 3),
    "cut": lambda rng, data: data[: rng.randrange(len(data))],
    "zeros": _zeros,
    "garbage": lambda rng, data: rng.randbytes(rng.choice([1, 100, 5000])),
    "empty": lambda rng, data: b"",
    "gone": lambda rng, data: None,
}


def attack(number: int, rng: Random, home: Path) -> Result:
    """Damage one file and give one command that reads it."""
    _make(home)
    state, name, does = CASES[number % len(CASES)]
    folder = home / "try"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(home / state, folder, symlinks=True)
    path = _path(folder, name)
    damage = rng.choice(sorted(DAMAGES))
    before = path.read_bytes()
    after = DAMAGES[damage](rng, before)
    if after == before:
        return Result(0, [state, name, damage, "nothing changed"])
    if after is None:
        path.unlink()
    else:
        path.write_bytes(after)
    end = command(*COMMANDS[does], folder).wait(90)
    did = [state, name, damage, does, len(after or b"")]
    return Result(1, did, *_ended(end, home, folder, does))


def _path(folder: Path, name: str) -> Path:
    key = next((folder / "artifacts" / "prepared").iterdir()).name
    return folder / name.replace("KEY/", f"artifacts/prepared/{key}/")


def _ended(end: End, home: Path, folder: Path, does: str) -> tuple[Ended, list[str]]:
    if end.kind == "refused":
        return "refused", []
    if end.kind == "traceback":
        return "traceback", [end.error]
    if end.code != 0:
        return "lost", end.problem(does)
    wanted = {name: digest for name, digest in promised(home / "done" / "run").items() if name in WRITTEN[does]}
    wrong = differing(wanted, promised(folder / "run"))
    wrong += ["it predicts something else"] if does == "predict" and end.out != (home / "predicted").read_text() else []
    return ("silent", wrong) if wrong else ("well", [])


def _make(home: Path) -> None:
    """Make a finished run, one interrupted after its sixth epoch, and prepared data alone; once."""
    if (home / "predicted").exists():
        return
    for does in ("train", "evaluate"):
        end = command(*COMMANDS[does], fresh(home / "done") if does == "train" else home / "done").wait()
        assert end.code == 0, end.err
    cut = fresh(home / "cut")
    child = command("train", TRAIN, cut)
    child.sleep(60, until=lambda: has_begun(cut / "run") and events(cut / "run")[-1].get("epoch", 0) >= 6)
    child.kill()
    child.wait()
    shutil.rmtree(home / "prepared", ignore_errors=True)
    shutil.copytree(home / "done" / "artifacts" / "prepared", home / "prepared" / "artifacts" / "prepared")
    (home / "predicted").write_text(command(*COMMANDS["predict"], home / "done").wait().out)
