"""The command line: what it prints where, and its exit status."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import pygpt
from pygpt import Model
from pygpt.cli._app import app
from pygpt.cli._common import ProgressBar

PROMPT = "in the"


def command(folder: Path, prompt: str = "x", max_tokens: int = 25_000) -> list[str]:
    """A process of its own that continues a prompt greedily."""
    start = [sys.executable, "-m", "pygpt", "generate", prompt, "--model", str(folder)]
    return [*start, "--threads", "1", "--temperature", "0", "--max-tokens", str(max_tokens)]


def run(*arguments: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


def generate(folder: Path, *arguments: object, stdin: str | bytes | None = None) -> Result:
    return run("generate", *arguments, "--model", folder, "--threads", 1, stdin=stdin)


# --- generate ------------------------------------------------------------------------------------------------------


def test_generate_prints_the_completion_and_nothing_else(gpt2_folder: Path, model: Model) -> None:
    result = generate(gpt2_folder, PROMPT, "--seed", 4, "--max-tokens", 12)
    assert result.exit_code == 0
    assert result.stdout == model.generate(PROMPT, seed=4, max_tokens=12).text + "\n"
    assert result.stderr == ""


def test_echo_prints_the_prompt_first(gpt2_folder: Path, model: Model) -> None:
    result = generate(gpt2_folder, PROMPT, "--seed", 4, "--max-tokens", 12, "--echo")
    assert result.stdout == PROMPT + model.generate(PROMPT, seed=4, max_tokens=12).text + "\n"


def test_a_dash_reads_standard_input_less_one_newline(gpt2_folder: Path) -> None:
    expected = generate(gpt2_folder, PROMPT, "--temperature", 0).stdout
    assert generate(gpt2_folder, "-", "--temperature", 0, stdin=PROMPT + "\n").stdout == expected
    assert generate(gpt2_folder, "-", "--temperature", 0, stdin=PROMPT + "\n\n").stdout != expected


def test_what_is_piped_in_needs_no_dash(gpt2_folder: Path) -> None:
    expected = generate(gpt2_folder, "-", "--temperature", 0, stdin=PROMPT + "\n").stdout
    assert generate(gpt2_folder, "--temperature", 0, stdin=PROMPT + "\n").stdout == expected
    scored = run("score", PROMPT, "--model", gpt2_folder, "--threads", 1).stdout
    assert run("score", "--model", gpt2_folder, "--threads", 1, stdin=PROMPT).stdout == scored


def test_json_has_the_texts_of_the_tokens(gpt2_folder: Path, model: Model) -> None:
    result = generate(gpt2_folder, PROMPT, "--json", "--logprobs", 2, "--max-tokens", 5)
    completion = json.loads(result.stdout)
    assert completion["token_texts"] == [model.tokenizer.decode([token]) for token in completion["tokens"]]
    for token_text, entry in zip(completion["token_texts"], completion["logprobs"], strict=True):
        assert entry["text"] == token_text
        assert entry["top_texts"] == [model.tokenizer.decode([token]) for token, _ in entry["top"]]


def test_every_sampling_option_arrives(gpt2_folder: Path, model: Model) -> None:
    options = {
        "max_tokens": 20,
        "temperature": 1.7,
        "top_k": 50,
        "top_p": 0.9,
        "min_p": 0.001,
        "repetition_penalty": 1.2,
    }
    options |= {"presence_penalty": 0.3, "frequency_penalty": -0.1, "seed": 11, "n": 2, "logprobs": 2}
    flags = [x for name, value in options.items() for x in (f"--{name.replace('_', '-')}", value)]
    result = generate(gpt2_folder, PROMPT, *flags, "--stop", "q", "--stop", "xyz", "--json")
    completions = [json.loads(line) for line in result.stdout.splitlines()]
    expected = model.generate(PROMPT, stop=["q", "xyz"], **options)
    assert isinstance(expected, list)
    for got, want in zip(completions, expected, strict=True):
        assert got["text"] == want.text
        assert got["tokens"] == list(want.tokens)
        assert got["finish_reason"] == want.finish_reason
        assert got["seed"] == 11
        assert want.logprobs is not None
        assert [(e["token"], e["logprob"]) for e in got["logprobs"]] == [(e.token, e.logprob) for e in want.logprobs]
        assert [[tuple(t) for t in e["top"]] for e in got["logprobs"]] == [list(e.top) for e in want.logprobs]


def test_several_completions_are_numbered(gpt2_folder: Path, model: Model) -> None:
    result = generate(gpt2_folder, PROMPT, "-n", 2, "--seed", 1, "--max-tokens", 5)
    first, second = model.generate(PROMPT, n=2, seed=1, max_tokens=5)
    assert result.stdout == f"--- 1 of 2 ---\n{first.text}\n--- 2 of 2 ---\n{second.text}\n"


def test_special_tokens_are_text_unless_asked_for(scripted_folder: Callable[[Iterable[int]], Path], vocab) -> None:
    folder = scripted_folder(vocab.byte_ids("0123456789ABCDEF"))  # after a prompt of n tokens it writes the digit n - 1
    options = ("--temperature", 0, "--max-tokens", 1)
    assert generate(folder, "<|endoftext|>", *options).stdout == "C\n"
    assert generate(folder, "<|endoftext|>", *options, "--special").stdout == "0\n"


def test_stats_go_to_standard_error(gpt2_folder: Path) -> None:
    result = generate(gpt2_folder, PROMPT, "--stats", "--seed", 4, "--max-tokens", 12)
    plain = generate(gpt2_folder, PROMPT, "--seed", 4, "--max-tokens", 12)
    assert result.stdout == plain.stdout
    for word in ("load ", "first token ", " tokens", "tokens/s", "int8", "1 thread", "seed 4;"):
        assert word in result.stderr
    assert result.stderr.count("\n") == 1


def test_speculation_changes_nothing_but_the_speed(gpt2_folder: Path) -> None:
    options = ("on and on and on and on", "--temperature", 0, "--stats")
    plain = generate(gpt2_folder, *options)
    for how in (("--speculate", "prompt"), ("--draft", gpt2_folder)):
        result = generate(gpt2_folder, *options, *how)
        assert result.stdout == plain.stdout
        assert re.search(r"; \d+ of \d+ proposed tokens accepted \(\d+%\), \d\.\d\d tokens a step\n$", result.stderr)
    assert "proposed" not in plain.stderr
    assert generate(gpt2_folder, "a", "--speculate", "draft").exit_code == 2
    assert "draft must have the vocabulary" in generate(gpt2_folder, "a", "--draft", "tiny").stderr


# --- info and score ------------------------------------------------------------------------------------------------


def test_info_tells_the_machine() -> None:
    machine = run("info").stdout
    for word in (pygpt.__version__, "compiler", "CPU features", "kernels", "scalar", "threads"):
        assert word in machine


def test_info_forces_an_instruction_set() -> None:
    assert "kernels       scalar (" in run("info", "--isa", "scalar").stdout


def test_convert_saves_what_loads_alike(gpt2_folder: Path, model: Model, tmp_path: Path) -> None:
    result = run("convert", gpt2_folder, tmp_path / "out", "--threads", 1)
    assert (result.exit_code, result.stdout) == (0, "")
    options = ("--seed", 4, "--max-tokens", 12)
    assert generate(tmp_path / "out", PROMPT, *options).stdout == generate(gpt2_folder, PROMPT, *options).stdout
    assert Model.load(tmp_path / "out", threads=1).weights == "int8"
    run("convert", gpt2_folder, tmp_path / "plain", "--weights", "float32")
    assert Model.load(tmp_path / "plain").weights == "float32"


def test_convert_overwrites_nothing(gpt2_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    result = run("convert", gpt2_folder, tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr == f"pygpt: error: {tmp_path}: not empty; a checkpoint is saved to a new or empty folder only\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_score_prints_the_sum_and_the_perplexity(gpt2_folder: Path, model: Model) -> None:
    text = "the man in the inn"
    scores = model.score(text)
    result = run("score", text, "--model", gpt2_folder, "--threads", 1)
    lines = dict(line.rsplit(None, 1) for line in result.stdout.replace(" nats", "").splitlines())
    assert int(lines["tokens"]) == len(scores)
    assert float(lines["log-probability"]) == pytest.approx(scores.sum(), abs=1e-3)
    assert float(lines["perplexity"]) == pytest.approx(model.perplexity(text), abs=1e-3)
    listed = run("score", "-", "--tokens", "--model", gpt2_folder, "--threads", 1, stdin=text).stdout.splitlines()
    assert listed[-3:] == result.stdout.splitlines()
    assert [float(line.split()[0]) for line in listed[:-3]] == pytest.approx(scores.tolist(), abs=1e-4)


def test_score_slides_over_a_long_text(gpt2_folder: Path, model: Model) -> None:
    text = "a man in the inn " * 20
    result = run("score", text, "--stride", 8, "--model", gpt2_folder, "--threads", 1)
    assert f"{model.perplexity(text, stride=8):.4f}" in result.stdout


def test_a_context_of_ones_own(gpt2_folder: Path) -> None:
    text = "in the end and then " * 4
    shorter = Model.load(gpt2_folder, threads=1, n_ctx=9)
    printed = run("score", text, "--n-ctx", 9, "--model", gpt2_folder, "--threads", 1).stdout
    assert f"{shorter.perplexity(text):.4f}" in printed
    longest = shorter.config.n_ctx + 1_000_000
    refused = generate(gpt2_folder, PROMPT, "--n-ctx", longest)
    assert refused.exit_code != 0
    assert f"not {longest}" in refused.stderr


# --- processes, pipes and terminals --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def endless(scripted_folder: Callable[[Iterable[int]], Path], vocab) -> Path:
    """A model that writes for many seconds."""
    return scripted_folder(vocab.byte_ids("endless text ") * 2000)


def test_ctrl_c_stops_with_130_and_keeps_what_was_printed(endless: Path, elsewhere: dict[str, Any]) -> None:
    with subprocess.Popen(
        command(endless),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **elsewhere,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.read(20)
        process.send_signal(signal.SIGINT)
        # Not communicate(): it reads the pipe itself and loses what the file object had read ahead.
        rest, errors = process.stdout.read(), process.stderr.read()
        assert process.wait(timeout=30) == 130
    assert first == "endless text endless"
    assert ("endless text " * 2000).startswith((first + rest).removesuffix("\n"))
    assert len(rest) < 20_000
    assert errors == ""


def test_a_closed_pipe_is_quiet(endless: Path, elsewhere: dict[str, Any]) -> None:
    with subprocess.Popen(
        command(endless), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **elsewhere
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(20)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=30) == 141


def test_text_streams_while_it_is_made(endless: Path, elsewhere: dict[str, Any]) -> None:
    with subprocess.Popen(command(endless), stdout=subprocess.PIPE, text=True, **elsewhere) as process:
        assert process.stdout is not None
        assert process.stdout.read(13) == "endless text "
        assert process.poll() is None
        process.kill()


def test_a_terminal_sees_the_prompt_and_a_pipe_does_not(gpt2_folder: Path, elsewhere: dict[str, Any]) -> None:
    arguments = command(gpt2_folder, PROMPT, 4)
    piped = subprocess.run(arguments, check=True, capture_output=True, timeout=60, **elsewhere)
    leader, follower = pty.openpty()
    subprocess.run(arguments, check=True, stdout=follower, stderr=subprocess.PIPE, timeout=60, **elsewhere)
    os.close(follower)
    shown = b""
    while True:
        try:
            chunk = os.read(leader, 1000)
        except OSError:  # Linux says so when the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(leader)
    assert piped.stderr == b""
    assert shown.replace(b"\r\n", b"\n") == b"in the" + piped.stdout


def test_an_encoding_without_the_characters_is_no_error(
    scripted_folder: Callable[[Iterable[int]], Path], vocab, elsewhere: dict[str, Any]
) -> None:
    folder = scripted_folder([*vocab.byte_ids("5€!"), vocab.end_id])
    done = subprocess.run(
        command(folder),
        check=True,
        capture_output=True,
        timeout=60,
        cwd=elsewhere["cwd"],
        env={**elsewhere["env"], "PYTHONIOENCODING": "latin-1:strict"},
    )
    assert done.stdout == b"5?!\n"


@pytest.mark.parametrize("columns", ["200", "24"])
def test_the_progress_bar_waits_draws_and_clears(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, columns: str
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = ProgressBar("loading x")
    bar(1, 10)
    assert capsys.readouterr().err == ""
    clock[0] = 0.6
    monkeypatch.setenv("COLUMNS", columns)
    bar(5, 10, "a note that is longer than some terminals are wide")
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err).splitlines()
    assert any("loading x" in line for line in lines)
    assert max(map(len, lines)) <= int(columns)
    bar.clear()
    assert capsys.readouterr().err.endswith("\x1b[2K")


def test_no_progress_bar_in_a_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(time, "monotonic", iter([0.0, 9.0, 9.0, 9.0]).__next__)
    bar = ProgressBar("loading x")
    bar(5, 10)
    bar.clear()
    assert capsys.readouterr().err == ""


def test_the_command_line_does_not_import_rich(gpt2_folder: Path, elsewhere: dict[str, Any]) -> None:
    code = (
        "import sys, pygpt.cli\n"
        f"sys.argv[1:] = ['generate', 'in', '--model', {str(gpt2_folder)!r}, '--max-tokens', '2', '--threads', '1']\n"
        "try:\n    pygpt.cli.main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "assert not {'rich', 'torch', 'transformers', 'requests', 'gguf'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60, **elsewhere)


@pytest.mark.parametrize("module", ["typer", "numpy", "pygpt.model", "pygpt.cli.generate", "pygpt.tokenizer.encoding"])
def test_ctrl_c_while_modules_are_imported_is_silent(module: str, elsewhere: dict[str, Any]) -> None:
    code = (
        "import sys\n"
        "class Interrupt:\n"
        f"    def find_spec(self, name, *_):\n        if name == {module!r}:\n            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from pygpt.cli import main\n"
        "sys.argv[1:] = ['generate', 'Once', '--max-tokens', '1']\n"
        "main()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, **elsewhere)
    assert (run.returncode, run.stdout.strip(), run.stderr) == (130, "", "")


def test_the_command_begins_with_no_import_that_takes_long(elsewhere: dict[str, Any]) -> None:
    code = "import sys, pygpt.cli; print({'numpy', 'typer', 'pygpt.model'} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60, **elsewhere
    )
    assert run.stdout.strip() == "set()"
