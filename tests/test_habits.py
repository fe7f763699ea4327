"""What stands beside the code says what the code says: CONTRIBUTING.md's layers, the workflow, the templates."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def lines_of(ranks: dict[str, int]) -> str:
    """A table of tests/test_codebase.py as CONTRIBUTING.md shows it."""
    return "".join(
        ", ".join(sorted(name for name in ranks if ranks[name] == rank)) + "\n" for rank in sorted({*ranks.values()})
    )


def test_the_layers_are_those_that_are_checked() -> None:
    tables = runpy.run_path(str(ROOT / "tests" / "test_codebase.py"))
    shown = re.findall(r"^```text\n(.*?)^```", CONTRIBUTING, re.M | re.S)
    assert shown == [lines_of(tables["CPP_RANKS"]), lines_of(tables["PYTHON_RANKS"])]


def test_each_is_found_through_contributing() -> None:
    hidden = [path for path in (ROOT / ".github").rglob("*") if path.is_file()]
    names = {
        path.relative_to(ROOT).as_posix()
        for path in (*hidden, ROOT / ".pre-commit-config.yaml", ROOT / ".editorconfig")
    }
    linked = set(re.findall(r"\]\((\.[\w./-]+)\)", CONTRIBUTING))
    assert names - linked == {".github/ISSUE_TEMPLATE/wish.yml"}  # beside the other
    assert linked <= names


def test_the_workflow_runs_what_everyone_runs() -> None:
    steps = re.findall(r"^ +- (\w+): (.+)$", read(".github/workflows/ci.yml"), re.M)
    assert [(key, value.split("@")[0]) for key, value in steps] == [("uses", "actions/checkout"), ("run", ".ci/run")]


def test_templates_ask_for_the_machine() -> None:
    for name in ("ISSUE_TEMPLATE/problem.yml", "ISSUE_TEMPLATE/wish.yml", "PULL_REQUEST_TEMPLATE.md"):
        assert "pygpt info" in read(f".github/{name}"), name


def test_a_commit_is_checked_as_ci_does() -> None:
    hooks = re.findall(r"entry: (ruff check|ruff format|mypy|clang-format)\b", read(".pre-commit-config.yaml"))
    run = read(".ci/run")
    assert hooks == ["ruff check", "ruff format", "mypy", "clang-format"]
    assert all(hook in run for hook in hooks)
