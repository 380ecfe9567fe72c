"""How likely is a text to a language model: python src/score.py run=latest "the apple and pear salad" "the apple and pair salad"."""

from crucible.app.cli import run_command

if __name__ == "__main__":
    run_command("score")
