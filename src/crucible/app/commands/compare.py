"""Compare configurations over their repeats: python src/compare.py RUN RUN... [split=dev] [out=outputs/compare]."""

from crucible.app import comparison, comparison_pages
from crucible.errors import Refusal
from crucible.report.screen import lined

EXAMPLE = "python src/compare.py multirun/2026-11-22/10-00-00 outputs/latest"


def main(arguments: list[str]) -> None:
    """Group runs by configuration, judge each group's mean, and say which differences are more than noise."""
    words = [each for each in arguments if "=" not in each]
    settings = comparison.Settings(**comparison.parsed([each for each in arguments if "=" in each]))
    if not words:
        raise Refusal(
            "compare.py", "no run is named", allowed="run folders, or folders of a sweep or a search", example=EXAMPLE
        )
    found = comparison.compare([folder for word in words for folder in comparison.folders(word)], settings)
    files = comparison_pages.write(found, settings)
    print(comparison.table(found))
    print(
        lined(
            [
                ("result", comparison.conclusion(found)),
                ("files", "  ".join(files)),
                ("next", comparison.following(found)),
            ]
        )
    )
