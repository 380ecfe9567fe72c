"""A screen holds what is wrong and nothing that steers the terminal."""

import pytest

from crucible.errors import Refusal, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\nb\r\tc\x00\x7f\x9b", r"a\nb\r\tc\x00\x7f\x9b"),
        ("gpj.\u202efdp \u2066\u200f\u061c", r"gpj.\u202efdp \u2066\u200f\u061c"),
        ("\udcff \u2028\u2029\ufeff", r"\udcff \u2028\u2029\ufeff"),
        ("猫 é\u3000ñ 🙂 C:\\new", "猫 é\u3000ñ 🙂 C:\\new"),
    ],
)
def test_what_steers_a_terminal_is_shown_as_an_escape(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_a_refusal_keeps_only_newlines_of_its_own() -> None:
    screen = str(Refusal("data.path=a\nb", "\x1b[2J", example="c\u202ed"))
    assert screen.split("\n") == ["   where: data.path=a\\nb", "    what: \\x1b[2J", " example: c\\u202ed"]
    assert screen.replace("\n", "").isprintable()


def test_a_refusal_stays_on_one_screen() -> None:
    screen = str(Refusal("a key", "x" * 5000 + " is refused"))
    assert len(screen) < 1100 and "x...(5011 letters)...x" in screen and screen.endswith("x is refused")
