"""Forms of texts on the command line: files, texts, and what excludes each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pygpt.cli._app import app

PROMPT = "in the"


def generate(folder: Path, *options: object) -> Result:
    arguments = ["generate", PROMPT, "--model", folder, "--threads", 1, "--no-echo", *options]
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_schema_is_a_file_or_a_text(gpt2_folder: Path, tmp_path: Path) -> None:
    schema = json.dumps({"type": "integer", "minimum": 7, "maximum": 7})
    (tmp_path / "schema.json").write_text(schema, encoding="utf-8")
    assert generate(gpt2_folder, "--json-schema", schema).stdout == "7\n"
    assert generate(gpt2_folder, "--json-schema", tmp_path / "schema.json").stdout == "7\n"


def test_a_grammar_is_a_file(gpt2_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "g.lark").write_text('start: "é" "x"', encoding="utf-8")
    assert generate(gpt2_folder, "--grammar", tmp_path / "g.lark").stdout == "éx\n"
    (tmp_path / "g.gbnf").write_bytes(b"\xff")
    assert "not UTF-8" in generate(gpt2_folder, "--grammar", tmp_path / "g.gbnf").output


def test_choices_are_given_one_by_one(gpt2_folder: Path) -> None:
    assert generate(gpt2_folder, "--choice", "ab", "--choice", "c d").stdout in ("ab\n", "c d\n")
    assert generate(gpt2_folder, "--regex", "a{3}").stdout == "aaa\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--regex", "a", "--choice", "b"), "exclude each other"),
        (("--choice", ""), "empty string"),
        (("--json-schema", "{"), "not valid JSON"),
        (("--json-schema", "missing.json"), "missing.json"),
        (("--logit-bias", "x=1"), "is not ID=NUMBER"),
    ],
)
def test_what_cannot_be_is_said(gpt2_folder: Path, options: tuple[str, ...], message: str) -> None:
    result = generate(gpt2_folder, *options)
    assert result.exit_code != 0
    assert message in result.output + str(result.exception)


def test_biases_are_given_by_id(gpt2_folder: Path) -> None:
    assert generate(gpt2_folder, "--logit-bias", "64=1e9", "--max-tokens", 3).stdout == "aaa\n"
