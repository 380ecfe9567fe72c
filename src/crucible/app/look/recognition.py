"""Which choice of the group `data` reads a path, told by names and first bytes alone."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from crucible.data.readers.file_names import is_table, meant_split, split_of
from crucible.data.readers.image_folder import SUFFIXES
from crucible.data.readers.source import require_path
from crucible.errors import Refusal

ALLOWED = (
    "a folder of pictures with a folder for each class; boxes as YOLO, COCO, Pascal VOC or labelImg write them; a table (.csv, .tsv, .parquet, "
    ".xlsx); arrays (.npz, .npy, .h5, IDX); text (.txt, .conll)"
)
HEAD, MOST_FILES = 1 << 16, 20_000  # bytes of a file and files of a folder that are looked at to tell what it is
COORDINATE = re.compile(r"[xy]_?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Recognised:
    """What reads a path.

    Attributes:
        choice: of the group `data`. path: what it reads, which may stand inside what was named. why: in a few words.
    """

    choice: str
    path: Path
    why: str


def recognised(path: Path) -> Recognised:
    """Return what reads a file or folder.

    Raises:
        Refusal: it is not there, or nothing reads it; with what is in it.
    """
    path = require_path(path, ALLOWED, key="path")
    for rule in FILES if path.is_file() else FOLDERS:
        if (found := rule(path)) is not None:
            return found
    if path.is_dir() and len(inner := [each for each in _entries(path) if each.is_dir()]) == 1 and not _files(path):
        return recognised(inner[0])
    raise Refusal(f"path={path}", f"nothing that is read: {_contents(path)}", allowed=ALLOWED)


def _entries(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if not each.name.startswith((".", "__MACOSX")))


def _files(path: Path) -> list[Path]:
    return [each for each in _entries(path) if each.is_file()]


def _below(path: Path, *suffixes: str) -> Iterator[Path]:
    """Give the files below a folder that end so, among the first of them."""
    below = (each for each in islice(path.rglob("*"), MOST_FILES))
    return (each for each in below if each.suffix.lower() in suffixes and not each.name.startswith("."))


def _contents(path: Path) -> str:
    """Return what stands in a folder, in few words."""
    if path.is_file():
        return f"a file that ends in '{path.suffix}'"
    counts = Counter(
        each.suffix.lower() or "no ending" for each in islice(path.rglob("*"), MOST_FILES) if each.is_file()
    )
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(4)) or "no file"
    loose = sum(count for suffix, count in counts.items() if suffix in SUFFIXES)
    return kinds + ("; pictures need a folder for each class, or boxes" if loose else "")


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(HEAD).decode("utf-8", errors="replace")


def _by_suffix(choice: str, why: str, *suffixes: str) -> Callable[[Path], Recognised | None]:
    return lambda path: Recognised(choice, path, why) if path.suffix.lower() in suffixes else None


def _keypoints(path: Path) -> Recognised | None:
    files = [path] if path.is_file() else [*_files(path)]
    for file in files:
        header = _head(file).partition("\n")[0].strip().split(",") if file.suffix.lower() == ".csv" else []
        if len(header) > 2 and all(COORDINATE.fullmatch(name.strip()) for name in header[1:]):
            return Recognised("keypoints", path, "a CSV of pictures with x and y of points")
    return None


def _table(path: Path) -> Recognised | None:
    """A plain text file may be a text, too: see `_text`."""
    return Recognised("table", path, "a table") if is_table(path) and path.suffix.lower() != ".txt" else None


def _text(path: Path) -> Recognised | None:
    """Tell a table from a text by its lines: cells in every line, the same number, are a table."""
    if path.suffix.lower() not in (".txt", ".text", ".md"):
        return None
    lines = [line for line in _head(path).splitlines()[:50] if line.strip()]
    widths = {separator: {line.count(separator) for line in lines} for separator in ",;\t|"}
    if len(lines) > 2 and any(len(counts) == 1 and min(counts) > 0 for counts in widths.values()):
        return Recognised("table", path, "a table: every line has as many cells")
    return Recognised("text", path, "a text")


def _yaml(path: Path) -> Recognised | None:
    if path.suffix.lower() in (".yaml", ".yml") and re.search(r"^\s*(train|names)\s*:", _head(path), re.MULTILINE):
        return Recognised("yolo", path, "a data.yaml of YOLO")
    return None


def _coco(path: Path) -> Recognised | None:
    files = (
        [path]
        if path.is_file()
        else [*path.glob("*.json"), *path.glob("annotations/*.json"), *path.glob("*/*coco.json")]
    )
    found = [file for file in files if file.suffix.lower() == ".json" and _is_coco(file)]
    return Recognised("coco", path, "annotations of COCO's form") if found else None


def _is_coco(file: Path) -> bool:
    """Whether a file has the keys of COCO near its beginning or its end; those of a large one may stand far apart."""
    with file.open("rb") as opened:
        start = opened.read(HEAD)
        opened.seek(max(0, file.stat().st_size - HEAD))
        both = start + opened.read()
    return sum(f'"{key}"'.encode() in both for key in ("images", "annotations", "categories")) >= 2


def _idx(path: Path) -> Recognised | None:
    return Recognised("idx", path, "MNIST's IDX files") if any(path.glob("*idx3-ubyte*")) else None


def _hdf5(path: Path) -> Recognised | None:
    files = [each for each in _files(path) if each.suffix.lower() in (".h5", ".hdf5")]
    return Recognised("hdf5", path, "HDF5 files of the course's layout") if files else None


def _arrays(path: Path) -> Recognised | None:
    files = _files(path)
    if any(each.suffix == ".npy" for each in files):
        return Recognised("npz", path, "a folder of arrays")
    alone = [each for each in files if each.suffix == ".npz"]
    return Recognised("npz", alone[0], "arrays") if len(alone) == 1 else None


def _yolo(path: Path) -> Recognised | None:
    homes = [path, *(each for each in _entries(path) if each.is_dir() and meant_split(each.name) is not None)]
    if any((home / "images").is_dir() and (home / "labels").is_dir() for home in homes):
        return Recognised("yolo", path, "images/ and labels/ of YOLO")
    sheets = [each for each in _files(path) if _yaml(each) is not None]
    return Recognised("yolo", sheets[0], "a data.yaml of YOLO") if sheets else None


def _voc(path: Path) -> Recognised | None:
    file = next(_below(path, ".xml"), None)
    if file is None or "<annotation" not in _head(file):
        return None
    return Recognised("voc", path, "an .xml with boxes for each picture (Pascal VOC, labelImg)")


def _pair(path: Path) -> Recognised | None:
    stems = [each.stem for each in _files(path) if each.suffix.lower() in SUFFIXES]
    return Recognised("style_pair", path, "a content and a style") if sorted(stems) == ["content", "style"] else None


def _image_folder(path: Path) -> Recognised | None:
    folders = [each for each in _entries(path) if each.is_dir()]
    with_pictures = [folder for folder in folders if next(_below(folder, *SUFFIXES), None) is not None]
    if len(with_pictures) < 2 and not any(meant_split(each.name) for each in with_pictures):
        return None
    return Recognised("image_folder", path, "pictures in folders")


def _tables_in(path: Path) -> Recognised | None:
    tables = [each for each in _files(path) if _table(each) is not None]
    splits = [each for each in tables if split_of(each) is not None]
    if len(splits) > 1 and "train" in map(split_of, splits):
        return Recognised("table", path, f"tables of splits: {', '.join(each.name for each in splits)}")
    alone = tables if len(tables) == 1 else splits
    return Recognised("table", alone[0], "a table") if len(alone) == 1 else None


def _texts_in(path: Path) -> Recognised | None:
    texts = [each for each in _files(path) if each.suffix.lower() in (".txt", ".pos", ".neg")]
    if len(texts) > 1:
        return Recognised("labelled_lines", path, "a text file for each class, a sentence a line")
    if len(conll := [each for each in _files(path) if _conll(each) is not None]) > 0:
        return Recognised("conll", path, f"{len(conll)} file(s) of tokens with tags")
    return _text(texts[0]) if texts else None


_conll = _by_suffix("conll", "tokens with tags", ".conll", ".bio", ".iob")
FILES: Sequence[Callable[[Path], Recognised | None]] = (
    _keypoints, _table, _text, _yaml, _coco, _conll, _by_suffix("npz", "arrays", ".npz", ".npy"), _by_suffix("hdf5", "an HDF5 file", ".h5", ".hdf5"),
)  # fmt: skip
FOLDERS: Sequence[Callable[[Path], Recognised | None]] = (
    _idx, _hdf5, _arrays, _yolo, _coco, _voc, _pair, _keypoints, _image_folder, _tables_in, _texts_in,
)  # fmt: skip
