"""What the user must mend, told on one screen."""


class Refusal(ValueError):
    """A refusal before any work: where, what, what is allowed, what is nearest, and an example to copy.

    Args:
        where: the key, file or row that holds the fault.
        what: the value and the rule it breaks.
        allowed, nearest, example: empty when there is nothing useful to say.
    """

    def __init__(self, where: str, what: str, *, allowed: str = "", nearest: str = "", example: str = "") -> None:
        lines = {"where": where, "what": what, "allowed": allowed, "nearest": nearest, "example": example}
        super().__init__("\n".join(f"{name:>8}: {text}" for name, text in lines.items() if text))
        self.lines = lines


class Stopped(Refusal):
    """A training that had started and cannot go on: what it recorded stays."""


class Pruned(Exception):
    """A trial that a search stopped, and why; no failure."""
