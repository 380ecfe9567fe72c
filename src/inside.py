"""What excites one unit of a finished run: python src/inside.py run=latest layer=stem.0 unit=3 [split=train] [top=9]."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("inside")
