"""Verification: losses against loops, numbers against scikit-learn and simulation, and the way from pictures to a gallery."""

import csv
import json
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATASETS, card_of, composed
from PIL import Image
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from crucible.data.batches import per_class
from crucible.data.readers import digits
from crucible.data.readers.source import Pool, Source
from crucible.errors import Refusal
from crucible.inference.gallery import Gallery, read_gallery
from crucible.labels.identities import Identities
from crucible.losses import contrastive, pair_cross_entropy, triplet
from crucible.metrics.verification import VerificationMetrics, pairs_of, squared_distances
from crucible.tasks.comparison import PairUnit, Unit, Whitening
from crucible.tasks.verification import Verification

WORDS = ("data=digit_numbers", "task=verification", "tracking=none", "trainer.threads=1")
QUICK = (*WORDS, "data.reader.pictures={train: 4, dev: 3, test: 3}", "model=mlp", "trainer.total_epochs=2")


def some_codes(people: int, each: int, spread: float = 0.7, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(people).repeat_interleave(each)
    middles = torch.randn(people, 5, generator=draw, dtype=torch.float64)
    return middles[labels] + spread * torch.randn(len(labels), 5, generator=draw, dtype=torch.float64), labels


def loop_triplets(codes, labels, mining: str, margin: float) -> list[float]:
    """Return the loss of each triplet that a mining takes, by three loops."""
    d = [[float(((a - b) ** 2).sum()) for b in codes] for a in codes]
    found = []
    for a in range(len(codes)):
        positives = [p for p in range(len(codes)) if labels[p] == labels[a] and p != a]
        negatives = [n for n in range(len(codes)) if labels[n] != labels[a]]
        if mining == "hard":
            found.append(max(max(d[a][p] for p in positives) - min(d[a][n] for n in negatives) + margin, 0.0))
            continue
        for p in positives:
            beyond = [d[a][n] for n in negatives if d[a][n] > d[a][p]]
            chosen = min(beyond) if beyond else max(d[a][n] for n in negatives)
            found.append(max(d[a][p] - chosen + margin, 0.0))
    return found


@pytest.mark.parametrize("mining", ["semi_hard", "hard"])
@pytest.mark.parametrize("spread", [0.3, 1.5])
@pytest.mark.parametrize("at_a_time", [1, 300, 1 << 24])
def test_triplets_are_those_of_three_loops(monkeypatch, mining, spread, at_a_time) -> None:
    monkeypatch.setattr("crucible.losses.LARGEST", at_a_time)
    codes, labels = some_codes(4, 3, spread)
    wanted = loop_triplets(codes, labels, mining, 0.5)
    loss, active = triplet(squared_distances(codes, codes), labels, 0.5, mining)
    assert float(loss) == pytest.approx(np.mean(wanted)) and float(active) == pytest.approx(
        np.mean(np.array(wanted) > 0)
    )


def test_random_triplets_are_some_of_all_and_their_mean_is_the_mean_of_all() -> None:
    codes, labels = some_codes(4, 3)
    d = squared_distances(codes, codes)
    every = [max(float(d[a, p] - d[a, n]) + 0.5, 0.0) for a, p in permutations(range(12), 2) if labels[a] == labels[p]
             for n in range(12) if labels[n] != labels[a]]  # fmt: skip
    torch.manual_seed(0)
    drawn = [float(triplet(d, labels, 0.5, "random")[0]) for _ in range(3000)]
    assert np.mean(drawn) == pytest.approx(np.mean(every), rel=0.02) and len(set(drawn)) > 100


def test_a_batch_of_one_person_has_no_triplet_and_a_loss_of_0_with_a_gradient() -> None:
    codes = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    for mining in ("random", "semi_hard", "hard"):
        loss, active = triplet(squared_distances(codes, codes), torch.zeros(4, dtype=torch.long), 0.2, mining)
        loss.backward()
        assert float(loss) == float(active) == 0.0 and codes.grad is not None and codes.grad.isfinite().all()


def test_contrastive_and_pair_losses_are_those_of_loops() -> None:
    codes, labels = some_codes(3, 3)
    unit, chi = PairUnit(5, chi_square=False).double(), PairUnit(5, chi_square=True).double()
    with torch.no_grad():
        for each in (unit, chi):
            each.weight.copy_(torch.linspace(-1, 1, 5))
            each.bias.fill_(0.3)
    w = np.linspace(-1, 1, 5)
    rows: dict[str, dict[bool, list[float]]] = {name: {True: [], False: []} for name in ("contrastive", "pair", "chi")}
    for i, j in combinations(range(9), 2):
        a, b, same = codes[i].numpy(), codes[j].numpy(), bool(labels[i] == labels[j])
        d = np.sqrt(((a - b) ** 2).sum())
        rows["contrastive"][same].append(d**2 if same else max(1.5 - d, 0) ** 2)
        for name, z in (("pair", np.abs(a - b) @ w + 0.3), ("chi", ((a - b) ** 2 / (np.abs(a) + np.abs(b))) @ w + 0.3)):
            rows[name][same].append(-np.log(1 / (1 + np.exp(-z if same else z))))
    wanted = {name: (np.mean(found[True]) + np.mean(found[False])) / 2 for name, found in rows.items()}
    first, second = torch.triu_indices(9, 9, offset=1)
    same = labels[first] == labels[second]
    got = {"contrastive": contrastive((codes[first] - codes[second]).pow(2).sum(1), same, 1.5),
           "pair": pair_cross_entropy(unit(codes[first], codes[second]), same),
           "chi": pair_cross_entropy(chi(codes[first], codes[second]), same)}  # fmt: skip
    assert {name: float(each) for name, each in got.items()} == pytest.approx(wanted)


def test_the_chi_square_form_is_0_where_both_codes_are_0_and_takes_negative_codes() -> None:
    unit = PairUnit(2, chi_square=True)
    zero, negative = torch.zeros(1, 2), torch.tensor([[-1.0, -2.0]])
    assert float(unit(zero, zero)) == pytest.approx(1.0)  # the bias alone
    assert float(unit(zero, negative)) == pytest.approx(1.0 - 3.0)  # (0 - 1)^2 / 1 + (0 - 2)^2 / 2, w = -1


@pytest.mark.parametrize("loss", ["triplet", "contrastive", "pair", "chi_square", "softmax"])
def test_gradients_are_the_two_sided_differences(loss) -> None:
    task = task_of(loss=loss, mining="semi_hard", margin=1.0)
    torch.manual_seed(0)
    model = task.attach(torch.nn.Linear(4, 6)).double()
    batch = {"x": torch.randn(9, 4, dtype=torch.float64), "label": torch.arange(9) // 3}
    parameters = list(model.parameters())
    task.losses(model, batch)["loss"].backward()
    for parameter in parameters:
        for i in range(min(4, parameter.numel())):
            flat, sides = parameter.detach().view(-1), []
            for step in (1e-6, -1e-6):
                flat[i] += step
                sides.append(float(task.losses(model, batch)["loss"]))
                flat[i] -= step
            assert float(parameter.grad.view(-1)[i]) == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4, abs=1e-7)


def task_of(**settings) -> Verification:
    given = {
        "monitor": "eer",
        "goal": "minimize",
        "tolerance": 0.02,
        "dimensions": 6,
        "normalize": True,
        "whitening": None,
    }
    return Verification(card_of((4,), classes=3), **{**given, **settings})


def within(codes: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Return the covariance of codes around the mean of their person, by a loop."""
    apart = [codes[labels == k].numpy() - codes[labels == k].numpy().mean(axis=0) for k in labels.unique()]
    together = np.concatenate(apart)
    return together.T @ together / (len(codes) - len(apart))


def test_whitened_codes_vary_alike_within_a_person_and_are_those_of_numpy() -> None:
    batches = [some_codes(6, 4, seed=seed) for seed in range(3)]
    whitening = Whitening(5, 0.3).double()
    for codes, labels in batches:
        whitening.update(codes, labels)
    mean = np.mean([codes.numpy().mean(axis=0) for codes, _ in batches], axis=0)
    covariance = np.mean([within(*each) for each in batches], axis=0)
    lower = np.linalg.cholesky(covariance + 0.3 * np.trace(covariance) / 5 * np.eye(5))
    codes, labels = batches[0]
    wanted = np.linalg.solve(lower, (codes.numpy() - mean).T).T
    assert np.allclose(whitening(codes), wanted, atol=1e-12)
    alone = Whitening(5, 1e-9).double()
    alone.update(codes, labels)
    assert np.allclose(within(alone(codes), labels), np.eye(5), atol=1e-6)


def test_a_whitening_forgets_by_and_by_and_learns_nothing_from_strangers_or_in_evaluation() -> None:
    unit = Unit(Whitening(5, 0.3)).double()
    codes, labels = some_codes(6, 4)
    unit.update(codes, labels)
    before = {name: value.clone() for name, value in unit.state_dict().items()}
    unit.update(codes, torch.arange(len(codes)))
    unit.eval().update(codes + 1, labels)
    assert all(torch.equal(before[name], value) for name, value in unit.state_dict().items())
    unit.train()
    for _ in range(1000):
        unit.update(codes + 7, labels)
    assert torch.allclose(unit.whitening.mean, (codes + 7).mean(dim=0), atol=1e-3)


def test_a_whitening_that_cannot_be_keeps_what_it_had() -> None:
    whitening = Whitening(5, 0.3)
    codes, labels = some_codes(6, 4)
    whitening.update(codes.float(), labels)
    before = {name: value.clone() for name, value in whitening.state_dict().items()}
    for wrong in (float("inf"), float("nan"), 1e30):
        whitening.update(codes.float() * wrong, labels)
        assert all(torch.equal(before[name], value) for name, value in whitening.state_dict().items())


@pytest.mark.parametrize("loss", ["triplet", "contrastive", "pair"])
def test_the_gradient_check_passes_with_a_whitening(command, loss) -> None:
    words = (*QUICK, "task.whitening=0.3", f"task.loss={loss}", "trainer.gradient_check=true", "trainer.total_epochs=1")
    done = command("train", *words, "task.margin=1", "hydra.run.dir=run")
    assert done.code == 0, done.err


def test_heads_in_the_middle_have_no_part_in_the_whitening(command) -> None:
    words = (*QUICK, "data.image_size=[16,32]", "model=inception", "model.auxiliary=0.3", "task.whitening=0.3")
    done = command("train", *words, "trainer.total_epochs=1", "hydra.run.dir=run")
    assert done.code == 0, done.err


def test_the_curve_is_scikit_learns_and_the_equal_error_is_where_it_crosses() -> None:
    codes, labels = some_codes(6, 5, 1.0)
    pairs = pairs_of(codes, labels, squared_distances)
    first, second = np.triu_indices(30, 1)
    same, d = (labels[first] == labels[second]).numpy(), pairs.distance.numpy()[first, second]
    far, tar, _ = roc_curve(same, -d, drop_intermediate=False)
    roc = pairs.roc()
    assert roc.false_accept.numpy() == pytest.approx(far) and roc.true_accept.numpy() == pytest.approx(tar)
    crossing = brentq(lambda x: 1 - x - np.interp(x, far, tar), 0, 1)
    assert roc.equal_error() == pytest.approx(crossing, abs=1e-9)
    for threshold, false, true in zip(roc.threshold.tolist(), far, tar, strict=True):
        assert ((d < threshold) & ~same).sum() / (~same).sum() == pytest.approx(false)
        assert ((d < threshold) & same).sum() / same.sum() == pytest.approx(true)
    best = max(
        (((d < t) & same).sum() / same.sum() + ((d >= t) & ~same).sum() / (~same).sum()) / 2
        for t in roc.threshold.tolist()
    )
    numbers = measured(codes, labels)
    assert numbers["accuracy"] == pytest.approx(best) and numbers["error"] == pytest.approx(1 - best)
    threshold, true = roc.at(0.1)
    assert ((d < threshold) & ~same).sum() / (~same).sum() <= 0.1 and true == max(tar[far <= 0.1])


def measured(codes, labels, threshold=None) -> dict[str, float]:
    metrics = VerificationMetrics(lambda z: z, squared_distances, lambda pairs: torch.zeros(()), threshold=threshold)
    metrics.update(codes, {"label": labels})
    return metrics.compute()


def test_ties_are_one_step_and_equal_codes_recognise_nobody() -> None:
    codes, labels = torch.zeros(8, 3), torch.arange(4).repeat(2)
    numbers = measured(codes, labels)
    assert numbers["eer"] == pytest.approx(0.5) and numbers["accuracy"] == 0.5 and numbers["rank1"] == 0.0


def test_recognition_is_that_of_loops_and_one_shot_accuracy_that_of_a_simulation() -> None:
    codes, labels = some_codes(7, 4, 1.1)
    d = squared_distances(codes, codes).numpy()
    right = []
    for turn in range(4):
        gallery = [k * 4 + turn for k in range(7)]
        right += [gallery[int(np.argmin(d[q, gallery]))] // 4 == q // 4 for q in range(28) if q not in gallery]
    numbers, rng, hits = measured(codes, labels), np.random.default_rng(0), []
    assert numbers["rank1"] == pytest.approx(np.mean(right))
    for _ in range(40_000):
        people = rng.choice(7, 5, replace=False)
        known = people * 4 + rng.integers(0, 4, 5)
        asked = people[0] * 4 + rng.choice([i for i in range(4) if i != known[0] % 4])
        hits.append(np.argmin(d[asked, known]) == 0)
    assert numbers["one_shot_5"] == pytest.approx(np.mean(hits), abs=0.008)
    everybody = pairs_of(codes, labels, squared_distances).one_shot_errors()
    assert len(everybody) == 6 and (everybody.diff() > 0).all()  # more people, more mistakes


def test_the_error_is_measured_over_people() -> None:
    codes, labels = some_codes(6, 3, 1.0)
    metrics = VerificationMetrics(lambda z: z, squared_distances, lambda pairs: torch.zeros(()), threshold=4.0)
    metrics.update(codes, {"label": labels + 10})  # the numbers of a split need not begin with 0
    without = [measured(codes[labels != k], labels[labels != k], 4.0)["accuracy"] for k in range(6)]
    spread = np.sqrt(5 / 6 * ((np.array(without) - np.mean(without)) ** 2).sum())
    assert metrics.evidence(18) == (6, pytest.approx(spread))
    table, wrong = metrics.matrix(), metrics.mistakes()
    assert table.sum() == 18 * 17 / 2 and float(wrong.sum() / table.sum()) == pytest.approx(metrics.compute()["error"])


def test_the_threshold_that_dev_chose_holds_elsewhere() -> None:
    task = task_of(loss="triplet", mining="hard", margin=0.2)
    dev, test = task.metrics(), some_codes(5, 3, 1.0, seed=1)
    codes, labels = some_codes(5, 3, 0.5)
    dev.update(codes, {"label": labels})
    task.calibrate(dev.compute())
    elsewhere = task.metrics()
    elsewhere.update(test[0], {"label": test[1]})
    assert elsewhere.compute()["threshold"] == dev.compute()["threshold"]


def test_batches_hold_so_many_of_each_class_and_every_example_comes() -> None:
    labels = torch.tensor([0] * 8 + [1] * 12 + [2] * 5 + [3] * 8)
    order = per_class(labels, torch.Generator().manual_seed(0), 4)
    groups = labels[order].view(-1, 4)
    assert (groups == groups[:, :1]).all() and set(order.tolist()) == set(range(33)) and len(order) == 8 + 12 + 8 + 8
    assert (groups[:4, 0].sort().values == torch.arange(4)).all()  # the first P groups are of P classes
    assert torch.equal(order, per_class(labels, torch.Generator().manual_seed(0), 4))
    assert not torch.equal(order, per_class(labels, torch.Generator().manual_seed(1), 4))


def test_numbers_of_one_split_are_in_no_other_and_neither_are_its_digits() -> None:
    from conftest import ROOT

    source = digits.numbers(ROOT / "data/digits", pictures={"train": 6, "dev": 4, "test": 4}, seed=0)
    people = {split: set(pool.labels.tolist()) for split, pool in source.pools.items()}
    assert [len(each) for each in people.values()] == [60, 20, 20] and len(set.union(*people.values())) == 100
    halves = {split: {half.tobytes() for picture in next(iter(pool.chunks())) for half in np.split(picture[0], 2, axis=1)}
              for split, pool in source.pools.items()}  # fmt: skip
    originals = np.load(ROOT / "data/digits/x.npy")
    assert len(np.unique(originals.reshape(len(originals), -1), axis=0)) == len(originals)  # no two digits are equal
    assert not (halves["train"] & halves["test"] or halves["train"] & halves["dev"] or halves["dev"] & halves["test"])


def pool_of(labels: list[str], groups: list[str] | None) -> dict[str, Pool]:
    own = None if groups is None else np.array(groups)
    return {"all": Pool(labels=np.array(labels), chunks=lambda: iter([]), groups=own)}


@pytest.mark.parametrize(
    ("labels", "groups", "what"),
    [
        (["a", "a", "b"], None, "which pictures are of one person"),
        (["a", "a", "b"], ["x", "y", "z"], "the pictures of 'a' in all are in several groups"),
        (["a", "a"], ["a", "a"], "there is one class only"),
    ],
)
def test_people_who_could_stand_in_two_splits_are_refused(labels, groups, what) -> None:
    with pytest.raises(Refusal, match=what):
        Identities().encode(Source(pool_of(labels, groups), {}), None)


def test_too_few_people_or_pictures_are_refused() -> None:
    kind, split = Identities(), {"all": np.array([0, 0, 0, 2, 2, 2])}
    with pytest.raises(Refusal, match="one picture of 'b'"):
        kind.require_learnable(split, {"all": np.array([0, 0, 1, 2, 2, 3])}, ["a", "b", "c", "d"], [0, 2])
    with pytest.raises(Refusal, match="it holds 1 of 3 people"):
        kind.require_learnable(split, {"all": np.array([0, 0, 0, 2, 2, 1])}, ["a", "b", "c"], [0, 2])


@pytest.mark.parametrize(
    "words", [("trainer.batch_size=6",), ("trainer.batch_size=4",), ("data.sampling={per_class: 1}",)]
)
def test_batches_that_hold_no_groups_are_refused(command, words) -> None:
    done = command("train", *QUICK, *words)
    assert done.code == 2 and ("data.sampling" in done.err or "trainer.batch_size" in done.err), done.err


def test_what_has_several_labels_cannot_be_drawn_by_one(command) -> None:
    done = command("train", "data=digit_traits", "task=multitask", "data.sampling={per_class: 4}", "tracking=none")
    assert done.code == 2 and "data.sampling" in done.err and "no classes" in done.err, done.err


@pytest.fixture
def trained(command) -> Path:
    done = command("train", *QUICK, "hydra.run.dir=run")
    assert done.code == 0, done.err
    return Path("run")


def test_it_is_trained_evaluated_and_explained(command, trained) -> None:
    done = command("evaluate", "run=run", "report=full")
    assert done.code == 0 and "the same code for everybody: error dev 50.0 %, test 50.0 %" in done.out, done.err
    numbers = json.loads((trained / "metrics.json").read_text())
    for split in ("train", "dev", "test"):
        assert {"loss", "accuracy", "eer", "rank1", "error", "one_shot_5"} <= set(numbers[split])
        assert numbers[split]["threshold"] == numbers["dev"]["threshold"]
    rows = list(csv.DictReader((trained / "predictions.csv").open()))
    curve = list(csv.DictReader((trained / "roc.csv").open()))
    assert len(rows) == 60 and set(rows[0]) == {"index", "label", "predicted", "distance"}
    rates = [[float(row[key]) for key in ("false_accept", "true_accept")] for row in curve]
    crossing = brentq(lambda x: 1 - x - np.interp(x, *zip(*rates, strict=True)), 0, 1)
    assert crossing == pytest.approx(numbers["test"]["eer"], abs=1e-4)
    assert {"roc.png", "distances.png", "codes.png", "recognition.png", "pairs.png"} <= {
        p.name for p in (trained / "figures").iterdir()
    }
    assert "triplets/active" in (trained / "curves.csv").read_text().splitlines()[0]


@pytest.mark.parametrize("loss", ["triplet", "contrastive", "pair", "chi_square", "softmax", "whitened"])
def test_killed_between_two_epochs_and_resumed_it_has_the_same_bits(command, train_until_killed, loss) -> None:
    declared = "task.whitening=0.3" if loss == "whitened" else f"task.loss={loss}"
    words = (*QUICK, declared, "task.mining=random", "trainer.total_epochs=4", "trainer.checkpoint_every=1")
    assert command("train", *words, "hydra.run.dir=whole").code == 0
    train_until_killed(*words, "hydra.run.dir=part")
    assert not Path("part/weights.safetensors").exists()
    assert command("train", "resume=part").code == 0
    whole, part = (Path(name, "weights.safetensors").read_bytes() for name in ("whole", "part"))
    assert whole == part and (b"task_unit" in whole) == (loss not in ("triplet", "contrastive"))
    assert command("train", *words, "seed=1", "hydra.run.dir=other").code == 0
    assert Path("other/weights.safetensors").read_bytes() != whole


@pytest.mark.parametrize("loss", ["contrastive", "pair", "chi_square", "softmax"])
def test_a_run_of_every_loss_is_evaluated_asked_and_a_start_for_another(command, loss) -> None:
    words = (*QUICK, f"task.loss={loss}", "task.whitening=1")
    assert command("train", *words, "hydra.run.dir=whole").code == 0
    done = command("evaluate", "run=whole", "report=none")
    assert done.code == 0, done.err
    own = json.loads(Path("whole/train.json").read_text())["dev"]["threshold"]
    assert json.loads(Path("whole/metrics.json").read_text())["test"]["threshold"] == own
    again = (
        *QUICK,
        "task.loss=triplet",
        "transfer=from_run",
        "transfer.source=whole",
        "transfer.seen=keep",
        "hydra.run.dir=next",
    )
    done = command("train", *again)
    assert done.code == 0, done.err
    done = command("predict", "run=whole", f"input={array_of_pictures()}", "format=csv")
    assert done.code == 0 and done.out.splitlines()[0].startswith("input,code0,code1"), done.err


def array_of_pictures() -> Path:
    np.save("pictures.npy", np.zeros((2, 1, 8, 16), np.uint8))
    return Path("pictures.npy")


def test_a_classifiers_weights_are_a_start_for_every_loss(command) -> None:
    write_people(Path("people"), people=6, each=6)
    words = ("data=image_folder", "data.path=people", "model=convnet", "tracking=none", "trainer.total_epochs=1")
    assert command("train", *words, "hydra.run.dir=classes").code == 0
    for loss in ("triplet", "pair"):
        done = command("train", "data=pairs_folder", "data.path=people", "data.split={train: 2, dev: 2, test: 2}", "model=convnet",
                       "task=verification", f"task.loss={loss}", "tracking=none", "trainer.total_epochs=1", "trainer.batch_size=8",
                       "data.sampling={per_class: 4}", "transfer=from_run", "transfer.source=classes", "transfer.seen=keep",
                       f"hydra.run.dir={loss}")  # fmt: skip
        assert done.code == 0 and "the head anew" in done.out, done.err


def test_codes_that_became_one_are_named_and_a_margin_is_advised(command) -> None:
    done = command("train", *QUICK, "init=zeros", "task.margin=0", "hydra.run.dir=run")
    assert done.code == 0, done.err
    diagnosis = json.loads(Path("run/train.json").read_text())["diagnosis"]
    assert "collapsed" in diagnosis["reasons"] and "task.margin=0.2" in diagnosis["advice"][0]["command"]
    assert "All codes are one" in done.out


def write_people(home: Path, people: int, each: int, size: tuple[int, int] = (8, 16), seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for person in range(people):
        (home / f"p{person}").mkdir(parents=True, exist_ok=True)
        face = rng.integers(0, 200, size)
        for i in range(each):
            Image.fromarray((face + rng.integers(0, 40, size)).astype(np.uint8)).save(home / f"p{person}" / f"{i}.png")


def test_people_are_enrolled_verified_and_identified_and_a_stranger_is_unknown(command, trained) -> None:
    write_people(Path("people"), people=3, each=3)
    done = command("faces", "enroll", "run=run", "name=ann", "people/p0/0.png")
    assert done.code == 0 and "1 picture(s) enrolled" in done.out, done.err
    assert command("faces", "enroll", "run=run", "name=bob", "people/p1/0.png").code == 0
    done = command("faces", "identify", "run=run", "format=json", "people/p0/0.png", "people/p1")
    found = json.loads(done.out)
    assert len(found) == 4 and found[0]["person"] == "ann" and found[0]["distance"] == pytest.approx(0, abs=1e-6), (
        done.err
    )
    assert "yes" in command("faces", "verify", "run=run", "name=ann", "people/p0/0.png").out
    summary = json.loads((trained / "train.json").read_text())
    summary["dev"]["threshold"] = -1.0  # nothing is as near
    (trained / "train.json").write_text(json.dumps(summary))
    (trained / "SHA256SUMS").unlink()
    done = command("faces", "identify", "run=run", "people/p0/0.png")
    assert "unknown" in done.out and "0 of 1" in done.out
    done = command("faces", "enroll", "run=run", "gallery=all.safetensors", "people")
    assert "9 picture(s) enrolled; 3 people" in done.out, done.err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("identify", "people/p0/0.png"), "nobody is enrolled"),
        (("identify",), "PICTURE"),
        (("verify", "people/p0/0.png"), "verify asks whether"),
        (("enroll", "people/p0/0.png"), "holds no folder for each person"),
        (("enroll", "name=ann", "empty"), "there are no pictures"),
        (("enroll", "name=ann", "large.png"), "its shape is [1, 30, 30]"),
        (("enroll", "name=ann", "colour.png"), "its shape is [3, 8, 16]"),
        (("identify", "far=0.5", "people/p0/0.png"), "was not measured on dev"),
        (("identify", "gallery=other.safetensors", "people/p0/0.png"), "made by another run"),
        (("identify", "gallery=broken.safetensors", "people/p0/0.png"), "no gallery, or damaged"),
        (("recognise", "people/p0/0.png"), "enroll, verify, identify"),
    ],
)
def test_what_faces_cannot_answer_is_refused(command, trained, words, what) -> None:
    write_people(Path("people"), people=1, each=1)
    Path("empty").mkdir()
    Image.new("L", (30, 30)).save("large.png")
    Image.new("RGB", (16, 8)).save("colour.png")
    Path("other.safetensors").write_bytes(Gallery(("ann",), torch.zeros(1, 128), "other").packed())
    Path("broken.safetensors").write_bytes(b"\x80\x04K\x01.")  # a pickle
    action, *rest = words
    done = command("faces", action, "run=run", *rest)
    assert done.code == 2 and what in done.err, done.err


def test_a_classifier_compares_no_pictures(command) -> None:
    assert command("train", "tracking=none", "trainer.total_epochs=1", "hydra.run.dir=run").code == 0
    done = command("faces", "identify", "run=run", "x.png")
    assert done.code == 2 and "does not compare pictures" in done.err


def test_a_gallery_is_read_as_it_was_written(tmp_path) -> None:
    codes = torch.randn(3, 4)
    (tmp_path / "g").write_bytes(Gallery(("ann", "bob", "ann"), codes, "w").packed())
    found = read_gallery(tmp_path / "g", "w", 4)
    people, distances = found.distances(codes[1:2], squared_distances)
    assert people == ["ann", "bob"] and torch.equal(found.codes, codes)
    wanted = ((codes - codes[1]) ** 2).sum(dim=1)
    assert distances[0].tolist() == pytest.approx([float(min(wanted[0], wanted[2])), 0.0], abs=1e-6)


def test_a_run_is_judged_on_people_of_another_folder(command) -> None:
    write_people(Path("people"), people=6, each=4)
    write_people(Path("others"), people=3, each=3, seed=1)
    words = ("data=pairs_folder", "data.path=people", "data.split={train: 2, dev: 2, test: 2}", "model=mlp", "task=verification",
             "tracking=none", "trainer.total_epochs=2", "trainer.batch_size=8", "hydra.run.dir=run")  # fmt: skip
    assert command("train", *words).code == 0
    done = command("evaluate", "run=run", "data.path=others")
    assert done.code == 0, done.err
    rows = list(csv.DictReader(next(Path("run/judged").glob("*/predictions.csv")).open()))
    assert len(rows) == 9 and {row["label"] for row in rows} == {"p0", "p1", "p2"}
    write_people(Path("once"), people=3, each=1, seed=2)
    done = command("evaluate", "run=run", "data.path=once")
    assert done.code == 2 and "no two pictures of one person" in done.err, done.err


@pytest.mark.skipif(not (DATASETS / "orl-faces").exists(), reason="orl-faces is not here")
def test_the_faces_are_split_by_person(command) -> None:
    done = command(
        "prepare", "data=orl_faces", f"data.path={DATASETS / 'orl-faces'}", "task=verification", "prepared=faces"
    )
    assert done.code == 0, done.err
    card = json.loads(Path("faces/card.json").read_text())
    sizes = {split: [count for count in facts["class_counts"] if count] for split, facts in card["splits"].items()}
    assert {split: len(counts) for split, counts in sizes.items()} == {"train": 30, "dev": 5, "test": 5}
    assert all(count == 10 for counts in sizes.values() for count in counts)


def test_the_choices_are_declared() -> None:
    cfg = composed("data=orl_faces", "task=verification")
    assert cfg["data"]["group_by"] == "^([^/]+)/" and cfg["task"]["dimensions"] == 128
