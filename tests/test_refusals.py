"""Every mistake of the table is refused on one screen, without a trace, and nothing on disk is changed."""

import pytest
from bad_input import CASES, Case, tried


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_refused_clearly_and_leaves_nothing(case: Case) -> None:
    code, screen, left = tried(case)
    assert code == 2, screen
    assert "Traceback" not in screen and len(screen.splitlines()) <= 12
    assert "train.py refuses, and nothing was changed" in screen and "where:" in screen
    for words in case.says:
        assert words in screen
    assert left == []
