"""Folders of tables, one for each split: read as pandas reads them one below the other; what is fitted is that of train."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crucible.data.columns import columns_of
from tests.test_table import passengers, prepared

CUTS = {"train": slice(0, 140), "val": slice(140, 190), "test": slice(190, 240)}


def folder_of(home: Path, form: str = "csv", **changed: pd.DataFrame) -> Path:
    """Write passengers as train, val and test, each of them as it is given, if it is."""
    home.mkdir()
    for split, cut in CUTS.items():
        part = changed.get(split, passengers()[cut])
        if form == "csv":
            part.assign(when=part["when"].dt.strftime("%Y-%m-%d")).to_csv(home / f"{split}.csv", index=False)
        else:
            part.to_parquet(home / f"{split}.parquet")
    return home


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_each_table_is_its_split_and_train_alone_is_fitted(command, tmp_path, form) -> None:
    table = passengers()
    table.loc[195, "port"], table.loc[150, "age"] = "Southampton", 1e6
    parts = {split: table[cut] for split, cut in CUTS.items()}
    parts["val"] = parts["val"][table.columns[::-1]]  # the order of columns is no matter
    folder, card = prepared(command, folder_of(tmp_path / "own", form, **parts))
    columns = {each.name: each for each in columns_of(card.table)}
    assert "Southampton" not in columns["port"].categories and card.table["unseen"] == {"test": {"port": 1}}
    assert columns["age"].fill == pytest.approx(parts["train"]["age"].mean())
    for split, own in (("train", "train"), ("dev", "val"), ("test", "test")):
        x, wanted = np.load(folder / split / "x.npy"), table[CUTS[own]]
        assert np.array_equal(x[:, 0], wanted["age"], equal_nan=True) and np.array_equal(x[:, 2], wanted["class"])
        assert np.array_equal(x[:, 5], (wanted["when"] - pd.Timestamp(0)).dt.days)
        port = [columns["port"].categories[int(k)] if k >= 0 else None for k in np.nan_to_num(x[:, 3], nan=-1)]
        known = wanted["port"].where(wanted["port"].isin(columns["port"].categories), None)
        assert port == [each if isinstance(each, str) else None for each in known]
        labels = np.array(card.classes)[np.load(folder / split / "y.npy")]
        assert labels.tolist() == wanted["kind"].tolist()


def test_a_split_that_is_not_there_is_taken_out_of_train(command, tmp_path) -> None:
    (folder_of(tmp_path / "own") / "val.csv").unlink()
    _, card = prepared(command, tmp_path / "own")
    assert {split: each["size"] for split, each in card.splits.items()} == {"train": 112, "dev": 28, "test": 50}
    assert card.notes == ["the data bring train and test: dev is 28 examples of train"]


def test_a_table_without_labels_is_left_aside_and_other_columns_are_left_out(command, tmp_path) -> None:
    table = passengers()
    own = folder_of(tmp_path / "own", val=table[140:190].assign(more=1), test=table[190:].drop(columns="kind"))
    (own / "sample_submission.csv").write_text("id,kind\n1,lived\n")
    _, card = prepared(command, own)
    assert card.splits["train"]["size"] == 112 and card.splits["dev"]["size"] == 50
    more, aside, _ = card.notes
    assert aside.startswith("test.csv has no column kind: left aside; python src/predict.py run=latest input=")
    assert more == "val.csv has columns that train.csv has not: more; they are left out"


def test_a_number_of_rows_that_begins_anew_in_every_file_is_left_out(command, tmp_path) -> None:
    """Sorted rows: their number tells the class in every split, since every file counts from 0."""
    table = passengers().assign(nr=0, says=lambda frame: [f"row {i % 140}" for i in range(len(frame))])
    parts = {split: table[cut].sort_values("kind").reset_index(drop=True) for split, cut in CUTS.items()}
    parts = {split: part.assign(nr=range(len(part)), only=split) for split, part in parts.items()}
    _, card = prepared(command, folder_of(tmp_path / "own", **parts))
    left_out = card.table["left_out"]
    assert left_out["nr"] == "a number for each row" and left_out["only"] == "one value everywhere"
    assert left_out["says"] == "text, another in nearly every row"


def test_a_column_that_is_not_used_need_not_be_everywhere(command, tmp_path) -> None:
    table = passengers()
    parts = {"val": table[140:190].drop(columns="id"), "test": table[190:].drop(columns=["age", "ship"])}
    _, card = prepared(command, folder_of(tmp_path / "own", **parts), "data.drop=[age]")
    assert [each["name"] for each in card.table["columns"]] == ["fare", "class", "port", "adult", "when"]


def test_of_several_labels_one_may_be_unknown_in_a_split(command, tmp_path) -> None:
    table = passengers().assign(
        old=lambda frame: (frame["fare"] > 20).astype(int), kind=lambda frame: (frame["kind"] == "lived") * 1
    )
    own = folder_of(tmp_path / "own", train=table[:140], val=table[140:190], test=table[190:].drop(columns="old"))
    words = ["data=table", f"data.path={own}", "data.label='kind,old'", "task=multitask", "prepared=of-own"]
    done = command("prepare", *words)
    assert done.code == 0, done.err
    y = np.load(tmp_path / "of-own/test/y.npy")
    assert y.shape == (50, 2) and (y[:, 1] == -1).all() and set(y[:, 0]) == {0, 1}


def test_another_folder_is_judged_on_its_test(command, tmp_path) -> None:
    folder_of(tmp_path / "own")
    words = ["data=table", "data.path=own", "data.label=kind", "trainer.total_epochs=2", "tracking=none"]
    assert command("train", *words, "hydra.run.dir=run").code == 0
    judged = ["evaluate", "run=run", "data=table", "data.path=other", "data.label=kind", "tracking=none"]
    other = passengers(480)[240:]
    folder_of(tmp_path / "other", train=other[:100], val=other[100:200], test=other[200:])
    done = command(*judged)
    assert done.code == 0, done.err
    (tmp_path / "other/test.csv").unlink()
    refused = command(*judged)
    assert refused.code == 2 and "these data bring train and dev, and no test to be judged on" in refused.err


def test_look_names_the_folder_and_evaluation_judges_its_test(command, tmp_path) -> None:
    folder_of(tmp_path / "own")
    looked = command("look", "own", "data.label=kind").out
    assert "train 140, dev 50, test 50" in looked and "data=table data.path=own" in looked
    words = [
        "data=auto",
        "data.path=own",
        "data.label=kind",
        "trainer.total_epochs=2",
        "tracking=none",
        "hydra.run.dir=run",
    ]
    assert command("train", *words).code == 0
    assert command("evaluate", "run=run", "tracking=none").code == 0
    assert pd.read_csv(tmp_path / "run/predictions.csv")["label"].tolist() == passengers()["kind"][190:].tolist()


def renamed(home: Path, before: str, after: str) -> None:
    (home / before).rename(home / after)


BAD = {
    "no train": (lambda home: renamed(home, "train.csv", "all.csv"), "of its tables none is called train: all.csv, test.csv, val.csv"),
    "two of one split": (lambda home: (home / "valid.csv").write_text("a\n1\n"), "val.csv and valid.csv are both dev"),
    "one that may be two": (lambda home: renamed(home, "test.csv", "holdout.csv"), "it may be dev or test"),
    "a column is missing": (lambda home: drop_age(home / "test.csv"), "there is no column 'age', which train has"),
    "a stray cell": (lambda home: stray(home / "test.csv"), "the first in test.csv, row 3: 'old'"),
    "another separator": (lambda home: semicolons(home / "test.csv"), "between cells stands ';'; of train.csv, between cells stands ','"),
    "a label called nearly so": (lambda home: nearly(home / "test.csv"), "nearest: Kind"),
    "no row": (lambda home: no_row(home / "test.csv"), "there is no row below the header"),
    "another form": (lambda home: as_parquet(home / "test.csv"), "splits that are written in one way"),
    "no label in a row": (lambda home: no_label(home / "val.csv"), "val.csv, row 7"),
}  # fmt: skip


def drop_age(file: Path) -> None:
    pd.read_csv(file).drop(columns="age").to_csv(file, index=False)


def semicolons(file: Path) -> None:
    pd.read_csv(file).to_csv(file, index=False, sep=";", decimal=",")


def nearly(file: Path) -> None:
    pd.read_csv(file).rename(columns={"kind": "Kind"}).to_csv(file, index=False)


def stray(file: Path) -> None:
    table = pd.read_csv(file).astype({"age": object})
    table.loc[3, "age"] = "old"
    table.to_csv(file, index=False)


def no_row(file: Path) -> None:
    pd.read_csv(file).head(0).to_csv(file, index=False)


def as_parquet(file: Path) -> None:
    pd.read_csv(file).to_parquet(file.with_suffix(".parquet"))
    file.unlink()


def no_label(file: Path) -> None:
    table = pd.read_csv(file)
    table.loc[7, "kind"] = None
    table.to_csv(file, index=False)


@pytest.mark.parametrize("case", BAD)
def test_tables_that_do_not_belong_together_are_refused(command, tmp_path, case) -> None:
    spoil, message = BAD[case]
    spoil(folder_of(tmp_path / "own"))
    done = command("train", "data=table", "data.path=own", "data.label=kind", "tracking=none")
    assert done.code == 2 and message in done.err.replace("\n   ", ""), done.err
    assert [each.name for each in tmp_path.iterdir()] == ["own"]
