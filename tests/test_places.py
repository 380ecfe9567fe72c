"""Localisation, landmarks and detection: their losses by hand, and whole commands on small scenes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import card_of
from PIL import Image
from safetensors.torch import load_file

from crucible.boxes import iou
from crucible.errors import Refusal
from crucible.metrics.landmarks import normalised_mean_error
from crucible.tasks.landmarks import Landmarks
from crucible.tasks.localization import Localization

LATEST = Path("outputs/latest")
FEW = ["data=digit_scenes", "data.reader.scenes={train: 48, dev: 16, test: 16}", "data.reader.side=32", "trainer.batch_size=16",
       "trainer.total_epochs=2", "tracking=none", "trainer.threads=1"]  # fmt: skip
YOLO = ["model=yolo", "model.settings={depth: 8, width: 8}", "model.stride=4", "task=detection"]
DETECT = [*FEW, "data.reader.objects=[0,3]", *YOLO]
ONE = [*FEW, "data.reader.objects=[0,1]", "model=convnet"]
TASKS = {
    "detection": DETECT,
    "localization": [*ONE, "task=localization"],
    "landmarks": [*ONE, "task=landmarks", "task.distance=diagonal"],
}
NUMBERS = {
    "detection": {
        "loss",
        "map50",
        "map50_95",
        "per_class",
        "error",
        "collisions",
        "loss_parts",
        "precision",
        "recall",
        "f1",
        "mean_iou",
    },
    "localization": {"loss", "accuracy", "mean_iou", "error"},
    "landmarks": {"loss", "nme", "error"},
}


def localization(loss: str = "mean_squared_error", weight: float = 1.0) -> Localization:
    own = {"monitor": "mean_iou", "goal": "maximize", "tolerance": 0.02, "loss": loss, "box_weight": weight}
    return Localization(card_of((3, 40, 80), classes=3), **own)


CAR = torch.tensor([[24.0, 22, 56, 34]])  # in 40x80: its middle at 0.5 and 0.7, 0.3 high, 0.4 wide (the notes)


def test_the_notes_car_is_encoded_as_in_the_notes() -> None:
    assert localization().encoded(CAR).tolist() == [pytest.approx([0.5, 0.7, 0.3, 0.4])]
    assert localization().num_outputs == 8


def test_the_notes_loss_counts_everything_with_an_object_and_p_c_alone_without() -> None:
    stated = torch.tensor([[0.9, 0.4, 0.6, 0.3, 0.5, 0.1, 0.7, 0.2]] * 2)
    batch = {"x": stated, "boxes": torch.stack([CAR, CAR * 0]), "label": torch.tensor([[1], [-1]])}
    wanted = [1, 0.5, 0.7, 0.3, 0.4, 0, 1, 0]
    with_object = sum((a - b) ** 2 for a, b in zip(stated[0].tolist(), wanted, strict=True))
    assert float(localization().loss(stated, batch)) == pytest.approx((with_object + 0.9**2) / 2)
    box = sum((a - b) ** 2 for a, b in zip(stated[0, 1:5].tolist(), wanted[1:5], strict=True))
    log_loss = -np.log(1 / (1 + np.exp(-0.9))) - np.log(np.exp(0.7) / np.exp([0.1, 0.7, 0.2]).sum()) + 3 * box
    expected = (log_loss - np.log(1 - 1 / (1 + np.exp(-0.9)))) / 2
    assert float(localization("log_loss", 3.0).loss(stated, batch)) == pytest.approx(expected, rel=1e-6)


def test_a_picture_is_right_with_its_class_at_half_the_overlap() -> None:
    """Right; right class, wrong place; wrong class; nothing there and nothing stated; nothing there and something stated."""
    task = localization()
    right = [1, 0.5, 0.7, 0.3, 0.4, 0, 1, 0]
    rows = [right, [1, 0.1, 0.2, 0.3, 0.4, 0, 1, 0], [1, 0.5, 0.7, 0.3, 0.4, 1, 0, 0], [0] * 8, right]
    label = torch.tensor([[1], [1], [1], [-1], [-1]])
    batch = {"x": label, "boxes": torch.stack([CAR] * 3 + [CAR * 0] * 2), "label": label}
    metrics = task.metrics()
    metrics.update(torch.tensor(rows, dtype=torch.float32), batch)
    reported = metrics.compute()
    moved = float(iou(CAR[0], torch.tensor([-8.0, 2, 24, 14])))
    assert reported["error"] == pytest.approx(3 / 5) and reported["accuracy"] == pytest.approx(3 / 5)
    assert reported["mean_iou"] == pytest.approx((1 + moved + 1) / 3, abs=1e-6)
    assert metrics.matrix().sum() == 5 and metrics.mistakes().sum() == 3


def landmarks(points: int = 3, **more: object) -> Landmarks:
    card = card_of((1, 50, 100))
    rng = np.random.default_rng(0)
    object.__setattr__(
        card, "objects", {"points": points, "mean": rng.uniform(0.2, 0.8, (points, 2)).tolist(), "deviation": 0.1}
    )
    own = {
        "monitor": "nme",
        "goal": "minimize",
        "tolerance": 0.02,
        "distance": "outer_eyes",
        "eyes": [0, 1],
        "failure": 0.08,
    }
    return Landmarks(card, **(own | more))


def test_64_points_are_129_outputs_and_what_the_loss_wants_is_the_points() -> None:
    assert landmarks(64).num_outputs == 129
    task, points = landmarks(), torch.tensor([[[10.0, 20], [30, 40], [50, 10]]])
    wanted = (points / torch.tensor([100.0, 50]) - task._mean.like(points)) / 0.1
    outputs = torch.cat([torch.full((1, 1), 40.0), wanted.flatten(1)], dim=1)
    batch = {"x": outputs, "points": points, "label": torch.ones(1, dtype=torch.long)}
    assert float(task.loss(outputs, batch)) == pytest.approx(0, abs=1e-6)
    assert torch.allclose(task.postprocess(outputs)[:, 1:].view(1, 3, 2), points, atol=1e-4)
    off = outputs + torch.tensor([0.0, 1, 0, 0, 0, 0, 0])  # one coordinate a deviation away: 1 / 6
    assert float(task.loss(off, batch)) == pytest.approx(1 / 6, rel=1e-4)
    nothing = batch | {"label": torch.zeros(1, dtype=torch.long)}
    assert float(task.loss(outputs, nothing)) == pytest.approx(40, rel=1e-4)


def test_the_normalised_mean_error_by_hand() -> None:
    wanted = torch.tensor([[[0.0, 0], [10, 0], [0, 5]]])
    found = wanted + torch.tensor([3.0, 4])  # every point 5 off
    assert normalised_mean_error(found, wanted, [0, 1]).tolist() == [0.5]
    assert normalised_mean_error(found, wanted, None)[0] == pytest.approx(5 / np.hypot(10, 5))


def test_eyes_that_are_no_points_and_pictures_of_several_objects_are_refused() -> None:
    with pytest.raises(Refusal, match=r"task\.eyes"):
        landmarks(eyes=[0, 3])
    card = card_of((1, 50, 100))
    object.__setattr__(card, "objects", {"most": 4})
    with pytest.raises(Refusal, match="up to 4 objects"):
        Localization(card, monitor="mean_iou", goal="maximize", tolerance=0.02, loss="log_loss", box_weight=1.0)


# --- whole commands


def metrics_of(name: str = "metrics") -> dict:
    return json.loads((LATEST / f"{name}.json").read_text())


@pytest.mark.parametrize("task", TASKS)
def test_it_trains_is_judged_and_leaves_what_the_contract_says(command, tmp_path, task) -> None:
    done = command("train", *TASKS[task])
    assert done.code == 0, done.err
    done = command("evaluate", "run=latest")
    assert done.code == 0, done.err
    parts = metrics_of()["dev"].get("loss_parts", {})
    if task == "detection":
        assert set(parts) == {"box", "class", "objectness"}
        assert sum(parts.values()) == pytest.approx(metrics_of()["dev"]["loss"])
        columns = (LATEST / "curves.csv").read_text().splitlines()[0].split(",")
        assert {f"{split}/loss/{part}" for split in ("train", "dev") for part in parts} <= set(columns)
    reported, predictions = metrics_of(), json.loads((LATEST / "predictions.json").read_text())
    for split in ("train", "dev", "test"):
        assert set(reported[split]) == NUMBERS[task] and all(
            np.isfinite(v) for k, v in reported[split].items() if isinstance(v, float)
        )
    assert len(predictions) == 16 and not (LATEST / "predictions.csv").exists()
    assert (LATEST / "report.html").stat().st_size > 20000 and (LATEST / "figures" / "worst.png").exists()
    first = next(each for each in predictions if each)
    if task == "landmarks":
        assert set(first) == {"score", "points"} and np.array(first["points"]).shape == (4, 2)
    else:
        assert set(first[0]) == {"box", "score", "class"} and len(first[0]["box"]) == 4
        assert (LATEST / "precision_recall.csv").read_text().startswith("recall,")
    assert reported["diagnosis"]["advice"] and reported["gap"]["avoidable_bias"] == pytest.approx(
        reported["train"]["error"]
    )


def test_predictions_json_gives_the_map_of_metrics_json(command, tmp_path) -> None:
    """By pycocotools, from the file alone: boxes of the original pictures, scores and names."""
    import test_detection_metrics as other
    from test_detection_metrics import by_pycocotools

    assert command("train", *DETECT, "trainer.total_epochs=6").code == 0
    assert command("evaluate", "run=latest", "report=none").code == 0
    card = json.loads((LATEST / "card.json").read_text())
    home = next(Path("artifacts/prepared").iterdir()) / "test"
    found = torch.zeros(16, 100, 6, dtype=torch.float64)
    for i, rows in enumerate(json.loads((LATEST / "predictions.json").read_text())):
        for j, row in enumerate(rows):
            found[i, j] = torch.tensor([*row["box"], row["score"], card["classes"].index(row["class"])])
    truth = [torch.from_numpy(np.load(home / f"{name}.npy")) for name in ("boxes", "y")]
    other.K, before = 10, other.K
    theirs = by_pycocotools(found, truth[0].double(), truth[1])
    other.K = before
    assert metrics_of()["test"]["map50"] == pytest.approx(theirs[0][theirs[0] > -1].mean(), abs=2e-3)


def test_predictions_json_gives_the_map_of_metrics_json_of_pictures_of_mixed_sizes(
    command, tmp_path, monkeypatch
) -> None:
    """Letterboxed; true boxes are those of the annotations, in the pixels of the pictures as they came."""
    import test_detection_metrics as other
    from test_objects import voc_folder

    sizes = {f"p{i}": [(40, 20), (24, 50), (48, 36), (64, 16)][i % 4] for i in range(32)}
    objects = {  # from edge to edge: what is found reaches beyond them
        name: [("cat", 0, 0, w // 2, h), ("dog", w // 4, h // 2, w, h)] for name, (w, h) in sizes.items()
    }
    voc_folder(tmp_path / "voc", objects, **sizes)
    (tmp_path / "voc" / "ImageSets" / "Main").mkdir(parents=True)
    for split, rows in (("train", range(16)), ("val", range(16, 20)), ("test", range(20, 32))):
        (tmp_path / "voc" / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"p{i}\n" for i in rows))
    own = ["data=voc", "data.path=voc", "data.image_size=[32,32]", "trainer.total_epochs=12", "trainer.batch_size=4"]
    assert command("train", *own, *YOLO, "tracking=none", "trainer.threads=1").code == 0
    done = command("evaluate", "run=latest", "report=none")
    assert done.code == 0, done.err
    found, classes = torch.zeros(12, 100, 6, dtype=torch.float64), ["cat", "dog"]
    for i, rows in enumerate(json.loads((LATEST / "predictions.json").read_text())):
        for j, row in enumerate(rows):
            found[i, j] = torch.tensor([*row["box"], row["score"], classes.index(row["class"])])
    boxes = torch.tensor([[each[1:] for each in objects[f"p{i}"]] for i in range(20, 32)], dtype=torch.float64)
    monkeypatch.setattr(other, "K", 2)
    theirs = other.by_pycocotools(found, boxes, torch.tensor([[0, 1]] * 12))
    reported = metrics_of()["test"]
    assert (reported["map50"], reported["map50_95"]) == pytest.approx((theirs[0].mean(), theirs.mean()), abs=1e-4)
    assert theirs.mean() > 0.1
    suggested = metrics_of()["suggested"]
    assert suggested == metrics_of("train")["suggested"] and suggested["now"]["task.score"] == 0.6
    assert f"from 0.6 {suggested['now']['f1']:.4f}: task.score={suggested['task.score']:g}" in done.out


@pytest.mark.parametrize("task", TASKS)
def test_a_new_picture_of_another_size_is_drawn_on_and_told_in_its_own_pixels(command, tmp_path, task) -> None:
    assert command("train", *TASKS[task], "data.image_size=[32,32]", "data.resize=letterbox").code == 0
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 160)).astype(np.uint8)).save(tmp_path / "wide.png")
    done = command("predict", "run=latest", "input=wide.png", "score=0")
    assert done.code == 0, done.err
    with Image.open("outputs/predict/wide.png") as drawn:
        assert drawn.size == (160, 96)
    stated = json.loads(Path("outputs/predict/predictions.json").read_text())[0]["predicted"]
    values = np.array(stated["points"] if task == "landmarks" else [each["box"] for each in stated])
    assert values.size and values.max() > 33
    if task != "landmarks":
        assert values.min() >= 0 and values[:, [0, 2]].max() <= 160 and values[:, [1, 3]].max() <= 96
    for form in ("csv", "json"):
        assert command("predict", "run=latest", "input=wide.png", f"format={form}", "draw=none").code == 0


@pytest.mark.parametrize("task", TASKS)
def test_killed_and_resumed_it_has_the_same_bytes(command, tmp_path, task) -> None:
    own = [*TASKS[task], "augment=light", "trainer.checkpoint_every=1", "hydra.run.dir=run"]
    assert command("train", *own).code == 0
    whole = (tmp_path / "run" / "weights.safetensors").read_bytes()
    lines = (tmp_path / "run" / "journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "journal.jsonl").write_text("".join(e for e in lines if json.loads(e)["kind"] != "end"))
    (tmp_path / "run" / "weights.safetensors").unlink()
    assert command("train", "resume=run").code == 0
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == whole
    assert command("train", *own[:-1], "hydra.run.dir=again").code == 0
    assert (tmp_path / "again" / "weights.safetensors").read_bytes() == whole


def test_a_classifiers_weights_are_a_detectors_backbone(command, tmp_path) -> None:
    x, y = (np.load(Path(__file__).parents[1] / "data" / "digits" / f"{name}.npy")[:80] for name in "xy")
    np.savez(tmp_path / "few.npz", x=x, y=y)
    own = ["data=npz", "data.path=few.npz", "model=resnet", "model.depth=8", "model.width=8", "tracking=none"]
    assert command("train", *own, "trainer.total_epochs=1", "hydra.run.dir=old").code == 0
    transfer = ["transfer=from_run", "transfer.source=old", "transfer.freeze=all", "hydra.run.dir=new"]
    done = command("train", *DETECT, *transfer, "data.reader.objects=[1,2]")
    assert done.code == 0, done.err
    old, new = (load_file(tmp_path / name / "weights.safetensors") for name in ("old", "new"))
    shared = {name: value for name, value in old.items() if f"backbone.{name}" in new}
    assert len(shared) > 10 and all(torch.equal(value, new[f"backbone.{name}"]) for name, value in shared.items())
    assert not any(name.startswith("backbone.head") for name in new)


def test_two_seeds_are_compared_and_a_search_finds_one(command, tmp_path) -> None:
    for seed in (0, 1):
        assert command("train", *DETECT, f"seed={seed}", f"hydra.run.dir=run{seed}").code == 0
    done = command("compare", "run0", "run1", "split=dev")
    assert done.code == 0 and "map50" in done.out, done.err
    done = command("train", "-m", *DETECT, "sweep=random", "hydra.sweeper.n_trials=2", "hydra.sweeper.default_space=false",
                   "hydra.sweeper.n_jobs=1", "optimizer.lr=interval(0.001,0.01)", "hydra.sweep.dir=search")  # fmt: skip
    assert done.code == 0, done.err
    assert (tmp_path / "search" / "best.yaml").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["task=detection"], "no boxes"),
        (["task=landmarks"], "no points"),
        (["data=digit_scenes", "task=localization", "model=convnet"], "example: task=detection"),
        (["data=digit_scenes", "task=detection", "model=mlp"], "model=yolo"),
        (["data=digit_scenes", "model=yolo", "task=detection", "task.anchors=30"], "task.anchors"),
        (["data=digit_scenes", "model=yolo", "task=detection", "model.settings.dept=3"], "depth"),
        (
            ["data=digit_scenes", "model=yolo", "model.backbone=vgg16", "task=detection", "model.settings.depth=3"],
            "vgg16 has no such key",
        ),
        (["data=digit_scenes", "task=classification"], "task"),
        (["data=digit_scenes", "data.reader.objects=[3,1]", "task=detection", "model=yolo"], "upside down|more than"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(command, tmp_path, words, says) -> None:
    import re

    done = command("train", *words, "data.reader.scenes={train: 20, dev: 10, test: 10}" if "data=digit_scenes" in words else "seed=0", "tracking=none")  # fmt: skip
    assert done.code == 2 and re.search(says, done.err) and "Traceback" not in done.err, done.err
    assert not Path("outputs").exists() and not list(Path().glob("artifacts/prepared/*"))


@pytest.mark.parametrize(
    ("task", "words", "says"),
    [
        ("localization", ["data.reader.objects=[2,3]"], "up to 3 objects"),
        ("landmarks", ["data=keypoints", "data.path=points.csv"], "they have 2 points"),
    ],
)
def test_other_data_that_do_not_fit_the_run_are_refused(command, tmp_path, task, words, says) -> None:
    assert command("train", *TASKS[task], "hydra.run.dir=run").code == 0
    rows = []
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (32, 32)).astype(np.uint8)).save(
            tmp_path / f"p{i}.png"
        )
        rows.append(f"p{i}.png,1,2,3,4")
    (tmp_path / "points.csv").write_text("\n".join(["image,x0,y0,x1,y1", *rows]) + "\n\n")
    own = [each for each in FEW if each.startswith("data")] if task == "localization" else []
    done = command("evaluate", "run=run", *own, *words)
    assert done.code == 2 and says in done.err, done.err


def test_points_are_not_mirrored(command) -> None:
    done = command("train", *TASKS["landmarks"], "augment=light", "data.flip_keeps_label=true")
    assert done.code == 2 and "a mirrored left eye" in done.err


def test_bfloat16_outputs_are_judged_in_float32() -> None:
    from test_detection import BATCH, task

    torch.manual_seed(0)
    outputs = torch.randn(3, 16, 3, 3).bfloat16()
    assert torch.equal(task().loss(outputs, BATCH)["loss"], task().loss(outputs.float(), BATCH)["loss"])


def test_windows_of_a_classifier_find_a_digit_on_a_canvas(command, tmp_path) -> None:
    own = ["model=convnet", "model.layers=[{conv: 16, f: 3}, {conv: 16, f: 3}, flatten, {fc: 64}]", "trainer.total_epochs=8",
           "data.normalize=standard", "tracking=none"]  # fmt: skip
    assert command("train", *own).code == 0
    x = np.load(Path(__file__).parents[1] / "data" / "digits" / "x.npy")[1500].astype(np.uint8).reshape(8, 8)
    canvas = np.zeros((20, 24), np.uint8)
    canvas[6:14, 9:17] = x
    Image.fromarray(canvas).save(tmp_path / "canvas.png")
    done = command("slide", "run=latest", "input=canvas.png", "score=0.5")
    assert done.code == 0, done.err
    found = json.loads(Path("outputs/slide/canvas.json").read_text())
    assert any(iou(torch.tensor(each["box"]), torch.tensor([9.0, 6, 17, 14])) > 0.6 for each in found)
    assert command("slide", "run=latest", "input=none.png").code == 2


def test_an_exported_detector_says_what_every_cell_says(command, tmp_path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert command("train", *DETECT, "hydra.run.dir=run").code == 0
    done = command("export", "run=run")
    assert done.code == 0, done.err
    session = onnxruntime.InferenceSession(str(tmp_path / "run" / "model.onnx"))
    found = session.run(None, {"x": np.zeros((2, 1, 32, 32), np.float32)})[0]
    assert found.shape == (2, 3 * 8 * 8, 5 + 10) and np.isfinite(found).all()
    assert found[..., 5:].sum(axis=2) == pytest.approx(1, abs=1e-5) and found[..., :4].max() <= 32


def test_a_run_judges_other_pictures_in_its_own_frame(command, tmp_path) -> None:
    """Wide pictures from VOC, judged by a run on square ones: the same frame, the run's classes, boxes in their own pixels."""
    from test_objects import voc_folder

    assert command("train", *DETECT, "hydra.run.dir=run").code == 0
    voc_folder(tmp_path / "voc", {f"p{i}": [("7", 10, 5, 30, 15)] for i in range(4)} | {"p4": []})
    done = command("evaluate", "run=run", "data=voc", "data.path=voc", "hydra.run.dir=other")
    assert done.code == 0, done.err
    reported = json.loads((tmp_path / "other" / "metrics.json").read_text())
    assert set(reported["test"]["per_class"]) == {"7"}
    (tmp_path / "voc" / "ImageSets" / "Main").mkdir(parents=True)
    for name, stems in (("train", "p0\np1\n"), ("test", "p2\np3\np4\n")):  # its own splits: test alone is judged
        (tmp_path / "voc" / "ImageSets" / "Main" / f"{name}.txt").write_text(stems)
    done = command("evaluate", "run=run", "data=voc", "data.path=voc", "hydra.run.dir=parts")
    assert done.code == 0, done.err
    assert len(json.loads((tmp_path / "parts" / "predictions.json").read_text())) == 3
    rows = json.loads((tmp_path / "other" / "predictions.json").read_text())
    corners = np.array([each["box"] for row in rows for each in row])
    assert len(rows) == 5 and corners[:, [0, 2]].max() <= 40 and corners[:, [1, 3]].max() <= 20
    voc_folder(tmp_path / "strange", {"p0": [("bicycle", 1, 1, 9, 9)]})
    done = command("evaluate", "run=run", "data=voc", "data.path=strange")
    assert done.code == 2 and "'bicycle' is unknown" in done.err


@pytest.mark.parametrize("recipe", ["detection", "localization", "landmarks"])
def test_the_recipe_of_each_pipeline_fits_its_data(command, recipe) -> None:
    done = command("describe", f"experiment={recipe}", "data.reader.scenes={train: 30, dev: 10, test: 10}")
    assert done.code == 0, done.err
