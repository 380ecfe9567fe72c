"""What of train is used, folds, no test split, and which epoch's weights are kept."""

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from crucible.data.splits import assign, fold_of, kept, kept_of_each
from crucible.diagnosis.compare import interval, paired
from crucible.training.best import Best

QUICK = ("model.layers=[8]", "trainer.total_epochs=3", "tracking=none", "trainer.threads=1")
LATEST = Path("outputs/latest")


def card() -> dict:
    return json.loads((LATEST / "card.json").read_text())


def prepared(name: str) -> np.ndarray:
    """Return an array of the data that were prepared last."""
    folder = next(
        p
        for p in Path("artifacts/prepared").iterdir()
        if json.loads((p / "card.json").read_text())["key"] == card()["key"]
    )
    return np.load(folder / name)


def test_a_larger_share_keeps_what_a_smaller_one_does_of_each_class_and_in_whole_groups() -> None:
    rng = np.random.default_rng(0)
    labels, groups = np.sort(rng.integers(0, 3, 300)), np.repeat(np.arange(150), 2)
    labels = np.repeat(labels[::2], 2)  # of one group one class
    before = np.zeros(300, bool)
    for share in (0.01, 0.1, 0.35, 0.7, 1.0):
        now = kept(labels, groups, share, stratify=True, seed=5)
        assert (before <= now).all() and (now[::2] == now[1::2]).all()
        for k in range(3):
            size = (labels == k).sum()
            assert share * size <= now[labels == k].sum() < share * size + 2
        before = now
    assert not np.array_equal(
        kept(labels, groups, 0.5, stratify=True, seed=5), kept(labels, groups, 0.5, stratify=True, seed=6)
    )
    each = kept_of_each(labels, np.arange(300), 20, ["a", "b", "c"], seed=0)
    assert np.bincount(labels[each]).tolist() == [20, 20, 20]


def test_every_example_is_in_one_fold_and_folds_are_alike_in_size_and_classes() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 203)
    folds = fold_of(labels, np.arange(203), 7, stratify=True, seed=0)
    assert np.bincount(folds).tolist() == [29] * 7
    for k in range(4):
        counts = np.bincount(folds[labels == k], minlength=7)
        assert counts.max() - counts.min() <= 2
    groups = np.arange(203) // 10
    torn = [len(set(fold_of(labels, groups, 5, stratify=False, seed=0)[groups == g])) for g in range(21)]
    assert set(torn) == {1}
    assert np.array_equal(
        assign(labels, np.arange(203), [0.6, 0.2, 0.2, 0.0], stratify=True, seed=0),
        assign(labels, np.arange(203), [0.6, 0.2, 0.2], stratify=True, seed=0),
    )


def test_the_folds_of_a_data_set_share_out_train_and_dev_and_leave_test_alone(command) -> None:
    assert command("train", *QUICK).code == 0
    whole, test = {split: card()["splits"][split]["size"] for split in ("train", "dev")}, card()["examples"]["test"]
    dev = []
    for i in range(1, 5):
        done = command("train", *QUICK, f"data.split.fold={i}/4")
        assert done.code == 0, done.err
        assert sum(card()["splits"][split]["size"] for split in ("train", "dev")) == sum(whole.values())
        assert card()["examples"]["test"] == test
        assert card()["normalize"]["fitted_size"] == card()["splits"]["train"]["size"]
        dev.append(prepared("dev/x.npy"))
    rows = {row.tobytes() for part in dev for row in part}
    assert sum(map(len, dev)) == sum(whole.values()) and len(rows) >= 0.99 * sum(whole.values())
    runs = sorted(str(path.parent) for path in Path("outputs").glob("*/*/train.json") if "latest" not in str(path))
    done = command("compare", *runs[1:])
    assert done.code == 0, done.err
    [row] = csv.DictReader(Path("outputs/compare/compare.csv").read_text().splitlines())
    values = [float(value) for value in row["values"].split()]
    half = stats.t.ppf(0.975, 3) * np.std(values, ddof=1) * np.sqrt(1 / 4 + 1 / 3)  # Nadeau and Bengio, 2003
    assert (float(row["mean"]), float(row["high"])) == pytest.approx((np.mean(values), min(1, np.mean(values) + half)))
    assert "mean of 4 folds" in done.out and "seed=1,2,3" in done.out and "data.split.fold=1/4,2/4,3/4,4/4" in done.out
    assert "data.split.fold=3/4,4/4" in command("compare", *runs[1:3]).out.splitlines()[-1]
    assert "cannot be compared" in command("compare", *runs[:2]).err  # a fold is not the split that was drawn


def test_the_difference_of_folds_is_taken_fold_by_fold() -> None:
    first, second = [0.9, 0.7, 0.8, 0.6], [0.92, 0.73, 0.81, 0.64]
    found = paired(first, second, 1 / 3)
    apart = np.subtract(second, first)
    half = stats.t.ppf(0.975, 3) * apart.std(ddof=1) * np.sqrt(1 / 4 + 1 / 3)
    assert (found.low, found.high) == pytest.approx((apart.mean() - half, apart.mean() + half))
    theirs = stats.ttest_rel(second, first).confidence_interval(0.95)
    plain = paired(first, second, 0.0)
    assert (plain.low, plain.high) == pytest.approx((theirs.low, theirs.high))
    assert interval(first, 0.0) == interval(first)


def test_the_corrected_interval_covers_where_the_plain_one_does_not() -> None:
    """Folds of one sample of the mean of normal numbers, judged by how far a fold's mean is from that of the others."""
    rng, inside = np.random.default_rng(0), {0.0: 0, 1 / 4: 0}
    for _ in range(1500):
        values = rng.normal(0, 1, 50).reshape(5, 10)
        scores = [float(np.mean((own - np.delete(values, i, axis=0).mean()) ** 2)) for i, own in enumerate(values)]
        for overlap in inside:
            found = interval(scores, overlap)
            inside[overlap] += found.low <= 1 + 1 / 40 <= found.high
    plain, corrected = (inside[overlap] / 1500 for overlap in (0.0, 1 / 4))
    assert corrected > plain and corrected >= 0.93


@pytest.mark.parametrize("words", ["data.split.keep=0.2", "data.split.keep={per_class: 14}"])
def test_a_share_of_train_is_used_and_the_rest_of_the_data_stay(command, words) -> None:
    assert command("train", *QUICK).code == 0
    first, whole = str(LATEST.resolve()), card()
    done = command("train", *QUICK, words)
    assert done.code == 0, done.err
    now = card()
    assert now["splits"]["dev"] == whole["splits"]["dev"] and now["examples"]["test"] == whole["examples"]["test"]
    share = now["splits"]["train"]["size"] / whole["splits"]["train"]["size"]
    assert share == pytest.approx(0.2 if "per" not in words else 140 / whole["splits"]["train"]["size"], abs=0.01)
    assert any("data.split.keep" in note for note in now["notes"]) and "data.split.keep" in done.out
    x = prepared("train/x.npy").astype(np.float64)
    assert now["normalize"]["mean"] == pytest.approx(
        x.mean(axis=tuple(i for i in range(x.ndim) if i != 1 or x.ndim == 2)).tolist()
    ) and now["normalize"]["fitted_size"] == len(x)
    both = command("compare", first, "latest", "x=data.split.keep")
    assert both.code == 0, both.err
    assert "compare_x.png" in both.out and "data.split.keep" in both.out


def test_what_is_judged_on_other_examples_is_not_compared_and_other_normalising_is(command) -> None:
    assert command("train", *QUICK).code == 0
    first = str(LATEST.resolve())
    assert command("train", *QUICK, "data.normalize=none").code == 0
    assert command("compare", first, "latest", "x=data.normalize").code == 0
    assert command("train", *QUICK, "data.split.keep=0.5", "data.split.seed=1").code == 0
    done = command("compare", first, "latest")
    assert done.code == 2 and "examples of dev are the same" in done.err


def test_curves_of_several_runs_are_drawn_over_each_other(command) -> None:
    for seed in (1, 2):
        for width in (2, 16):
            assert (
                command(
                    "train",
                    *QUICK[1:],
                    f"model.layers=[{width}]",
                    f"seed={seed}",
                    f"hydra.run.dir=outputs/c/{width}-{seed}",
                ).code
                == 0
            )
    done = command("compare", "outputs/c", "curves=true")
    assert done.code == 0, done.err
    assert Path("outputs/compare/compare_curves.png").stat().st_size > 10000
    page = Path("outputs/compare/compare.html").read_text()
    data = json.loads(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    charts = {chart["title"]: chart for chart in data["parts"]["charts"]}
    assert set(charts) == {"train/loss", "dev/loss", "dev/f1"}
    rows = [list(csv.DictReader(Path(f"outputs/c/16-{seed}/curves.csv").read_text().splitlines())) for seed in (1, 2)]
    series = next(each for each in charts["dev/loss"]["series"] if "[16]" in each["name"])
    for epoch in range(3):
        values = [float(own[epoch]["dev/loss"]) for own in rows]
        theirs = stats.t.interval(0.95, 1, np.mean(values), stats.sem(values))
        assert (series["y"][epoch], series["low"][epoch], series["high"][epoch]) == pytest.approx(
            (np.mean(values), *theirs)
        )


def test_without_a_test_split_dev_is_judged_and_said_to_flatter(command) -> None:
    assert command("train", *QUICK, "data.split.test=0").code == 0
    assert set(card()["splits"]) == {"train", "dev"}
    done = command("evaluate", "run=latest", "report=full")
    assert done.code == 0, done.err
    found = json.loads((LATEST / "metrics.json").read_text())
    assert "test" not in found and "there is no test split" in done.out and "flatter" in done.out
    assert found["dev"] == json.loads((LATEST / "train.json").read_text())["dev"]
    assert "on dev" in (LATEST / "report.html").read_text() and not Path("outputs/looks.jsonl").exists()
    assert command("train", *QUICK, "data.split.test=0", "data.split.dev=0").code == 0
    done = command("evaluate", "run=latest")
    assert done.code == 2 and "neither test nor dev" in done.err


def test_what_a_screen_says_without_test_or_dev_is_true(command) -> None:
    done = command("train", *QUICK, "data.split.test=0", "data.split.dev=0")
    [following] = [line.partition("python src/train.py ")[2] for line in done.out.splitlines() if "next" in line]
    assert "data.split.dev=0.2" in shlex.split(following)
    assert command("train", *shlex.split(following), "tracking=none").code == 0
    assert command("train", *QUICK, "data.split.test=0", "trainer.keep=last").code == 0
    done = command("evaluate", "run=latest")
    assert "these are the numbers of dev" in done.out and "flatter" not in done.out


def page_chart(name: str) -> dict:
    page = Path("outputs/compare/compare.html").read_text()
    data = json.loads(page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    [chart] = [each for each in data["parts"]["charts"] if name in each["title"]]
    return chart


def test_folds_of_another_number_and_runs_without_are_groups_of_their_own(command) -> None:
    small = ("-m", "data=digits", *QUICK, "trainer.total_epochs=1")
    assert command("train", *small, "data.split.fold=1/3,2/3,3/3", "seed=0,1", "hydra.sweep.dir=k3").code == 0
    assert command("train", *small, "data.split.fold=1/5,2/5", "hydra.sweep.dir=k5").code == 0
    done = command("compare", "k3", "k5")
    assert done.code == 0, done.err
    table = done.out.splitlines()
    assert [line.split()[1:] and line.split() for line in table if "fold=*/3" in line and "]" in line]
    assert any("data.split.fold=*/5  2 " in line for line in table) and any(
        "data.split.fold=*/3  6 " in line for line in table
    )
    done = command("compare", "k3")
    assert "mean of 3 folds, 6 runs" in done.out
    done = command("compare", "k3", "x=data.split.fold")
    assert done.code == 2 and "one configuration" in done.err


def test_null_is_a_value_and_what_a_choice_sets_is_a_line_of_its_own(command) -> None:
    small = ("-m", "data=moons", "task=binary", *QUICK)
    assert command("train", *small, "trainer.batch_size=null,32", "seed=0,1", "hydra.sweep.dir=b").code == 0
    assert command("compare", "b", "x=trainer.batch_size").code == 0
    assert page_chart("against")["ticks"] == ["32", "null"]
    assert command("train", *small, "optimizer=sgd,adam", "optimizer.lr=0.1,0.01", "hydra.sweep.dir=o").code == 0
    assert command("compare", "o", "x=optimizer").code == 0
    found = {each["name"]: each["x"] for each in page_chart("against")["series"]}
    assert found == {"optimizer.lr=0.1": [0, 1], "optimizer.lr=0.01": [0, 1]}


def test_groups_of_several_classes_are_kept_whole() -> None:
    rng = np.random.default_rng(1)
    labels, groups = rng.integers(0, 2, 300), np.repeat(np.arange(60), 5)
    for chosen in (
        kept(labels, groups, 0.3, stratify=True, seed=0),
        kept_of_each(labels, groups, 20, ["a", "b"], seed=0),
    ):
        assert all(len(set(chosen[groups == each])) == 1 for each in range(60)) and 0 < chosen.sum() < 300


@pytest.mark.parametrize("dev", [0.2, 0])
def test_the_last_weights_are_kept_where_that_is_declared(command, dev) -> None:
    words = ("train", *QUICK, "optimizer.lr=0.3", "trainer.total_epochs=12", f"data.split.dev={dev}")
    assert command(*words, "trainer.keep=last").code == 0
    last = json.loads((LATEST / "train.json").read_text())
    weights = (LATEST / "weights.safetensors").read_bytes()
    assert last["best_epoch"] == 12
    if dev:
        rows = list(csv.DictReader((LATEST / "curves.csv").read_text().splitlines()))
        assert last["dev"]["f1"] == pytest.approx(float(rows[-1]["dev/f1"]))
    assert command(*words).code == 0
    best = json.loads((LATEST / "train.json").read_text())
    assert ((LATEST / "weights.safetensors").read_bytes() == weights) is (best["best_epoch"] == 12)


def test_the_last_epoch_is_kept_and_patience_still_looks_for_the_best() -> None:
    model = nn.Linear(1, 1)
    best = Best(monitor="f1", goal="maximize", patience=2, keep="last")
    for epoch, (f1, is_better) in enumerate([(0.5, True), (0.7, True), (0.6, False), (0.4, False)], 1):
        torch.nn.init.constant_(model.weight, epoch)
        assert best.offer({"f1": f1, "loss": 1.0}, epoch, model) is is_better
    assert (best.epoch, best.better_epoch, best.weights) == (4, 2, {}) and best.is_out_of_patience(4)
    again = Best(monitor="f1", goal="maximize", keep="last")
    again.restore(best.state())
    assert again.epoch == 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["data.split.keep=0"], "data.split.keep"),
        (["data.split.keep=1.5"], "data.split.keep=0.1"),
        (["data.split.keep={per_class: 500}"], "train has"),
        (["data.split.keep={of_class: 5}"], "data.split.keep"),
        (["data=diabetes", "task=regression", "data.split.keep={per_class: 5}"], "data.split.keep=0.1"),
        (["data.split.fold=0/5"], "data.split.fold=1/5"),
        (["data.split.fold=6/5"], "there is no fold 6/5"),
        (["data.split.fold=1/1"], "there is no fold 1/1"),
        (["data.split.fold=1/5000"], "are no 5000 folds"),
        (["data=moons", "task=binary", "data.split.fold=1/5"], "data.split.fold=null"),
        (["data.split.test=-1"], "data.split.test=0.2"),
        (["trainer.keep=first"], "'best' or 'last'"),
    ],
)
def test_what_is_no_share_no_fold_and_no_epoch_is_refused(command, words, says) -> None:
    done = command("train", *words, "tracking=none")
    assert done.code == 2 and says in done.err, done.err
    assert not LATEST.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("x=model.layer", "nearest: model.layers"),
        ("x=nothing", "not every run has this key"),
        ("curves=yes please", "curves=true"),
    ],
)
def test_a_chart_that_cannot_be_drawn_is_refused_before_anything_is_written(command, words, says) -> None:
    command("train", *QUICK)
    done = command("compare", "latest", words)
    assert done.code == 2 and says in done.err and not Path("outputs/compare").exists()
