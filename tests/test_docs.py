"""What is printed in README and docs is true: every choice, every command, in both languages."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, composed

from crucible.app.cli import BY_WORDS, COMPOSED
from crucible.app.compose import validate
from crucible.app.quoting import GROUPS, quoted

README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
PAGES = [README, CHINESE, *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """Return the commands in the fenced blocks of a page, without comments."""
    blocks = re.findall(r"```\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [
        re.sub(r"\s+#.*", "", line)
        for line in lines
        if re.match(r"(python src/|crucible |dvc |make |mlflow |pip |\. )", line)
    ]


def groups(page: Path) -> dict[str, set[str]]:
    """Return the words in code of each row of the table of choices."""
    rows = re.findall(r"^\| `(\w+)`[^|]*\| (.*) \|$", page.read_text(), re.MULTILINE)
    return {
        group: set(re.findall(r"`([\w.=]+)", text))
        | set(re.findall(r"[\w.=]+", " ".join(re.findall(r"`([^`]*)`", text))))
        for group, text in rows
    }


@pytest.mark.parametrize("page", [README, CHINESE], ids=["English", "Chinese"])
def test_every_choice_stands_in_the_table(page) -> None:
    told = groups(page)
    for group in GROUPS:
        there = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")} - {"base", "default"}
        missing = there - told.get(group, set())
        assert group in told and not missing, (group, missing)


def test_both_languages_print_the_same_commands_in_the_same_order() -> None:
    assert commands(README) == commands(CHINESE)
    links = [
        set(re.findall(r"\((docs/[\w.-]+|CONTRIBUTING.md|NOTICE)\)", page.read_text())) for page in (README, CHINESE)
    ]
    assert links[0] == links[1]


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) < 120


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_link_leads_somewhere(page) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]+)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_contents_of_the_errors_lead_to_their_headings() -> None:
    text = (ROOT / "docs/errors.md").read_text()
    anchors = {
        "".join(c for c in name.lower().replace(" ", "-") if c.isalnum() or c in "-_")
        for name in re.findall(r"^### (.*)$", text, re.MULTILINE)
    }
    listed = re.findall(r"^- \[.*\]\(#(.*)\)$", text, re.MULTILINE)
    assert set(listed) == anchors and len(listed) > 100


PRINTED = sorted(
    {
        command
        for page in PAGES
        if page.name != "errors.md"
        for command in commands(page)
        if command.startswith("python src/")
    }
)
PLACES = ("~", "FOLDER", "FILE", "PATH", "RUN", "latest", "PICTURE")


@pytest.mark.parametrize("command", PRINTED)
def test_every_command_is_one_that_crucible_takes(command) -> None:
    script, *words = shlex.split(command)[1:]
    verb = Path(script).stem
    assert (ROOT / script).exists(), script
    if verb in BY_WORDS:
        return
    assert verb in COMPOSED
    own = [
        word
        for word in words
        if word not in ("-m", "data=auto")
        and not word.startswith(("run=", "resume=", "hydra.", "transfer.source", "transfer.vectors"))
    ]
    own = [word for word in own if "tag(" not in word and "interval(" not in word]
    own = [re.split(r"(?<=[\]}]),(?=[\[{])", word)[0] for word in own]  # of a sweep over lists the first
    single = [
        word
        if word.startswith("'") or "[" in word or "{" in word
        else f"{word.partition('=')[0]}={word.partition('=')[2].partition(',')[0]}"
        for word in own
    ]
    validate(composed(*(quoted(word) for word in single)))


def test_the_reference_is_what_conf_and_the_signatures_say() -> None:
    from tests.reference import page

    assert (ROOT / "docs/reference.md").read_text() == page(), "python tests/reference.py > docs/reference.md"


TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=[page.stem for page in TUTORIALS])
def test_every_command_of_a_tutorial_works_as_written(command, tmp_path, page) -> None:
    blocks = re.findall(r"```(python)?\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) > 3
    for language, block in blocks:
        if language:
            exec(compile(block, str(page), "exec"), {"DIGITS": ROOT / "data/digits"})  # noqa: S102
            continue
        for line in block.strip().splitlines():
            script, *words = shlex.split(line)[1:]
            done = command(Path(script).stem, *words)
            assert done.code == 0, (line, done.err)
    assert [*tmp_path.glob("outputs/*/*/report.html")]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path) -> None:
    pytest.importorskip("material", reason="pip install 'crucible-dl[docs]': the site is not built")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = [path.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("index.html")]
    assert len(pages) >= len([*(ROOT / "docs").rglob("*.md")])
