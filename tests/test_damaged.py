"""A finished run whose files are no longer what they were is refused on one screen, whichever command reads it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Done

READERS = {
    "evaluate": ["run=run", "tracking=none", "report=none"],
    "predict": ["run=run", "input=x.npy"],
    "train": ["resume=run"],
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "not UTF-8": lambda data: data[:700] + b"\xe3" + data[700:],
    "empty": lambda data: b"",
    "no mapping": lambda data: b"5\n",
    "cut": lambda data: data[: len(data) // 2],
    "a section that is none": lambda data: data.replace(b"trainer:\n", b"trainer: 5\nx:\n"),
    "no YAML": lambda data: b"\0" + data,
}


@pytest.fixture
def run(command: Callable[..., Done], tmp_path: Path) -> Path:
    words = ["tracking=none", "trainer.total_epochs=1", "model=logistic", "hydra.run.dir=run"]
    assert command("train", *words).code == 0
    np.save("x.npy", np.zeros((2, 1, 8, 8), dtype=np.uint8))
    return tmp_path / "run"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_configuration_is_one_screen(command: Callable[..., Done], run: Path, damage: str) -> None:
    path = run / "config.yaml"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    for script, words in READERS.items():
        done = command(script, *words)
        assert done.code == 2 and "where:" in done.err, script


def test_a_damaged_result_is_not_shown_again(command: Callable[..., Done], run: Path) -> None:
    assert command("train", "resume=run").code == 0
    for damage in (lambda data: data[:50], lambda data: data.replace(b"0", b"1", 1)):
        shutil.copy(run / "train.json", "kept.json")
        (run / "train.json").write_bytes(damage((run / "train.json").read_bytes()))
        assert command("train", "resume=run").code == 2
        shutil.copy("kept.json", run / "train.json")
