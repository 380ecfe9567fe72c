"""The report: numbers equal to scikit-learn's, nothing from outside, and in a real browser without errors or overflow."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score, roc_curve

from crucible.labels.classes import by_class, over_thresholds
from crucible.labels.kind import Mistake
from crucible.metrics.thresholds import calibration, precision_recall, roc
from crucible.plots.charts import Lines, Series, as_data, thinned
from crucible.plots.pixels import thumbnail
from crucible.report.page import gallery_of
from crucible.report.web import rendered
from crucible.tracking.journal import working_seconds

SCENES = [
    "experiment=detection",
    "data.reader.scenes={train: 60, dev: 16, test: 12}",
    "model.settings={depth: 8, width: 8}",
]
QUICK = ["tracking=none", "trainer.threads=1", "hydra.run.dir=run"]
FAMILIES = {
    "classes": ["trainer.total_epochs=3"],
    "numbers": ["data=diabetes", "task=regression", "trainer.total_epochs=3"],
    "several labels": ["data=digit_traits", "task=multitask", "trainer.total_epochs=2"],
    "boxes": [*SCENES, "trainer.total_epochs=2"],
    "points": ["experiment=landmarks", "data.reader.scenes={train: 40, dev: 16, test: 12}", "trainer.total_epochs=1"],
    "tags": ["experiment=tagging", "trainer.total_epochs=1"],
    "people": ["experiment=verification", "trainer.total_epochs=1"],
    "text": ["experiment=sequence", "trainer.total_epochs=1"],
    "pictures": ["experiment=style", "trainer.total_epochs=1", "data.reader.size=48", "data.reader.steps=2", "model.levels=1"],
}  # fmt: skip
SCORES = arrays(np.float64, st.integers(4, 60), elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]))


@settings(deadline=None)
@given(SCORES, st.integers(0, 9))
def test_areas_are_scikit_learns(score, seed) -> None:
    label = np.random.default_rng(seed).integers(0, 2, len(score)).astype(bool)
    label[:2] = True, False
    assert roc(label, score).area == pytest.approx(roc_auc_score(label, score))
    assert precision_recall(label, score).area == pytest.approx(average_precision_score(label, score))
    x, y, _ = roc_curve(label, score, drop_intermediate=False)
    assert np.allclose(roc(label, score).x, x) and np.allclose(roc(label, score).y, y)


def test_calibration_is_that_of_a_hand_written_loop() -> None:
    rng = np.random.default_rng(0)
    confidence = np.append(rng.random(500), [0.0, 1.0, 1 / 15])
    right = (rng.random(503) < confidence**2).astype(float)
    wanted = 0.0
    for low in np.arange(15) / 15:
        own = (confidence > low) & (confidence <= low + 1 / 15 + 1e-12) if low else confidence <= 1 / 15
        if own.any():
            wanted += own.mean() * abs(right[own].mean() - confidence[own].mean())
    found = calibration(confidence, right)
    assert found.error == pytest.approx(wanted) and found.counts.sum() == 503


def test_the_table_of_classes_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(0, 4, (2, 200))
    rows = np.array([row[1:5] for row in by_class(label, predicted, list("abcd")).rows], float)
    assert np.allclose(rows.T, precision_recall_fscore_support(label, predicted))


def test_a_class_that_is_never_said_has_no_precision_and_no_curve_without_examples() -> None:
    table = by_class(np.array([0, 0, 1]), np.array([0, 0, 0]), ["a", "b", "c"])
    assert table.rows[1][1] is None and table.rows[2][1:4] == [None, None, None]
    drawn = over_thresholds(np.eye(3)[[0, 0, 1]], np.full((3, 3), 1 / 3), ["a", "b", "c"])
    assert [series.name.partition(":")[0] for series in drawn[0].series] == ["a", "b"]


def test_lines_are_thinned_with_their_ends_and_what_is_no_number_is_null() -> None:
    assert (
        thinned(5) == [0, 1, 2, 3, 4]
        and (kept := thinned(10_000, 100))[0] == 0
        and kept[-1] == 9999
        and len(kept) == 100
    )
    assert as_data(Lines("a", [Series("b", [0, 1], [float("nan"), 1.0])]))["series"][0]["y"] == [None, 1.0]


def test_no_text_of_a_file_ends_the_script_or_opens_a_tag() -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    page = rendered(
        "compare.html", {"table": [Lines(evil, [])]}, title=evil, sections=[], conclusion=evil, following="", picture=""
    )
    assert page.count("</script>") == 2 and "<img src=x" not in page


def test_a_thumbnail_is_small_and_spreads_what_are_no_bytes() -> None:
    import base64
    import io

    found = Image.open(io.BytesIO(base64.b64decode(thumbnail(np.linspace(-3, 5, 400 * 200).reshape(1, 400, 200)))))
    assert found.size == (80, 160) and np.asarray(found).min() == 0 and np.asarray(found).max() >= 254


def test_the_gallery_holds_boxes_below_the_score_too() -> None:
    unsure = [{"box": [0, 0, 4, 4], "score": 0.1, "class": "a"}, {"box": [1, 1, 5, 5], "score": 0.9, "class": "a"}]
    mistake = Mistake(0, "what", "title", truth=[{"box": [0, 0, 4, 4], "class": "a"}], found=unsure[1:], unsure=unsure)
    item = gallery_of([mistake], ["a.png"], np.zeros((1, 3, 8, 10), np.uint8), 0.5)["items"][0]
    assert [mark["score"] for mark in item["marks"]] == [None, 0.1, 0.9] and (item["width"], item["height"]) == (10, 8)


def test_a_training_worked_without_its_breaks() -> None:
    events = [("start", 10), ("metrics", 14), ("resume", 100), ("metrics", 103), ("end", 105), ("evaluate", 900)]
    assert working_seconds([{"kind": kind, "time": float(time)} for kind, time in events]) == 9


def data_of(page: str) -> dict[str, Any]:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_says_the_verdict_first_and_folds_what_nobody_reads(command, tmp_path) -> None:
    assert command("train", *QUICK, *FAMILIES["classes"]).code == 0
    assert command("evaluate", "run=run").code == 0
    page = (tmp_path / "run/report.html").read_text()
    body = page[page.index("<main>") :]
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    order = [
        body.index(part)
        for part in (
            'class="verdict"',
            "What to do next",
            'data-parts="gap"',
            'id="numbers"',
            'id="curves"',
            'id="classes"',
            'id="mistakes"',
            'id="configuration"',
        )
    ]
    assert order == sorted(order)
    assert '<details class="section" id="configuration">' in page and '<details class="section" id="card">' in page
    assert "train.py tracking=none" in body and "seed 0" in body and re.search(r"trained 20\d\d-", body)
    card = body[body.index('id="card"') :]
    assert "sha256" not in card and "x.npy" not in card
    data = data_of(page)["parts"]
    matrix = data["dev"][0]
    assert np.sum(matrix["counts"]) == 360 and np.trace(matrix["counts"]) == round(360 * metrics["dev"]["accuracy"])
    assert "On dev" in data["errors"][0]["title"] and matrix["opens"] and not data["test"][0]["opens"]
    epochs = {chart["title"]: chart for chart in data["curves"]}
    assert len(epochs["loss"]["series"]) == 2 and epochs["loss"]["series"][1]["x"] == [1, 2, 3]
    named = {series["name"]: series for series in epochs["accuracy"]["series"]}
    assert named["train, chosen epoch"]["y"] == [metrics["train"]["accuracy"]] and len(named["dev"]["y"]) == 3
    rows = list(csv.DictReader((tmp_path / "run/curves.csv").open()))
    assert [row["train/accuracy"] != "" for row in rows] == [True, False, False]
    assert named["train, sampled"]["x"] == [1] and named["train, sampled"]["y"] == [float(rows[0]["train/accuracy"])]
    shown = re.findall(r'<figure data-label="(\w)" data-predicted="(\w)"', page)
    assert shown and all(label != predicted for label, predicted in shown) and len(shown) <= 60
    assert "http" not in page and page.count("data:image/png;base64") == len(shown)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium, driven by playwright."""
    sync = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pages are not looked at in a browser"
    )
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine (apt-get install chromium): pages are not looked at in a browser")
    with sync.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


def looked_at(browser: Any, page: Path, width: int, scheme: str) -> Any:
    """Open a page; it has no script errors, asks for nothing, and is no wider than the window."""
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    trouble: list[str] = []
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    tab.on(
        "request",
        lambda request: trouble.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
    )
    tab.goto(page.absolute().as_uri())
    tab.wait_for_timeout(150)
    over = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert not trouble and over <= 0, (page, width, scheme, trouble, over)
    return tab


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_report_of_every_family_in_a_browser(command, tmp_path, browser, family) -> None:
    assert (done := command("train", *QUICK, *FAMILIES[family])).code == 0, done.err
    assert (done := command("evaluate", "run=run")).code == 0, done.err
    page = tmp_path / "run/report.html"
    assert page.stat().st_size < 3 << 20
    for width in (1400, 400):
        for scheme in ("light", "dark"):
            tab = looked_at(browser, page, width, scheme)
            assert tab.locator(".chart svg path").count() + tab.locator(".chart svg circle").count() > 0
            tab.close()


def test_curves_zoom_tables_sort_cells_open_their_pictures_and_filters_work(command, tmp_path, browser) -> None:
    assert command("train", *QUICK, "trainer.total_epochs=6").code == 0
    assert command("evaluate", "run=run").code == 0
    tab = looked_at(browser, tmp_path / "run/report.html", 1400, "light")
    # a wrong cell shows its own mistakes alone
    every, shown = tab.locator("#gallery figure").count(), "#gallery figure:not([hidden]) figcaption"
    cell = tab.locator(".matrix button").first
    label, predicted = re.fullmatch(r"\d+ of \d+ (\w) predicted (\w)", cell.get_attribute("aria-label")).groups()
    cell.click()
    titles = tab.locator(shown).all_inner_texts()
    assert 0 < len(titles) < every and all(each.startswith(f"{label}, predicted {predicted}") for each in titles)
    # confidence
    tab.locator("#gallery select").first.select_option("")
    tab.locator("#gallery select").nth(1).select_option("")
    tab.locator("#gallery input").evaluate("each => { each.value = 0.8; each.dispatchEvent(new Event('input')) }")
    sure = [float(text.split(", ")[2].split("\n")[0]) for text in tab.locator(shown).all_inner_texts()]
    assert all(each >= 0.79 for each in sure) and len(sure) < every
    # a table sorted by a column
    table = tab.locator("#classes table:not(.matrix)").first
    table.locator("th").nth(3).click()
    column = [float(text or "nan") for text in table.locator("tbody td:nth-child(4)").all_inner_texts()]
    assert column == sorted(column, reverse=True)
    # hover, and zoom
    chart = tab.locator("#curves .chart").first
    chart.scroll_into_view_if_needed()
    box = chart.locator("svg").bounding_box()
    tab.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 80)
    assert "train:" in chart.locator(".tip").inner_text() and "dev:" in chart.locator(".tip").inner_text()
    before = chart.locator("svg path").first.get_attribute("d")
    tab.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 80)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 80)
    tab.mouse.up()
    assert chart.locator("svg path").first.get_attribute("d") != before
    tab.mouse.dblclick(box["x"] + 0.5 * box["width"], box["y"] + 80)
    assert chart.locator("svg path").first.get_attribute("d") == before
    # the split
    tab.get_by_role("button", name="test", exact=True).click()
    assert tab.locator("[data-of=test]").is_visible() and not tab.locator("[data-of=dev]").is_visible()
    tab.close()


@pytest.mark.slow
def test_boxes_appear_from_the_score_on_that_the_slider_says(command, tmp_path, browser) -> None:
    assert command("train", *QUICK, *FAMILIES["boxes"]).code == 0
    assert command("evaluate", "run=run").code == 0
    tab = looked_at(browser, tmp_path / "run/report.html", 1400, "dark")
    page = (tmp_path / "run/report.html").read_text()
    truths = page.count("<rect") - page.count('class="found"')
    scores = [float(score) for score in re.findall(r'class="found" data-score="([\d.e-]+)"', page)]

    def drawn(score: float) -> int:
        tab.locator("#gallery input[aria-label=score]").evaluate(
            f"each => {{ each.value = {score}; each.dispatchEvent(new Event('input')) }}"
        )
        return tab.locator("#gallery rect:not([hidden])").count()

    for score in (0.05, 0.3, 1.0):
        assert drawn(score) == truths + sum(each >= score for each in scores)
    tab.close()


@pytest.mark.slow
def test_the_pages_of_comparison_search_and_look_in_a_browser(command, tmp_path, browser) -> None:
    words = ["tracking=none", "trainer.total_epochs=2", "trainer.threads=1", "model.layers=[8]"]
    assert command("train", "-m", "seed=1,2", "optimizer=sgd,adam", "hydra.sweep.dir=several", *words).code == 0
    assert (done := command("compare", "several")).code == 0 and "compare.html" in done.out, done.err
    assert (
        command("train", "-m", "sweep=random", "hydra.sweeper.n_trials=4", "hydra.sweep.dir=search", *words).code == 0
    )
    pixels = np.random.default_rng(0).integers(0, 255, (2, 8, 9, 9)).astype(np.uint8)
    for kind, own in zip("ab", pixels, strict=True):
        (tmp_path / "own" / kind).mkdir(parents=True)
        for i, each in enumerate(own):
            Image.fromarray(each).save(tmp_path / "own" / kind / f"{i}.png")
    assert command("look", "own").code == 0
    for page in ("outputs/compare/compare.html", "search/search.html", "outputs/look/look.html"):
        for width in (1400, 400):
            looked_at(browser, tmp_path / page, width, "dark").close()
