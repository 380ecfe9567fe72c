"""Compare configurations over their repeats: python src/compare.py RUN RUN... [split=dev] [out=outputs/compare]."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("compare")
