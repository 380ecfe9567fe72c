"""The wheel alone: a project of one's own begins, runs its pipeline and takes its own parts, without this repository."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

pytestmark = pytest.mark.slow
SITE = "site"


def python(*arguments: str, cwd: Path, **more: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False,
                          env=os.environ | more)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Build the wheel of a copy of this repository, install it into a folder of its own, and begin a project."""
    home = tmp_path_factory.mktemp("installed")
    copy = home / "copy"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in (each for each in listed.stdout.splitlines() if (ROOT / each).is_file()):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    pip = ("-m", "pip", "-q", "--disable-pip-version-check")
    python(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(home), str(copy), cwd=home)
    wheel = next(home.glob("*.whl"))
    python(*pip, "install", "--no-deps", "--target", str(home / SITE), str(wheel), cwd=home)
    subprocess.run(["rm", "-rf", str(copy)], check=True)
    assert crucible(home, home, "new", "mine").returncode == 0
    return home


def crucible(home: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command as a person does."""
    return program(home, cwd, str(home / SITE / "bin" / "crucible"), *words)


def program(home: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(home / SITE / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(home / SITE), "PATH": path})  # fmt: skip


def test_the_pipeline_of_a_new_project_runs_at_once(installed) -> None:
    done = program(installed, installed / "mine", "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    reported = json.loads((installed / "mine/artifacts/evaluate/metrics.json").read_text())
    assert reported["test"]["accuracy"] > 0.95 and (installed / "mine/artifacts/evaluate/report.html").exists()
    assert "didn't change, skipping" in program(installed, installed / "mine", "dvc", "repro").stdout


def test_the_commands_are_called_as_they_are_here(installed) -> None:
    project = installed / "mine"
    done = crucible(installed, project, "train", "optimizer=sgd", "tracking=none", "trainer.total_epochs=2")
    assert done.returncode == 0 and "src/" not in done.stdout and "crucible train optimizer=sgd" in done.stdout, (
        done.stderr
    )
    done = crucible(installed, project, "evaluate", "run=latest", "report=none")
    assert done.returncode == 0 and "test" in done.stdout and "src/" not in done.stdout, done.stderr
    for words, stated in ((("trian",), "nearest: train"), (("train", "modle=x"), "crucible train refuses")):
        done = crucible(installed, project, *words)
        assert done.returncode == 2 and stated in done.stderr and "src/" not in done.stderr
    done = crucible(installed, project, "train", "-m", "optimizer=sgd,adam", "tracking=none", "trainer.total_epochs=1")
    assert done.returncode == 0 and len(list(project.glob("multirun/*/*/*/weights.safetensors"))) == 2, done.stderr
    words = (
        "sweep=random",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.confirm.seeds=1",
        "trainer.total_epochs=2",
        "tracking=none",
    )
    done = crucible(installed, project, "train", "-m", *words)
    assert done.returncode == 0 and "next  crucible train" in done.stdout, done.stdout + done.stderr


def test_the_shell_completes_what_follows_the_verb(installed) -> None:
    def completed(line: str) -> list[str]:
        script = "import sys; sys.argv = ['crucible', '-sc', 'query=bash']; from crucible.app.cli import main; main()"
        return python("-c", script, cwd=installed / "mine", COMP_LINE=line, COMP_POINT=str(len(line)),
                      PYTHONPATH=str(installed / SITE)).split()  # fmt: skip

    assert completed("crucible train optimizer=ada") == [
        "optimizer=adadelta",
        "optimizer=adagrad",
        "optimizer=adam",
        "optimizer=adamw",
    ]
    assert completed("crucible train model=wid") == ["model=wide"]
    done = crucible(installed, installed / "mine", "-sc", "install=bash")
    assert done.returncode == 0 and done.stdout.strip().endswith("hydra_bash_completion crucible")


def test_a_folder_that_holds_something_is_left_alone(installed, tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for words in (["full"], [], ["a", "b"], ["x=1"]):
        done = crucible(installed, tmp_path, "new", *words)
        assert done.returncode == 2 and "example: crucible new" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


OWN = {
    "own/__init__.py": "",
    "own/readers.py": '''
        """Rows of a text file: numbers, then the class."""
        from pathlib import Path
        import numpy as np
        from crucible.data.readers.source import Pool, Source
        from crucible.schema import Count

        def rows(path: Path | None, label: str | None, group_by: str | None, *, skip: Count) -> Source:
            table = [line.split() for line in path.read_text().splitlines()[skip:]]
            x, y = np.array([row[:-1] for row in table], np.float32), np.array([row[-1] for row in table])
            return Source({"all": Pool(labels=y, chunks=lambda: iter([x]))}, {"rows": path})
    ''',
    "own/tasks.py": '''
        """Classification whose error counts twice."""
        from crucible.tasks.classification import Classification

        class Strict(Classification):
            def error_of(self, mean: float) -> float:
                return 2 * mean
    ''',
    "own-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: own\nVersion: 1.0\n",
    "own-1.0.dist-info/entry_points.txt": "[crucible.readers]\nrows = own.readers:rows\n\n[crucible.tasks]\nstrict = own.tasks:Strict\n",
}  # fmt: skip


def test_parts_of_an_installed_package_are_choices_like_any_other(installed, tmp_path) -> None:
    """A reader and a task that entry points declare: trained, evaluated and asked; the same class undeclared is refused."""
    for name, text in OWN.items():
        file = installed / SITE / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(text))
    project = installed / "own"
    assert crucible(installed, installed, "new", "own").returncode == 0
    (project / "rows.txt").write_text(
        "a b class\n" + "".join(f"{i % 7} {i} {'odd' if i % 2 else 'even'}\n" for i in range(80))
    )
    (project / "conf/data").mkdir()
    reader = {"_target_": "own.readers.rows", "skip": 1}
    (project / "conf/data/rows.yaml").write_text(
        yaml.safe_dump({"defaults": ["base", "_self_"], "name": "rows", "reader": reader, "path": "rows.txt"})
    )
    (project / "conf/task").mkdir()
    own = yaml.safe_load((installed / SITE / "crucible/conf/task/classification.yaml").read_text()) | {
        "_target_": "own.tasks.Strict"
    }
    (project / "conf/task/strict.yaml").write_text(yaml.safe_dump(own))
    words = ("data=rows", "task=strict", "tracking=none", "trainer.total_epochs=2")
    done = crucible(installed, project, "train", *words)
    assert done.returncode == 0 and "data=rows" in done.stdout and "task=strict" in done.stdout, (
        done.stdout + done.stderr
    )
    assert crucible(installed, project, "evaluate", "run=latest").returncode == 0
    done = crucible(installed, project, "train", *words, "data.reader.skip=-1")
    assert done.returncode == 2 and "data.reader.skip" in done.stderr
    (installed / SITE / "own-1.0.dist-info/entry_points.txt").write_text("")
    done = crucible(installed, project, "train", *words)
    assert done.returncode == 2 and "may not be named here" in done.stderr
