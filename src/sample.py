"""Let a language model write: python src/sample.py run=latest [prefix="to be"] [length=500] [temperature=1] [seed=0]."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("sample")
