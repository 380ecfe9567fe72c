"""Run the recipes of docs/recipes.md again, in full: python benchmarks/recipes.py [NAME ...] [--datasets FOLDER] [--write].

Every command of a section is run in a folder of its own; what compare.py and the scripts in benchmarks/ print is shown, and with --write put
into the grey blocks of the page. `~/NAME` in a command is FOLDER/NAME; a section whose data are not there is passed over.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "recipes.md"
BLOCK = re.compile(r"```(text|)\n(.*?)```", re.DOTALL)


def sections(text: str) -> dict[str, tuple[int, int]]:
    """Return where each section stands, by its heading."""
    heads = [(match.start(), match[1]) for match in re.finditer(r"^## (.*)$", text, re.MULTILINE)]
    ends = [start for start, _ in heads[1:]] + [len(text)]
    return {name: (start, end) for (start, name), end in zip(heads, ends, strict=True)}


def printed(command: str, home: Path, env: dict[str, str]) -> str:
    """Run a command as it is printed; return the table and the result of a comparison, or all that a script of benchmarks/ prints."""
    done = subprocess.run(["bash", "-c", command], cwd=home, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command}\n{done.stderr[-3000:]}")
    if "src/compare.py" in command:
        lines = done.stdout.splitlines()
        end = next(i for i, line in enumerate(lines) if line.startswith("  result"))
        return "\n".join(line.rstrip() for line in lines[: end + 1])
    return done.stdout.strip() if "python benchmarks/" in command else ""


def again(section: str, home: Path, datasets: Path) -> str:
    """Return a section with what its commands print now."""
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    shown: list[str] = []

    def block(match: re.Match[str]) -> str:
        if match[1] == "text":
            text = "\n\n".join(filter(None, shown))
            shown.clear()
            return f"```text\n{text}\n```"
        for line in match[2].strip().splitlines():
            command = line.replace("~/", f"{datasets}/").replace("src/", f"{ROOT}/src/")
            print(f"$ {line}", file=sys.stderr, flush=True)
            shown.append(printed(command, home, env))
        return match[0]

    for script in re.findall(r"`python (benchmarks/\w+\.py)`", section):
        shown.append(printed(f"cd {ROOT} && python {script}", home, env))
    return BLOCK.sub(block, section)


def main() -> None:
    """Run what is named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--datasets", type=Path, default=Path.home())
    parser.add_argument("--home", type=Path, default=Path("recipes"), help="where the runs are written")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    for name in given.names or sections(text):
        start, end = sections(text)[name]
        section = text[start:end]
        missing = {each for each in re.findall(r"~/([\w-]+)", section) if not (given.datasets / each).exists()}
        if missing:
            print(f"{name}: passed over, there is no {', '.join(sorted(missing))}", flush=True)
            continue
        given.home.mkdir(parents=True, exist_ok=True)
        if not (given.home / "data").exists():
            (given.home / "data").symlink_to(ROOT / "data")
        new = again(section, given.home, given.datasets.absolute())
        print(new, flush=True)
        if given.write:
            text = PAGE.read_text(encoding="utf-8")
            start, end = sections(text)[name]
            PAGE.write_text(text[:start] + new + text[end:], encoding="utf-8")


if __name__ == "__main__":
    main()
