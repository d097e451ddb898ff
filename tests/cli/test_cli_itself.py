import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from rich.cells import cell_len
from tests.cli.conftest import Run

from headgate import __version__, program
from headgate.cli import output
from headgate.cli.root import COMMANDS, cli

HEADGATE = str(Path(sys.executable).with_name("headgate"))
HEAVY = "{'sqlalchemy', 'alembic', 'rich', 'tiktoken', 'starlette', 'asyncio', 'headgate.app'}"


def commands() -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []

    def walk(path: str, command: click.Command) -> None:
        found.append((path, command))
        if isinstance(command, click.Group):
            with click.Context(command) as context:
                for name in command.list_commands(context):
                    child = command.get_command(context, name)
                    assert child is not None
                    walk(f"{path} {name}".strip(), child)

    walk("", cli)
    return found


@pytest.mark.parametrize("arguments", [["--version"], ["-V"]])
def test_the_version_is_said_without_importing_anything_heavy(arguments: list[str]) -> None:
    program = (
        f"import sys; sys.argv[1:] = {arguments}; from headgate.__main__ import main; main(); "
        f"print(sorted({{'click', 'msgspec'}} | {HEAVY} & set(sys.modules)) if 'click' in sys.modules else 'light')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [f"headgate {__version__}", "light"]


def test_the_help_imports_no_command() -> None:
    program = (
        "import sys; sys.argv[1:] = ['--help']; from headgate.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print('heavy:', {HEAVY} & set(sys.modules), [m for m in sys.modules if m == 'headgate.cli.serve'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "heavy: set() []" in done.stdout


@pytest.mark.parametrize(("path", "command"), commands(), ids=[path or "root" for path, _ in commands()])
def test_every_command_has_help_that_ends_with_a_sentence_and_says_json(
    path: str, command: click.Command
) -> None:
    with click.Context(command, info_name=f"headgate {path}") as context:
        text = command.get_help(context)
    assert "Usage: headgate" in text
    assert command.help
    assert command.help.strip().split("\n")[0].endswith((".", ":"))
    if path:  # the root begins with the first two commands
        assert "Examples:" in text
    if not isinstance(command, click.Group) and path not in {"serve", "worker", "sim", "completion"}:
        assert "--json" in text
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{path} {option.opts} has no help"


def test_the_table_of_commands_says_what_they_say_themselves() -> None:
    assert list(COMMANDS) == cli.list_commands(click.Context(cli))
    for name, command in commands():
        if name in COMMANDS:
            assert command.name == name


def test_exit_codes_are_in_the_help(run: Run) -> None:
    assert "Exit codes: 0 done; 1 findings" in run("--help").output


def test_a_misspelt_command_is_proposed_and_exits_2(run: Run) -> None:
    result = run("modles")
    assert result.exit_code == 2
    assert "Did you mean `models`?" in result.output
    assert "lists the commands" in run("xyzzy").output


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code", "said"),
    [
        (("usage", "--data", "nowhere"), 3, "unreachable", "headgate serve --data nowhere"),
        (("chat", "hi", "--url", "http://127.0.0.1:1", "--key", "k"), 3, "unreachable", "No gateway"),
        (("chat", "hi", "--url", "nonsense"), 2, "unusable", "nonsense"),
        (("usage", "--by", "weather"), 2, "usage", "'--by'"),
        (("usage", "--weather"), 2, "usage", "--weather"),
        (("weather",), 2, "usage", "weather"),
        ((), 2, "usage", "--json"),
        (("keys", "create", "--name", ""), 1, "failed", "name"),
        (("keys", "revoke", "x"), 3, "unreachable", "nowhere"),
        (("config", "check", "--config", "none.toml"), 1, "failed", "none.toml"),
        (("count", "hi", "--model", "no-such"), 1, "failed", "no-such"),
        (("cost", "--input", "1"), 2, "usage", "--output"),
        (("models", "no-such-model"), 1, "failed", "No model matches"),
    ],
)
def test_an_error_under_json_is_json(
    run: Run, arguments: tuple[str, ...], exit_code: int, code: str, said: str
) -> None:
    result = run(*arguments, "--json", env={"HEADGATE_DATA": "nowhere"})
    assert (result.exit_code, result.stdout) == (exit_code, "")
    error = json.loads(result.stderr)["error"]
    assert (error["code"], error["exit_code"]) == (code, exit_code)
    assert said in error["message"]


def test_an_error_is_text_where_json_is_only_said_about(run: Run) -> None:
    assert run("usage", "--data", "nowhere").stderr.startswith("Error: ")
    assert run("chat", "--key", "k", "--url", "nonsense", "--", "--json").stderr.startswith("Error: ")


def test_a_command_that_reads_a_data_folder_says_so_to_who_names_a_configuration(run: Run) -> None:
    for command in (("status",), ("usage",), ("ledger", "check")):
        result = run(*command, "--config", "headgate.toml")
        assert result.exit_code == 2
        assert "name that by --data (in a configuration it is storage.data)" in result.stderr
    assert "storage.data" not in run("count", "--config", "headgate.toml", "x").stderr


def test_a_missing_data_folder_exits_3_and_says_what_to_do(run: Run) -> None:
    for command in (["keys", "list"], ["keys", "revoke", "x"], ["db", "status"], ["db", "migrate"]):
        result = run(*command, "--data", "nowhere")
        assert result.exit_code == 3, command
        assert "headgate serve --data nowhere" in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_HEADGATE_COMPLETE" in result.output


def test_the_shell_completes_commands() -> None:
    environment = {
        **os.environ,
        "_HEADGATE_COMPLETE": "bash_complete",
        "COMP_WORDS": "headgate k",
        "COMP_CWORD": "1",
    }
    done = subprocess.run([HEADGATE], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "plain,keys"


@pytest.mark.parametrize(
    ("started_as", "pasted"),
    [
        ("{here}/.venv/bin/headgate", ".venv/bin/headgate"),
        (".venv/bin/headgate", ".venv/bin/headgate"),
        ("/opt/head gate/headgate", "'/opt/head gate/headgate'"),
        ("/lib/headgate/__main__.py", f"{sys.executable} -m headgate"),
        ("tools/make_docs.py", "headgate"),
    ],
)
def test_the_program_says_its_own_name_as_it_was_started(
    started_as: str, pasted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", [started_as.format(here=tmp_path)])
    assert program.invocation() == pasted


def test_a_program_on_the_path_is_said_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "headgate"
    file.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(file)])
    assert program.advise("serve", Path("my data")) == "headgate serve --data 'my data'"
    assert program.advise("serve", Path("headgate-data")) == "headgate serve"


def test_what_steers_a_terminal_does_not_reach_a_table(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("a",), [("\x1b[31mred[bold]",)])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "?[31mred[bold]" in said


ROWS = [("key_" + "x" * 24, "客服机器人", "", "3"), ("key_" + "y" * 24, "app", "", "12")]


def printed(capsys: pytest.CaptureFixture[str], rows: list[tuple[str, ...]]) -> str:
    output.print_list(("id", "name", "notes", "calls"), rows, "None.", numbers=(3,))
    return capsys.readouterr().out


def test_a_list_leaves_out_what_nobody_has(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, ROWS)
    assert "notes" not in said
    heads, _, first, second = [line for line in said.splitlines() if line.strip()]
    assert heads.rstrip().endswith("calls")
    # a Chinese character is two columns wide
    assert cell_len(first.rstrip()) == cell_len(second.rstrip()) == cell_len(heads.rstrip())
    assert printed(capsys, []) == "None.\n"


def test_a_list_in_a_pipe_is_as_wide_as_it_needs_to_be(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, [("k" * 150, "n" * 150, "", "1")])
    assert "k" * 150 in said
    assert "n" * 150 in said


def test_a_list_at_a_narrow_terminal_has_lines_for_each_thing(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    for columns, tall in (("40", True), ("200", False)):
        monkeypatch.setenv("COLUMNS", columns)
        said = printed(capsys, ROWS)
        assert ROWS[0][0] in said
        assert ROWS[1][0] in said
        assert said.count("客服机器人") == 1
        assert (said.count("name ") == 2) is tall


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headgate", "keys", "--help"], capture_output=True, text=True, check=True
    )
    assert re.match(r"Usage: \S+ -m headgate keys", done.stdout)
