"""Look at the test split, here and only here: python src/evaluate.py run=latest."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("evaluate")
