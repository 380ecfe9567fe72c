"""Planted faults: single-line changes that the tests must notice.

`python tests/faults/tool.py draw 36 > tests/faults/drawn.json` draws changes from a seed;
`python tests/faults/tool.py run [LIST ...]` plants each one, of drawn.json and hand.json or the named lists, in a copy of the project
and runs the tests of that part, then all fast ones; pytest does not collect this file.
"""

import ast
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
SEED = 20261122
TESTS = {  # part -> the tests that are about it
    "boxes.py": ["boxes", "detection"],
    "data/augment.py": ["augment", "objects"],
    "data/objects.py": ["objects"],
    "data/normalize.py": ["table"],
    "data/columns.py": ["table"],
    "data/cells.py": ["table"],
    "data/frames.py": ["table"],
    "data/moments.py": ["prepare", "table"],
    "data/readers/table.py": ["table"],
    "data/readers/yolo.py": ["look", "objects"],
    "data/readers/image_folder.py": ["hostile", "readers"],
    "data/splits.py": ["splits", "look"],
    "metrics/thresholds.py": ["report"],
    "tracking/journal.py": ["journal", "usage", "report"],
    "app/look/tables.py": ["look"],
    "losses.py": ["losses", "notes", "multitask"],
    "initializers.py": ["initializers"],
    "regularizers.py": ["losses"],
    "metrics/classification.py": ["metrics", "notes"],
    "metrics/detection.py": ["detection_metrics"],
    "metrics/flags.py": ["multitask"],
    "metrics/landmarks.py": ["places"],
    "metrics/localization.py": ["places"],
    "models/layers.py": ["networks", "describe"],
    "models/profile.py": ["describe", "networks"],
    "models/resnet.py": ["networks"],
    "models/inception.py": ["networks"],
    "inference/sliding.py": ["sliding"],
    "models/yolo.py": ["detection", "models"],
    "metrics/regression.py": ["regression"],
    "optim/optimizers.py": ["optim"],
    "optim/schedules.py": ["optim"],
    "diagnosis/averages.py": ["notes"],
    "optim/guard.py": ["optim", "fit"],
    "tasks/classification.py": ["losses", "notes"],
    "tasks/detection.py": ["detection", "places"],
    "tasks/landmarks.py": ["places"],
    "tasks/localization.py": ["places"],
    "tasks/multitask.py": ["multitask"],
    "tasks/task.py": ["labels", "networks", "losses"],
    "transfer.py": ["transfer"],
    "inference/onnx.py": ["product"],
    "tasks/regression.py": ["regression"],
    "diagnosis/advice.py": ["diagnosis", "notes", "compare"],
    "diagnosis/bounds.py": ["compare", "notes"],
    "diagnosis/ceiling.py": ["curves"],
    "diagnosis/compare.py": ["compare"],
    "diagnosis/curves.py": ["curves"],
    "diagnosis/flow.py": ["curves"],
    "diagnosis/gap.py": ["diagnosis", "notes", "signs"],
    "diagnosis/inside.py": ["inside"],
    "diagnosis/shift.py": ["shift"],
    "tracking/control.py": ["control"],
    "training/best.py": ["fit"],
    "tracking/checkpoint.py": ["fit"],
    "training/controls.py": ["control"],
    "data/ragged.py": ["ragged"],
    "data/prepare.py": ["ragged", "prepare"],
    "app/compatibility.py": ["ragged"],
    "app/finished.py": ["commands"],
    "labels/boxes.py": ["labels", "places"],
    "labels/classes.py": ["labels", "names", "report"],
    "labels/multilabel.py": ["multitask"],
    "labels/numbers.py": ["labels", "regression"],
    "models/contracts.py": ["detection", "models"],
    "training/fit.py": ["fit"],
    "training/gradient_check.py": ["gradient_check"],
    "training/probe.py": ["curves"],
    "training/run.py": ["fit", "journal"],
}
COMPARE = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
ARITHMETIC = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.Pow: "*", ast.FloorDiv: "*"}
NAMES = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "amin": "amax",
    "amax": "amin",
    "mean": "sum",
    "sum": "mean",
}


def candidates(path: Path) -> Iterator[tuple[int, str, str]]:
    """Give (line number, line, changed line) for every change of one operator, constant or name on one line."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        for start, end, new in _changes(node, lines):
            number = node.lineno - 1
            line = lines[number]
            changed = line[:start] + new + line[end:]
            if changed != line and not line.lstrip().startswith(("def ", "from ", "import ", "class ", '"""', "@")):
                yield number + 1, line, changed


def _changes(node: ast.AST, lines: list[str]) -> Iterator[tuple[int, int, str]]:
    def between(left: ast.expr, right: ast.expr, new: str) -> Iterator[tuple[int, int, str]]:
        if left.end_lineno == right.lineno == node.lineno:
            yield (
                left.end_col_offset,
                right.col_offset,
                _keeping(lines[node.lineno - 1][left.end_col_offset : right.col_offset], new),
            )

    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARE:
        yield from between(node.left, node.comparators[0], COMPARE[type(node.ops[0])])
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield from between(node.left, node.right, ARITHMETIC[type(node.op)])
    if isinstance(node, ast.BoolOp):
        yield from between(node.values[0], node.values[1], "or" if isinstance(node.op, ast.And) else "and")
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)) and node.lineno == node.end_lineno:
        value = (
            not node.value
            if isinstance(node.value, bool)
            else node.value + 1
            if isinstance(node.value, int)
            else node.value * 2
        )
        yield node.col_offset, node.end_col_offset, repr(value)
    if isinstance(node, ast.Attribute) and node.attr in NAMES and node.end_lineno == node.lineno:
        yield node.end_col_offset - len(node.attr), node.end_col_offset, NAMES[node.attr]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
        yield node.func.col_offset, node.func.end_col_offset, NAMES[node.func.id]


def _keeping(old: str, new: str) -> str:
    """Replace the operator between two operands, parentheses kept."""
    stripped = old.strip(" ()")
    return old.replace(stripped, new, 1) if stripped else old


def draw(count: int) -> list[dict[str, object]]:
    """Draw changes, each from a part chosen at random, so that small parts have their share."""
    dice = random.Random(SEED)
    found: list[dict[str, object]] = []
    while len(found) < count:
        part = dice.choice(sorted(TESTS))
        possible = list(candidates(ROOT / "src" / "crucible" / part))
        if not possible:
            continue
        line, old, new = dice.choice(possible)
        fault = {"part": part, "line": line, "old": old.strip(), "new": new.strip()}
        if fault not in found and _compiles(part, line, new):
            found.append(fault)
    return found


def _compiles(part: str, line: int, new: str) -> bool:
    lines = (ROOT / "src" / "crucible" / part).read_text(encoding="utf-8").splitlines()
    lines[line - 1] = new
    try:
        ast.parse("\n".join(lines))
    except SyntaxError:
        return False
    return True


def plant(home: Path, fault: dict[str, object]) -> None:
    """Put the fault into the copy, in the line that holds its old text, the nearest to its number."""
    path = home / "src" / "crucible" / str(fault["part"])
    lines = path.read_text(encoding="utf-8").splitlines()
    places = [i for i, line in enumerate(lines) if str(fault["old"]) in line]
    assert places, f"{fault['part']}: no line {fault['old']!r}"
    place = min(places, key=lambda i: abs(i + 1 - int(str(fault.get("line", i + 1)))))
    lines[place] = lines[place].replace(str(fault["old"]), str(fault["new"]), 1)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def caught_by(home: Path, part: str) -> str:
    """Return the first test that fails; empty where none does."""
    own = [f"tests/test_{name}.py" for name in TESTS[part]]
    for words in ([*own, "-m", "not slow"], ["-m", "not slow"], [*own, "-m", "slow"]):
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *words]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        if done.returncode == 1 or failed:
            return failed[0].split(" - ")[0].split("::", 1)[-1] if failed else "collection"
        if done.returncode == 2:
            return "collection"
    return ""


def run(names: list[str]) -> None:
    """Plant every fault of the lists and print the table."""
    rows = []
    for name in names:
        for fault in json.loads((HERE / f"{name}.json").read_text(encoding="utf-8")):
            with tempfile.TemporaryDirectory() as folder:
                home = Path(folder) / "crucible"
                shutil.copytree(
                    ROOT,
                    home,
                    ignore=shutil.ignore_patterns(".venv", ".git", ".dvc", "outputs", "multirun", "artifacts"),
                )
                plant(home, fault)
                rows.append((name, fault, caught_by(home, str(fault["part"]))))
            print(
                f"{len(rows)}: {fault['part']}: {fault['new']} -> {rows[-1][2] or 'SURVIVED'}",
                file=sys.stderr,
                flush=True,
            )
    caught = sum(bool(by) for _, _, by in rows)
    print(f"{caught} of {len(rows)} caught\n")
    print("| | part | was | planted | caught by |\n|---|---|---|---|---|")
    for i, (name, fault, by) in enumerate(rows, 1):
        cells = [str(i), f"{fault['part']} ({name})", f"`{fault['old']}`", f"`{fault['new']}`", by or "**survived**"]
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")


if __name__ == "__main__":
    if sys.argv[1] == "draw":
        print(json.dumps(draw(int(sys.argv[2])), indent=1))
    else:
        run(sys.argv[2:] or ["hand", "drawn"])
