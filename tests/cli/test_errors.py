"""What the command line says to mistakes, and its exit status."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import pygpt
from pygpt import SamplingParams
from pygpt.cli._app import app

PROMPT = "in the"


def run(*arguments: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def generate(folder: Path, *arguments: object, stdin: str | bytes | None = None) -> Result:
    return run("generate", *arguments, "--model", folder, "--threads", 1, stdin=stdin)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate", ""), "the prompt must not be empty"),
        (("generate", "a " * 100), "context of 64"),
        (("generate", PROMPT, "--isa", "z80"), "z80"),
        (("score", ""), "the text must not be empty"),
        (("score", "a"), "at least 2 tokens"),
        (("score", "a " * 100, "--tokens"), "context of 64"),
        (("score", "a " * 100, "--stride", "64"), "stride must be from 1 to 63"),
    ],
)
def test_bad_input_is_one_line_and_status_1(gpt2_folder: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments, "--model", gpt2_folder, "--threads", 1)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("pygpt: error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_checkpoint_is_status_1(tmp_path: Path) -> None:
    for arguments in (("generate", PROMPT, "--model"), ("score", PROMPT, "--model"), ("info",)):
        result = run(*arguments, tmp_path)
        assert result.exit_code == 1
        assert result.stderr.startswith("pygpt: error: ")
        assert str(tmp_path) in result.stderr
        assert result.stderr.count("\n") == 1


def test_input_that_is_not_utf8_is_status_1(gpt2_folder: Path) -> None:
    result = generate(gpt2_folder, "-", stdin=b"ab\xff")
    assert result.exit_code == 1
    assert "not UTF-8: byte 2 is 0xff" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("generate",),
        ("dance",),
        ("generate", PROMPT, "--temprature", "1"),
        ("generate", PROMPT, "--temperature", "hot"),
        ("generate", PROMPT, "--temperature", "-1"),
        ("generate", PROMPT, "--top-p", "2"),
        ("generate", PROMPT, "--weights", "int3"),
        ("generate", PROMPT, "--threads", "0"),
        ("generate", PROMPT, "--logprobs", "1"),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["", "generate", "train", "finetune", "classify"])
def test_help_has_a_short_name(command: str) -> None:
    short, long = (run(*command.split(), flag) for flag in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.stdout == long.stdout
    assert command or "Exit status: 0; 1 for input that cannot be used; 2 for wrong usage" in short.stdout


def test_every_sampling_option_is_in_the_help() -> None:
    shown = " ".join(run("generate", "--help").stdout.split())
    for field in dataclasses.fields(SamplingParams):
        is_shown = field.name != "logits_processor"  # a function, which no command line can give
        option = re.search(rf"--{field.name.replace('_', '-')}[ ,]", shown)
        assert (option is not None) == is_shown, field.name
        assert (" ".join(field.metadata["help"].split()[:3]) in shown) == is_shown


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("generat", "x"), 2, "No such command 'generat'. Did you mean 'generate'?"),
        (("generate", "x", "--temprature", "1"), 2, "--temperature"),
        (("generate", "x", "--model", "TINY"), 1, 'the built-in model is called "tiny"'),
        (("generate", "x", "--weights", "int7"), 2, "'--weights': 'int7' is not one of 'int8', 'bfloat16', 'float32'."),
        (("batch", "no.jsonl", "out", "-m", "tiny"), 1, "pygpt: error: no.jsonl: No such file or directory"),
        (("train", "--data", "no.txt", "--out", "x"), 1, "no.txt: no such file or folder"),
        (("train",), 2, "pygpt train --data TEXT --out RUN"),
        (("finetune", "tiny"), 2, "pygpt finetune MODEL --data DATA --out RUN"),
        (("classify", "x"), 2, "a model with a classifier, as `pygpt finetune --task` makes"),
    ],
)
def test_a_mistake_is_told_what_to_do(arguments: tuple[str, ...], status: int, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == status
    assert message in " ".join(result.stderr.split())


def test_the_folder_of_a_run_is_told_from_its_model(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert "has no model yet" in run("generate", "x", "--model", tmp_path).stderr
    (tmp_path / "best").mkdir()
    assert f"its model is {tmp_path / 'best'}" in run("generate", "x", "--model", tmp_path).stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands(shell: str, elsewhere: dict[str, Any]) -> None:
    env = {**elsewhere["env"], "_PYGPT_COMPLETE": f"complete_{shell}", "COMP_WORDS": "pygpt gen", "COMP_CWORD": "1"}
    env |= {"_TYPER_COMPLETE_ARGS": "pygpt gen", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    pygpt = Path(sys.executable).with_name("pygpt")
    done = subprocess.run([pygpt], capture_output=True, text=True, timeout=60, env=env, cwd=elsewhere["cwd"])
    assert "generate" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "closed", "status", "message"),
    [
        (("generate", "-", "--max-tokens", "1"), 0, 1, "standard input is closed"),
        (("generate", "--max-tokens", "1"), 0, 1, "standard input is closed"),
        (("generate", "Once", "--max-tokens", "1"), 1, 0, ""),
        (("score", "Once upon a time"), 1, 0, ""),
        (("info",), 1, 0, ""),
        (("score", "x"), 2, 1, ""),
    ],
)
def test_a_closed_stream_is_no_traceback(
    arguments: tuple[str, ...], closed: int, status: int, message: str, elsewhere: dict[str, Any]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pygpt", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: os.close(closed),
        **elsewhere,
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert "Traceback" not in done.stderr
    assert message in done.stderr


def test_a_full_disk_is_one_line(elsewhere: dict[str, Any]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "pygpt", "info"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, **elsewhere)
    assert done.returncode == 1
    assert done.stderr == "pygpt: error: [Errno 28] No space left on device\n"


def test_the_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"pygpt {pygpt.__version__}\n")
