"""What a search shows: the view while it runs, the pictures and the page."""

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from crucible.app.search.results import trained_epochs
from crucible.report import board, search
from crucible.search.search import SearchState
from crucible.search.space import Choice, Range, Space
from crucible.search.trials import Trial
from tests.toy_search import SPACE, planned

LR, OPTIMIZER = SPACE.parameters[1], SPACE.parameters[0]


def trial(stage: str, number: int, state: str, lr: float, value: float | None = None, **facts) -> Trial:
    curve = {1: 0.3, 2: 0.4} if state in ("complete", "pruned") else {}
    return Trial(stage, number, state, {"optimizer": "adam", "optimizer.lr": lr}, value, curve, facts)


COARSE = [
    trial("coarse", 0, "complete", 0.1, 0.8, epochs=4),
    trial("coarse", 1, "pruned", 1e-5, epochs=2, why="0.4000 by epoch 2 of 4 is number 3 of 4 there, 2 go on"),
    trial("coarse", 2, "failed", 1.0, cause="non-finite", why="Stopped: the loss is <not> finite"),
]
TRIALS = {
    "coarse": COARSE,
    "fine": [trial("fine", 0, "complete", 0.02, 0.9, epochs=8), trial("fine", 1, "running", 0.03)],
}
STANDING = SearchState(TRIALS, TRIALS["fine"][0], 0.97, (1, 2), 83.0, 20)
OPENED = {name: {"space": SPACE.plain()} for name in TRIALS}


def test_the_view_tells_counts_best_time_left_and_workers() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(board.table(STANDING, "f1"))
    head, row = (line.split("  ") for line in console.file.getvalue().rstrip().splitlines())
    shown = dict(
        zip(
            [word.strip() for word in head if word.strip()], [word.strip() for word in row if word.strip()], strict=True
        )
    )
    assert shown == {
        "trials": "4 of 20", "running": "1", "complete": "2", "pruned": "1", "failed": "1",
        "best f1": "0.9000", "left": "1:23", "workers busy": "1/2, 97%",
    }  # fmt: skip


@pytest.mark.parametrize(("seconds", "reported"), [(0.4, "0:00"), (59.6, "1:00"), (3600, "1:00:00"), (3725, "1:02:05")])
def test_a_time_is_told_as_a_clock_does(seconds: float, reported: str) -> None:
    assert board.clock(seconds) == reported


def test_a_line_tells_how_a_trial_ended() -> None:
    assert board.trial_line(COARSE[0], "f1") == "coarse 0: f1 0.8000; optimizer=adam optimizer.lr=0.1"
    assert "pruned: 0.4000 by epoch 2 of 4" in board.trial_line(COARSE[1], "f1")
    assert "failed: non-finite, Stopped: the loss" in board.trial_line(COARSE[2], "f1")


def test_the_pictures_are_drawn_and_the_page_holds_them_and_every_trial(tmp_path: Path) -> None:
    made = search.draw(
        planned(20, 1), STANDING, OPENED, {"optimizer.lr": 0.7, "optimizer": 0.3}, "f1", tmp_path / "figures"
    )
    assert {path.name for path in made.values()} == {
        "history.png", "slices.png", "parallel.png", "narrowing.png", "importances.png",
    }  # fmt: skip
    for path in made.values():
        assert Image.open(path).size[0] > 200
    html = search.page("a title", "the screen", "best: it", STANDING, "f1", made, {"optimizer.lr": 0.7})
    assert (
        html.count("data:image/png;base64,") == 3 and "http" not in html
    )  # history and importances are drawn by the page
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])["parts"]
    assert len(data["trials"][0]["rows"]) == 5 and [part["kind"] for part in data["charts"]] == ["lines", "bars"]
    assert "<not>" in str(data) and "<not>" not in html


@pytest.mark.parametrize(
    "trials",
    [
        {"coarse": [COARSE[2]]},
        {"coarse": [trial("coarse", 0, "failed", 0.1, cause="code", why="x")], "confirm": []},
        {"coarse": [COARSE[0]]},
        {"coarse": []},
    ],
)
def test_however_little_there_is_a_page_is_made(tmp_path: Path, trials) -> None:
    standing = SearchState(trials, None, 0.0, (0, 0), None, 20)
    made = search.draw(planned(20, 1), standing, {"coarse": OPENED["coarse"], "fine": None}, {}, "f1", tmp_path)
    assert "Every trial" in search.page("t", "s", "b", standing, "f1", made, {})


def test_a_parameter_that_only_some_trials_have_is_drawn_for_these(tmp_path: Path) -> None:
    depth = Range("model.depth", 2, 9, integer=True, when=(("optimizer", ("sgd",)),))
    space = Space((Choice("optimizer", ("sgd", "adam")), LR, depth))
    with_depth = Trial("coarse", 9, "complete", {"optimizer": "sgd", "optimizer.lr": 0.1, "model.depth": 3}, 0.5)
    trials = {"coarse": [*COARSE, with_depth]}
    standing = SearchState(trials, with_depth, 0.0, (0, 0), None, 20)
    made = search.draw(planned(20, 1, space=space), standing, {"coarse": {"space": space.plain()}}, {}, "f1", tmp_path)
    assert len(made) == 4


def test_the_epochs_of_a_killed_attempt_are_counted_once() -> None:
    """Killed after it had trained, and before that was recorded: what counts is the attempt that came after it."""
    attempts = [trial("coarse", 0, "killed", 0.1, epochs=10), trial("coarse", 1, "complete", 0.1, 0.8, epochs=10)]
    assert trained_epochs([*COARSE, *attempts]) == 4 + 2 + 10
