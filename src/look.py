"""Say what data there are, what is odd about them, and how to train on them: python src/look.py PATH [data.label=COLUMN] [out=FILE]."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("look")
