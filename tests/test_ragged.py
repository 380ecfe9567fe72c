"""Examples of different lengths: on disk, in batches, and refused where a network would learn from padding."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from crucible.data.augment import Identity
from crucible.data.batches import Batches
from crucible.data.card import read_card
from crucible.data.prepare import PrepareConfig, prepare
from crucible.data.ragged import Padded, in_buckets, mask_of
from crucible.data.readers import series
from crucible.data.readers.source import Pool, Source
from crucible.errors import Refusal
from crucible.labels.classes import Classes

SPLIT = {"train": 0.6, "dev": 0.2, "test": 0.2, "train_dev": 0, "seed": 0}
RECIPE = {"reader": {}, "label": None, "split": SPLIT, "stratify": True, "group_by": None, "normalize": "standard",
          "duplicates": "refuse", "image_size": None, "channels": None}  # fmt: skip


def write(path: Path, count: int = 60, seed: int = 0) -> list[list[float]]:
    """Write series of 1 to 20 numbers, of two classes, and return them as the file says them."""
    rng = np.random.default_rng(seed)
    rows = [[float(f"{v:.3f}") for v in rng.normal(i % 2, 1, rng.integers(1, 21))] for i in range(count)]
    path.write_text("".join("\t".join([f"c{i % 2}", *map(str, row)]) + "\n" for i, row in enumerate(rows)))
    return rows


def prepared(source, home: Path, **more) -> Path:
    recipe = PrepareConfig(**RECIPE | more)
    return prepare(source, Classes(), recipe, "series", lambda key: home, lambda card: None)


def batches_of(home: Path, **more) -> Batches:
    settings_of = {"batch_size": 8, "augment": Identity(), "seed": 0} | more
    return Batches(home, read_card(home), torch.device("cpu"), **settings_of)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.data())
@settings(max_examples=50, deadline=None)
def test_gathered_rows_are_the_examples_padded_to_the_longest(lengths, data) -> None:
    examples = [torch.arange(float(n)) + 10 * i for i, n in enumerate(lengths)]
    padded = Padded(torch.cat(examples), torch.tensor(np.cumsum([0, *lengths])))
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8))
    found = padded.index_select(0, torch.tensor(rows))
    assert found.shape == (len(rows), max(lengths[row] for row in rows))
    for got, row in zip(found, rows, strict=True):
        assert torch.equal(got[: lengths[row]], examples[row]) and got[lengths[row] :].isnan().all()
    assert mask_of(found).sum(dim=1).tolist() == [lengths[row] for row in rows]


def test_symbols_are_padded_with_what_is_no_symbol() -> None:
    padded = Padded(torch.tensor([5, 0, 7]), torch.tensor([0, 1, 3]))
    assert padded[:].tolist() == [[5, -1], [0, 7]] and mask_of(padded[:]).tolist() == [[True, False], [True, True]]
    steps = Padded(torch.ones(3, 2), torch.tensor([0, 1, 3]))[:]
    assert steps.shape == (2, 2, 2) and mask_of(steps).tolist() == [[True, False], [True, True]]


def test_buckets_hold_every_row_once_and_pad_less() -> None:
    lengths = torch.randint(1, 100, (1003,), generator=torch.Generator().manual_seed(0))
    order = torch.randperm(1003, generator=torch.Generator().manual_seed(1))
    bucketed = in_buckets(order, lengths, 16, torch.Generator().manual_seed(2))

    def padding(rows: Tensor) -> float:
        pairs = [(lengths[part].max() * len(part), lengths[part].sum()) for part in rows.split(16)]
        return 1 - float(sum(real for _, real in pairs)) / float(sum(all_ for all_, _ in pairs))

    assert sorted(bucketed.tolist()) == list(range(1003))
    assert padding(order) > 0.4 and padding(bucketed) < 0.1
    one_piece = in_buckets(order[:496], lengths, 16, torch.Generator().manual_seed(2))
    longest = [int(lengths[part].max()) for part in one_piece.split(16)]
    assert longest != sorted(longest)  # the batches come in random order


def test_the_prepared_folder_holds_one_example_after_the_other(tmp_path) -> None:
    rows = write(tmp_path / "s.tsv")
    home = prepared(series.read(tmp_path / "s.tsv"), tmp_path / "made")
    card, found = read_card(home), {}
    for split in ("train", "dev", "test"):
        values, offsets, labels = (np.load(home / split / f"{name}.npy") for name in ("x", "offsets", "y"))
        assert values.dtype == np.float32 and len(offsets) == len(labels) + 1 == card.size(split) + 1
        for start, end, label in zip(offsets, offsets[1:], labels, strict=False):
            found[tuple(np.round(values[start:end].astype(float), 3))] = (split, int(label))
    assert set(found) == {tuple(np.round(np.float32(row).astype(float), 3)) for row in rows}
    assert all(found[tuple(np.round(np.float32(row).astype(float), 3))][1] == i % 2 for i, row in enumerate(rows))
    train = np.concatenate([key for key, (split, _) in found.items() if split == "train"])
    assert card.normalize["mean"] == pytest.approx([train.mean()], abs=1e-6)
    assert card.normalize["std"] == pytest.approx([train.std()], rel=1e-6) and card.normalize["fitted_size"] == 36
    lengths = [len(row) for row in rows]
    assert card.lengths == {"shortest": min(lengths), "mean": np.mean(lengths), "longest": max(lengths)}
    assert card.feature_shape == [max(lengths)] and not card.is_images


def test_batches_are_normalised_and_every_example_comes_once(tmp_path) -> None:
    write(tmp_path / "s.tsv")
    home = prepared(series.read(tmp_path / "s.tsv"), tmp_path / "made")
    card, batches = read_card(home), batches_of(home)
    seen = []
    for batch in batches.train(0):
        assert set(batch) == {"x", "label", "mask"} and torch.equal(batch["mask"], ~batch["x"].isnan())
        assert batch["mask"].any(dim=0).all()  # nothing is longer than the longest
        seen += [row[own].tolist() for row, own in zip(batch["x"], batch["mask"], strict=True)]
    values, offsets = (np.load(home / "train" / f"{name}.npy") for name in ("x", "offsets"))
    normal = (values.astype(float) - card.normalize["mean"]) / card.normalize["std"]
    wanted = np.split(normal, offsets[1:-1])
    assert len(seen) == len(wanted)
    for one, other in zip(sorted(seen), sorted(map(list, wanted)), strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    again = [batch["label"].tolist() for batch in batches_of(home).train(0)]
    assert again == [batch["label"].tolist() for batch in batches.train(0)]
    assert again != [batch["label"].tolist() for batch in batches_of(home, seed=1).train(0)]
    stored = torch.cat([batch["label"] for batch in batches.evaluation("dev", size=5)])
    assert stored.tolist() == np.load(home / "dev" / "y.npy").tolist()
    left = batches_of(home, left_out={"test": np.array([0, 3])})
    assert sum(len(batch["x"]) for batch in left.evaluation("test")) == card.size("test") - 2


def test_copies_across_splits_are_found(tmp_path) -> None:
    rows = write(tmp_path / "s.tsv")
    again = "\t".join(["c0", *map(str, rows[0])])
    (tmp_path / "s.tsv").write_text((tmp_path / "s.tsv").read_text() + "\n".join([again] * 20) + "\n")
    home = prepared(series.read(tmp_path / "s.tsv"), tmp_path / "made")  # copies stay in one split
    splits = [split for split in ("train", "dev", "test") for part in np.split(
        np.load(home / split / "x.npy"), np.load(home / split / "offsets.npy")[1:-1]) if part.tolist() == np.float32(rows[0]).tolist()]  # fmt: skip
    assert len(splits) == 21 and len(set(splits)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2\nb\n", "line 2\n[^\n]*there are no numbers"),
        ("a 1 2\nb 1 x\n", "'x' is no number"),
        ("a 1 2\nb nan nan\n", "no numbers"),
        ("a 1 2\nb 1 nan 3\n", "NaN"),
        ("", "no examples"),
    ],
)
def test_what_is_no_series_is_refused_with_its_line(tmp_path, text, message) -> None:
    (tmp_path / "s.tsv").write_text(text)
    with pytest.raises(Refusal, match=message):
        prepared(series.read(tmp_path / "s.tsv"), tmp_path / "made", stratify=False)
    assert not (tmp_path / "made").exists()


def test_a_file_that_is_no_utf_8_is_refused_and_a_mark_of_order_is_no_class(tmp_path) -> None:
    (tmp_path / "s.tsv").write_bytes("é 1 2\n".encode("latin-1"))
    with pytest.raises(Refusal, match="no text in UTF-8"):
        series.read(tmp_path / "s.tsv")
    (tmp_path / "s.tsv").write_bytes("\ufeffa 1 2\n".encode())
    assert series.read(tmp_path / "s.tsv").pools["all"].labels.tolist() == ["a"]


def test_padding_of_the_file_is_left_out(tmp_path) -> None:
    (tmp_path / "s.tsv").write_text("a,1,2,NaN,NaN\nb,3,4,5,6\n\n")
    pool = series.read(tmp_path / "s.tsv").pools["all"]
    assert [each.tolist() for each in next(pool.chunks())] == [[1, 2], [3, 4, 5, 6]]


class Mean(nn.Module):
    """The mean of a series, as a logit."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.nanmean(dim=1, keepdim=True))


def test_a_network_that_does_not_look_at_the_mask_is_refused(command, tmp_path) -> None:
    write(tmp_path / "s.tsv")
    for model in ("mlp", "logistic"):
        done = command("train", "data=series", "data.path=s.tsv", f"model={model}", "tracking=none")
        assert done.code == 2 and "padding" in done.err and not (tmp_path / "outputs").exists(), done.err


def test_padding_changes_no_number(tmp_path) -> None:
    """A batch of one example each, where nothing is padded, gives what all of them together give."""
    write(tmp_path / "s.tsv")
    batches = batches_of(prepared(series.read(tmp_path / "s.tsv"), tmp_path / "made"))
    model = Mean()
    alone = torch.cat([model(batch["x"]) for batch in batches.evaluation("train", size=1)])
    together = torch.cat([model(batch["x"]) for batch in batches.evaluation("train", size=100)])
    assert torch.allclose(alone, together, atol=1e-6)


def test_describe_and_prepare_show_series(command, tmp_path) -> None:
    write(tmp_path / "s.tsv")
    done = command("prepare", "data=series", "data.path=s.tsv")
    assert done.code == 0 and "shape [20]" in done.out, done.err
    card = json.loads(next(Path("artifacts/prepared").glob("*/card.json")).read_text())
    assert set(card["arrays"]) >= {"train/x.npy", "train/offsets.npy", "train/y.npy"}


def test_official_splits_of_different_lengths_keep_their_offsets(tmp_path) -> None:
    rng = np.random.default_rng(0)
    rows = {name: [rng.normal(size=rng.integers(1, 9)).astype(np.float32) for _ in range(count)]
            for name, count in (("train", 12), ("dev", 5), ("test", 7))}  # fmt: skip
    pools = {name: Pool(labels=np.array(["a", "b"] * 6)[: len(own)], chunks=partial(iter, [own[:4], own[4:]]), ragged=True)
             for name, own in rows.items()}  # fmt: skip
    home = prepared(Source(pools, {}), tmp_path / "made")
    for name, own in rows.items():
        values, offsets = (np.load(home / name / f"{part}.npy") for part in ("x", "offsets"))
        assert [part.tolist() for part in np.split(values, offsets[1:-1])] == [each.tolist() for each in own]
