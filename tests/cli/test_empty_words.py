"""An unset shell variable leaves an empty argument. It is rejected, and never stands for the current directory or another setting."""

import json

import pytest
import typer.main

from pushengine.cli import app


def leaves(command, words=()):
    children = getattr(command, "commands", None)
    if children is None:
        return [(words, command)]
    return [leaf for name, child in children.items() for leaf in leaves(child, (*words, name))]


def arguments_with_an_empty_one():
    """Yield every argument, and every option with a value, of every command with an empty value: separate, and after `=`."""
    for words, command in leaves(typer.main.get_command(app.app)):
        positional = 0
        for param in command.params:
            option = next((word for word in param.opts if word.startswith("--")), None)
            if getattr(param, "is_flag", False) or option == "--emulator":
                continue
            name = option or param.metavar
            before = [option] if option else ["x"] * positional
            positional += option is None
            yield pytest.param((*words, *before, ""), name, id=" ".join((*words, name)))
            if option:
                yield pytest.param((*words, f"{option}="), name, id=" ".join((*words, f"{option}=")))


@pytest.mark.parametrize(("words", "name"), list(arguments_with_an_empty_one()))
def test_every_empty_argument_is_rejected_by_name(words, name, capsys):
    assert app.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"Invalid value for '{name}': it is empty; is a shell variable unset?" in printed.err


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("push", "", "--table", "T", "--emulator"), "SOURCE"),
        (("push", "orders.csv", "", "--table", "T", "--emulator"), "SOURCE"),
        (("push", "orders.csv", "--table", "T", "--emulator", ""), "SOURCE"),
        (("push", "--table", "T", "--emulator", "--", ""), "SOURCE"),
        (("plan", "", "--table", "T"), "SOURCE"),
        (("push", "orders.csv", "--table", "T", "--key", "ID", "--key", ""), "--key"),
        (("resume", "", "--json"), "[PUSH_ID]"),
        (("jobs", "delete", "j1", ""), "JOB_ID"),
    ],
    ids=lambda value: " ".join(map(repr, value)) if isinstance(value, tuple) else None,
)
def test_an_empty_argument_among_valid_ones_is_rejected(words, name, orders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(tmp_path / "state"))
    code = app.main(words)
    printed = capsys.readouterr()
    assert code == 2
    assert f"'{name}': it is empty; is a shell variable unset?" in printed.err
    assert not (tmp_path / "state").exists()


def test_with_json_the_error_is_one_object(pushengine, orders):
    done = pushengine("push", "", "--table", "T", "--emulator", "--json")
    assert done.code == 2
    assert done.json["status"] == "ERROR"
    assert done.json["error"]["type"] == "UsageError"
    assert "'SOURCE': it is empty" in done.json["error"]["message"]


def test_the_emulator_option_may_have_no_file(orders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (["--emulator"], ["--emulator="]):
        assert app.main(["push", str(orders), "--table", "T", "--json", *words]) == 0
        assert json.loads(capsys.readouterr().out)["status"] == "DONE"
