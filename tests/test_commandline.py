"""Words that Hydra, torch or numpy would fall over are refused on one screen; nothing is left on disk."""

import pytest

from crucible.app.arguments import whole_number
from crucible.errors import Refusal
from crucible.tracking.control import parse

REFUSED = [
    (["regularizer=2147483648"], "2147483648 names no choice"),
    (["tracking=true"], "True names no choice"),
    (["transfer=1e400"], "inf names no choice"),
    (["optimizer=[[1]]"], "[[1]] names no choice"),
    (["trainer={a: null}"], "{'a': None} names no choice"),
    (["trainer=[{conv: 8}]"], "[{'conv': 8}] names no choice"),
    (["~task=True"], "it cannot be taken away"),
    (["model="], "'' names no choice"),
    (["model=null"], "None names no choice"),
    (["model=" + "x" * 5000], "(5018 letters)..."),
    (["model=" + "x" * 50000], "a word of 50006 letters"),
    (["model.layers=" + "[" * 6000 + "]" * 6000], "with 6000 brackets in each other"),
    (["trainer.batch_size=" + "{a:" * 2000 + "1" + "}" * 2000], "with 2000 brackets in each other"),
    (["data.path=\udcff"], "it is no text in UTF-8"),
    (["data.path=a\x00b"], "it holds a NUL character"),
    (["run_name=${oc.env:NOPE}", "model.layers=${oc.env:NOPE}"], "Environment variable 'NOPE' not found"),
    (["=b"], "a value without a key"),
    (["data=npz", "data.path=" + "x" * 300], "a path of 310 letters"),
    (["hydra.run.dir=" + "a/" * 3000], "a path of 6014 letters"),
    (["data=hdf5", "data.path=/dev/null"], "it is neither a file nor a folder"),
    (["hydra.run.dir=/dev/null"], "a file stands in its way"),
    (["-m", "seed=1,2", "hydra.sweep.dir=/dev/null"], "a file stands in its way"),
    (["--experimental-rerun=x"], "--experimental-rerun is not offered here"),
    (["--foo"], "unrecognized arguments: --foo"),
    (["--cfg"], "argument --cfg/-c: expected one argument"),
    (["--cfg=x"], "invalid choice: 'x'"),
    (["--shell-completion"], "--shell-completion takes one of"),
    (["--cfg", "job", "model=mlpp"], "there is no choice 'mlpp'"),
    (["data.image_size=[2147483648,1]"], "less than or equal to 65535"),
    (["model.layers=[2147483648]"], "less than or equal to 2147483647"),
    (["seed=18446744073709551616"], "less than or equal to 9223372036854775807"),
]


@pytest.mark.parametrize(("words", "what"), REFUSED, ids=[" ".join(words)[:40] for words, _ in REFUSED])
def test_it_is_refused_on_one_screen(command, tmp_path, words: list[str], what: str) -> None:
    done = command("train", *words, *(["tracking=none"] if not words[0].startswith(("tracking", "--")) else []))
    assert done.code == 2 and "where:" in done.err and what in done.err
    assert len(done.err) < 5000 and not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["model=logistic", "model._target_=torch.nn.Linear"], "torch.nn.Linear cannot take these values: TypeError"),
        (["model=logistic", "model._target_=torch.nn.Identity"], "it has no parameters"),
        (["model=logistic", "model._target_=torch.nn.MaxPool1d"], "it has no parameters"),
        (["model=logistic", "model._target_=torch.nn.LSTM"], "cannot take these values"),
        (["model=logistic", "model._target_=torch.nn.PReLU"], "an example of shape [1, 8, 8] does not pass"),
        (["model=logistic", "model._target_=torch.nn.LayerNorm"], "of 2 examples it gives [2, 1, 8, 8]"),
        (["optimizer=sgd", "optimizer._target_=torch.optim.LBFGS"], "it cannot step by itself"),
        (["optimizer=sgd", "optimizer._target_=torch.optim.Muon"], "Muon only supports 2D parameters"),
        (["optimizer=sgd", "optimizer._target_=torch.optim.SparseAdam"], "it cannot step by itself"),
        (["optimizer=sgd", "optimizer._target_=torch.optim.ASGD", "+optimizer.capturable=true"], "it cannot step by itself"),
        (["~schedule.warmup_epochs", "schedule._target_=torch.optim.lr_scheduler.ReduceLROnPlateau"], "it cannot step by itself"),
    ],
)  # fmt: skip
def test_a_part_of_torch_that_does_not_fit_is_refused_before_anything_is_kept(
    command, tmp_path, words: list[str], what: str
) -> None:
    done = command("train", *words, "tracking=none")
    assert done.code == 2 and what in done.err and "nothing was changed" in done.err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["control", "predict", "export", "inside", "slide", "compare"])
def test_commands_without_hydra_refuse_such_words_too(command, name: str) -> None:
    for word in ("run=\udcff", "run=a\x00b", "x" * 50000):
        done = command(name, word)
        assert done.code == 2 and "where:" in done.err


def test_what_steers_the_terminal_is_shown_as_an_escape(command) -> None:
    done = command("train", "model=\x1b]0;title\x07")
    assert done.code == 2 and "\x1b" not in done.err and r"\x1b]0;title\x07" in done.err


@pytest.mark.parametrize("name", ["train", "prepare"])
def test_a_file_where_prepared_data_belong_is_left_alone(command, tmp_path, name: str) -> None:
    (tmp_path / "mine").write_text("years of work")
    done = command(name, "prepared=mine", *(["tracking=none"] if name == "train" else []))
    assert done.code == 2 and "mine" in done.err
    assert (tmp_path / "mine").read_text() == "years of work" and [*tmp_path.iterdir()] == [tmp_path / "mine"]


def test_a_list_of_recipes_is_a_choice(command, tmp_path) -> None:
    assert command("train", "experiment=[xor]", "tracking=none", "trainer.total_epochs=1").code == 0


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, "-1", "nan", "1e400"])
def test_a_number_of_any_length_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match="is refused"):
        parse(f"trainer.total_epochs={text}")
    with pytest.raises(Refusal, match="no whole number"):
        whole_number("unit", text)


def test_a_sweep_of_no_run_leaves_nothing(command, tmp_path) -> None:
    done = command("evaluate", "-m")
    assert done.code == 2 and "one at a time" in done.err and not any(tmp_path.iterdir())


def test_an_interruption_while_the_commands_are_imported_is_no_traceback(monkeypatch, capsys) -> None:
    import builtins

    from crucible.app import cli

    imported = builtins.__import__

    def interrupted(name, *rest, **more):
        if name == "crucible.app.compose":
            raise KeyboardInterrupt
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(SystemExit) as end:
        cli.run_command("train")
    assert end.value.code == 130 and "stopped by you" in capsys.readouterr().err
