"""What a run shows besides its errors, from the command line to the numbers, the advice and the report."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, card_of, composed, toy_npz

from crucible.app.compose import quoted, validate
from crucible.app.diagnosis import run_context
from crucible.app.overrides import changed, overrides_of
from crucible.app.quoting import is_lexed
from crucible.diagnosis.advice import Symptoms, advise
from crucible.diagnosis.gap import diagnose

QUICK = ["model.layers=[16]", "trainer.total_epochs=4", "tracking=none"]
OWN = ["data=npz", "data.path=data.npz", *QUICK]
LATEST = Path("outputs/latest")
GROUPS = ("augment", "init", "model", "transfer", "optimizer", "regularizer", "schedule")
CHOICES = [f"{group}={path.stem}" for group in GROUPS for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]
CHOICES.remove("model=yolo")  # with the tasks that say where: test_places
CHOICES.remove("model=canvas")  # with task=style alone: test_style
CHOICES.remove("model=point")  # with task=surface alone: test_surface
CHOICES.remove("model=encoder_decoder")  # with task=language alone: test_language
CHOICES.remove("transfer=word_vectors")  # of text alone: test_tagging
CHOICES.remove("transfer=from_file")  # needs a file: test_transfer
ACTIVATIONS = [f"model.activation={name}" for name in ("sigmoid", "tanh", "relu", "leaky_relu", "identity")]
KNOBS = [
    "task.label_smoothing=0.1", "task.class_weights=balanced", "task.loss=mean_squared_error", "data.sampling=balanced",
    "optimizer=momentum optimizer.form=velocity", "optimizer=nesterov optimizer.form=averaged", "trainer.max_norm=1",
    "schedule=cosine schedule.warmup_epochs=1", "model.keep_prob=0.5", "model.batch_norm=true", "trainer.patience=1",
    "experiment=xor", "experiment=gate_and", "task.monitor=loss task.goal=minimize", "trainer.batch_size=1",
]  # fmt: skip


def reported(name: str = "train") -> dict:
    return json.loads((LATEST / f"{name}.json").read_text())


@pytest.mark.parametrize("words", [*CHOICES, *ACTIVATIONS, *KNOBS])
def test_every_choice_trains_from_the_command_line(command, tmp_path, words) -> None:
    side = {"model=alexnet": 17, "model=vgg16": 32, "model=inception": 10}.get(words, 8)
    toy_npz(tmp_path / "data.npz", shape=(side, side))
    if words == "transfer=from_run":
        assert command("train", "trainer.total_epochs=1", "tracking=none").code == 0
        words = "transfer=from_run transfer.source=latest data.image_size=[8,8]"
    own = [] if words.startswith("experiment=") else ["data=npz", "data.path=data.npz"]
    done = command("train", *own, *words.split(), "trainer.total_epochs=2", "tracking=none")
    assert done.code == 0, done.err
    assert reported()["epochs"] == 2 and np.isfinite(reported()["train"]["loss"])


@pytest.mark.parametrize("task", ["classification", "binary", "regression"])
def test_every_task_trains_and_is_judged_from_the_command_line(command, tmp_path, task) -> None:
    y = {"regression": np.linspace(3, 9, 60), "binary": np.arange(60) % 2}.get(task, np.arange(60) % 3)
    toy_npz(tmp_path / "data.npz", y=y)
    assert command("train", *OWN, f"task={task}").code == 0
    done = command("evaluate", "run=latest")
    assert done.code == 0, done.err
    assert (LATEST / "report.html").stat().st_size > 10000 and "advice" in reported("metrics")["diagnosis"]


KNOTTED = [
    "augment=strong",
    "data.sampling=balanced",
    "model.keep_prob=0.7",
    "model.batch_norm=true",
    "task.label_smoothing=0.1",
]


def test_the_same_seed_gives_the_same_bytes_with_every_random_knob_on_and_another_does_not(command) -> None:
    weights = []
    for seed in (3, 3, 4):
        assert command("train", *QUICK, *KNOTTED, f"seed={seed}", "regularizer=l1", "schedule=step").code == 0
        weights.append((LATEST / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_a_part_of_train_is_set_apart_and_tells_variance_from_mismatch(command, tmp_path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(600) % 3
    x = (rng.integers(0, 60, (600, 4, 4)) + 60 * y[:, None, None]).astype(np.uint8)
    dev = (x[400:500] * 0.3).astype(np.uint8)
    splits = {
        "x_train": x[:400],
        "x_dev": dev,
        "x_test": x[500:],
        "y_train": y[:400],
        "y_dev": y[400:500],
        "y_test": y[500:],
    }
    np.savez(tmp_path / "data.npz", **splits)
    done = command("train", *OWN, "data.split.train_dev=0.25", "trainer.total_epochs=40", "optimizer.lr=0.01")
    assert done.code == 0, done.err
    folder = next(Path("artifacts/prepared").iterdir())
    parts = {split: np.load(folder / split / "x.npy") for split in ("train", "train_dev")}
    assert len(parts["train"]) == 300 and len(parts["train_dev"]) == 100
    assert not {row.tobytes() for row in parts["train"]} & {row.tobytes() for row in parts["train_dev"]}
    found = reported()
    errors = {split: found[split]["error"] for split in ("train", "train_dev", "dev")}
    assert found["gap"]["variance"] == errors["train_dev"] - errors["train"]
    assert found["gap"]["mismatch"] == errors["dev"] - errors["train_dev"] > 0.02
    assert {"mismatch", "train_dev_differ"} <= set(found["diagnosis"]["reasons"]) and "variance" not in found[
        "diagnosis"
    ]["reasons"]
    assert any("like dev" in each["why"] for each in found["diagnosis"]["advice"])
    command("evaluate", "run=latest")
    assert "dev_test_differ" in reported("metrics")["diagnosis"]["reasons"]
    assert "train_dev" in reported("metrics") and reported("metrics")["gap"]["mismatch"] == found["gap"]["mismatch"]


def test_alike_splits_raise_no_alarm_and_without_train_dev_there_is_no_mismatch(command) -> None:
    command("train", *QUICK)
    found = reported()
    assert "mismatch" not in found["gap"] and not any(r.endswith("_differ") for r in found["diagnosis"]["reasons"])


def test_hidden_units_that_start_at_zero_do_not_learn_and_the_remedy_is_the_notes(command) -> None:
    done = command("train", "data=circles", "task=binary", "init=zeros", "trainer.total_epochs=5", "tracking=none")
    found = reported()["diagnosis"]
    assert "not_learning" in found["reasons"] and found["advice"][0]["command"].endswith("init=he")
    assert found["signs"]["loss_of_guessing"] == pytest.approx(0.6931472)
    assert "dead units" in done.out and "warning: activations vanish" in done.err
    events = [json.loads(line) for line in (LATEST / "journal.jsonl").read_text().splitlines()]
    assert any(event["kind"] == "warning" for event in events)


def test_a_network_of_dead_units_is_found_out(command) -> None:
    command("train", *QUICK, "optimizer=sgd", "optimizer.lr=50", "trainer.max_norm=5")
    found = reported()["diagnosis"]
    assert max(found["signs"]["dead_units"].values()) > 0.25 and "dead_units" in found["reasons"]
    assert any("model.activation=leaky_relu" in (each["command"] or "") for each in found["advice"])


def test_error_analysis_is_of_dev_and_adds_up(command) -> None:
    command("train", *QUICK)
    rows, dev = reported()["diagnosis"]["error_analysis"], reported()["dev"]
    assert 0 < len(rows) <= 10 and all(row["label"] != row["predicted"] for row in rows)
    worst = rows[0]
    assert worst["error_if_mended"] == pytest.approx(dev["error"] * (1 - worst["share"]))
    assert [row["share"] for row in rows] == sorted((row["share"] for row in rows), reverse=True)


def test_layers_stand_in_the_journal_and_the_curves(command) -> None:
    command("train", *QUICK)
    header = (LATEST / "curves.csv").read_text().splitlines()[0]
    for name in ("gradient/hidden.linear0", "activation/hidden.linear0", "gradient/head", "activation/head"):
        assert name in header


def test_a_step_cannot_be_trained_through(command) -> None:
    done = command("train", *QUICK, "model.activation=step")
    assert done.code == 2 and "has no gradient" in done.err and not Path("outputs").exists()


ALL_SIGNS = Symptoms(
    pattern="diverging", learning=False, dead_units=0.9, shifts=("dev, test",), missed=("parameters",),
    flow=("gradients vanish in layer a (1)", "gradients explode in layer b (1)"),
)  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [[], ["init=normal", "optimizer=sgd"], ["model.activation=sigmoid"], ["model=resnet"], ["model=logistic", "init=zeros"],
     ["trainer.batch_size=1", "augment=light", "regularizer=l1"]],
)  # fmt: skip
def test_urgent_advice_comes_first_and_every_command_is_valid_and_turns_one_knob(overrides) -> None:
    cfg = composed(*overrides)
    now = run_context(cfg, card_of((1, 8, 8)), stopped_early=False, symptoms=ALL_SIGNS)
    found = advise("high_bias_and_variance", ["dev_overfit", "mismatch"], now)
    keys = [each.overrides for each in found if each.overrides]
    assert len(keys) == len(set(keys))
    first = next((i for i, each in enumerate(found) if each.why.startswith("High bias")), len(found))
    assert all(
        not each.why.startswith(("The loss stays", "Train and dev loss rise", "Signals")) for each in found[first:]
    )
    for each in found:
        if each.overrides:
            new = composed(*[quoted(word) for word in changed(overrides_of(cfg), each.overrides)])
            validate(new)
            assert new != cfg and len({word.partition("=")[0] for word in each.overrides}) <= 2
    if "model=logistic" not in overrides:
        assert found[0].why.startswith("The loss stays at that of guessing")


def test_the_first_reason_for_a_knob_is_the_one_that_is_told() -> None:
    now = run_context(composed("init=normal"), card_of((1, 8, 8)), stopped_early=False, symptoms=ALL_SIGNS)
    whys = [each.why for each in advise("high_bias", [], now) if each.overrides == ("init=he",)]
    assert len(whys) == 1 and whys[0].startswith("The loss stays at that of guessing")


def test_reasons_name_what_was_seen() -> None:
    assert ALL_SIGNS.reasons() == [
        "not_learning", "diverging", "vanishing", "exploding", "dead_units", "dev_test_differ", "bound_missed",
    ]  # fmt: skip
    assert Symptoms().reasons() == []


def test_the_order_of_the_notes_bias_before_variance_data_before_penalty() -> None:
    now = run_context(composed("optimizer=sgd"), card_of((1, 8, 8), train=6000), stopped_early=False)
    whys = [each.overrides[0].partition("=")[0] for each in advise("high_bias_and_variance", [], now) if each.overrides]
    wanted = ["model.layers", "trainer.total_epochs", "optimizer", "model", "augment", "regularizer", "model.keep_prob"]
    assert [each for each in whys if each in wanted][: len(wanted)] == wanted


def test_a_level_loss_asks_for_smaller_steps_and_not_for_more_epochs() -> None:
    signs = Symptoms(pattern="bottleneck")
    now = run_context(composed(), card_of((1, 8, 8)), stopped_early=False, symptoms=signs)
    keys = [each.overrides for each in advise("high_bias", [], now)]
    assert ("optimizer.lr=0.00033",) in keys and not any(k and k[0].startswith("trainer.total") for k in keys)


def test_uneven_classes_are_to_be_weighed() -> None:
    card = card_of((4,), classes=2)
    card.splits["train"]["class_counts"] = [90, 10]
    keys = [each.overrides for each in advise("just_right", [], run_context(composed(), card, stopped_early=True))]
    assert ("task.class_weights=balanced",) in keys
    on = run_context(composed("task.class_weights=balanced"), card, stopped_early=True)
    assert ("task.class_weights=balanced",) not in [each.overrides for each in advise("just_right", [], on)]


def test_train_dev_splits_the_gap() -> None:
    found = diagnose(0.02, 0.15, 0.16, human=0.01, tolerance=0.02, train_dev=0.03)
    assert found.gap == pytest.approx({"avoidable_bias": 0.01, "variance": 0.01, "mismatch": 0.12, "dev_test": 0.01})
    assert found.reasons == ["mismatch"] and found.verdict == "just_right"


def test_uneven_classes_that_are_weighed_or_drawn_evenly_and_learned_are_learned(command, tmp_path) -> None:
    rng = np.random.default_rng(0)
    y = (rng.uniform(size=1000) < 0.06).astype(int)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(1000, 5)) + 1.2 * y[:, None], y=y)
    for knob in ("task.class_weights=balanced", "data.sampling=balanced"):
        own = [each for each in OWN if not each.startswith(("model.", "trainer."))]
        done = command(
            "train", *own, "task=binary", "model=logistic", knob, "trainer.total_epochs=15", "optimizer.lr=0.01"
        )
        assert done.code == 0, done.err
        found = reported()["diagnosis"]
        assert found["signs"]["loss_of_guessing"] == pytest.approx(0.6931472) and "not_learning" not in found["reasons"]


def test_what_is_judged_is_judged_by_the_tolerance_and_the_bounds_of_the_moment(command) -> None:
    command("train", *QUICK)
    assert reported()["diagnosis"]["verdict"] != "just_right"
    done = command("evaluate", "run=latest", "task.tolerance=0.99", "task.satisficing={recall: '>= 0.999'}")
    assert done.code == 0, done.err
    assert reported("metrics")["diagnosis"]["verdict"] == "just_right" and "recall >= 0.999" in done.out


def test_a_bound_on_a_score_does_not_make_the_network_smaller() -> None:
    for missed, smaller in ((("recall",), False), (("parameters", "recall"), True)):
        now = run_context(composed(), card_of((1, 8, 8)), stopped_early=False, symptoms=Symptoms(missed=missed))
        assert (("model.layers=[64,32]",) in [each.overrides for each in advise("high_bias", [], now)]) is smaller


def test_single_examples_are_not_sent_to_batch_norm_and_a_clipped_gradient_not_to_the_clip() -> None:
    one = run_context(composed("trainer.batch_size=1"), card_of((1, 8, 8)), stopped_early=False)
    assert not any("model=resnet" in each.overrides for each in advise("high_bias_and_variance", [], one))
    clipped = run_context(composed("trainer.max_norm=1"), card_of((1, 8, 8)), stopped_early=False, symptoms=ALL_SIGNS)
    assert ("trainer.max_norm=1",) not in [each.overrides for each in advise("high_bias", [], clipped)]


def test_advice_on_other_data_is_about_the_run(command, tmp_path) -> None:
    command("train", *QUICK)
    toy_npz(tmp_path / "other.npz", shape=(8, 8), classes=3)
    done = command("evaluate", "run=latest", "data=npz", "data.path=other.npz")
    assert done.code == 0, done.err
    assert "data=npz" not in done.out.splitlines()[-1] and "src/train.py" in done.out.splitlines()[-1]


def test_given_weights_stay_whatever_the_initialiser(command) -> None:
    command("train", "experiment=gate_and", "init=zeros", "optimizer.lr=1e-9", "tracking=none")
    assert reported()["train"]["accuracy"] == 1.0


def test_a_printed_pipeline_command_is_one_that_hydra_takes() -> None:
    import shlex

    from crucible.app.overrides import train_command

    command = train_command(composed("++task.satisficing={recall: '>= 0.9'}"), ("seed=1",), dvc=True)
    words = [word for word in shlex.split(command) if "=" in word]
    assert all(is_lexed(word) for word in words) and any("satisficing" in word for word in words)
