"""Rules that the code keeps: layers, where special headers may stand, sizes, one version, nothing of one machine."""

from __future__ import annotations

import ast
import graphlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pygpt

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
CPP = sorted([*CSRC.rglob("*.h"), *CSRC.rglob("*.cpp")])
PACKAGE = sorted((ROOT / "pygpt").rglob("*.py"))

# What is longer has a second subject: C++ and Python; the package, its tests, benchmarks and examples.
FILE_LINES = 350  # the aim is 300
FUNCTION_LINES = 60  # without its signature


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked() -> list[Path]:
    """The text files that git knows."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip(f"git ls-files: {listed.stderr.strip()}")
    suffixes = {".py", ".pyi", ".h", ".cpp", ".txt", ".md", ".toml", ".cmake", ".yml", ".yaml", ".cfg", ".sh", ""}
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [p for p in paths if p.suffix in suffixes and p.is_file() and not p.is_relative_to(ROOT / "tests" / "data")]


# --- the C++ core -----------------------------------------------------------------------------------------------------

# A folder may include itself and the folders before it, but none of its own rank: so inference has nothing of training.
CPP_RANKS = {
    "base": 0,
    "cpu": 1,
    "simd": 1,
    "threads": 1,
    "kernels": 2,
    "kernels/training": 3,
    "packing": 3,
    "ops": 4,
    "model": 5,
    "training": 5,
    "bindings": 6,
}


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(encoding="utf-8"), re.M)


def layer_of(path: str) -> str | None:
    """The folder of CPP_RANKS that a file below csrc/ belongs to."""
    folders = [folder for folder in CPP_RANKS if path.startswith(f"{folder}/")]
    return max(folders, key=len, default=None)


@pytest.mark.parametrize("path", CPP, ids=name_of)
def test_includes_point_downward(path: Path) -> None:
    here = layer_of(path.relative_to(CSRC).as_posix())
    assert here is not None
    for include in includes(path):
        there = layer_of(include)
        if there is not None:
            assert (CSRC / include).is_file(), include
            assert here == there or CPP_RANKS[here] > CPP_RANKS[there], f"{here} must not include {include}"


@pytest.mark.parametrize("path", CPP, ids=name_of)
def test_special_headers_stay_in_their_place(path: Path) -> None:
    here = path.relative_to(CSRC).as_posix()
    for include in includes(path):
        if re.search(r"intrin\.h|arm_neon|arm_sve|arm_acle", include):
            assert re.match(r"simd/|kernels/(training/)?isa/", here), f"{include}: intrinsics belong to simd/"
        assert include not in {"iostream", "sstream", "fstream", "istream", "ostream", "iomanip", "locale", "regex"}, (
            f"{include}: streams and locales mix where an extension carries a C++ library of its own"
        )
        if include == "thread":
            assert here.startswith(("threads/", "cpu/", "bindings/")), "threads belong to threads/"
        if re.match(r"pybind11/|Python\.h", include):
            assert here.startswith("bindings/"), "Python belongs to bindings/"
        if re.match(r"simd/|kernels/(training/)?body/", include):
            allowed = re.match(r"simd/|kernels/(training/)?(body|isa)/", here)
            assert allowed, f"{include} is for the instruction sets' translation units alone"


def test_headers_are_included_once() -> None:
    assert [name_of(p) for p in CPP if p.suffix == ".h" and "#pragma once" not in p.read_text(encoding="utf-8")] == []


def test_every_layer_exists() -> None:
    assert {p.name for p in CSRC.iterdir() if p.is_dir()} == {folder.split("/")[0] for folder in CPP_RANKS}
    assert all((CSRC / folder).is_dir() for folder in CPP_RANKS)


def test_a_headers_name_means_one_thing() -> None:
    """body/x.h is the body of the contract x.h beside it; otherwise no two headers have one name."""
    headers = [p for p in CPP if p.suffix == ".h"]
    bodies = {p for p in headers if p.parent.name == "body" and p.parent.with_name(p.name) in headers}
    names = [p.name for p in headers if p not in bodies]
    assert sorted({name for name in names if names.count(name) > 1}) == []


# --- the Python package -----------------------------------------------------------------------------------------------

PYTHON_LAYERS = (  # a module or package of a line may import those of its own and of the lines above
    "errors fields summary",
    "_json _checks _text metrics rope config _core activations information",
    "tool_calls sites families tokenizer reference",
    "checkpoint embedding trace_text",
    "classification engine evaluation likelihood generation writer registry",
    "trace trace_html trace_plots tracing model reply inspection",
    "scheduler chat async_stream asynchronous delivery training __init__",
    "harness jobs server",
    "ray",
    "cli",
    "__main__",
)
PYTHON_RANKS = {part: rank for rank, parts in enumerate(PYTHON_LAYERS) for part in parts.split()}
BASE_DEPENDENCIES = {"jinja2", "numpy", "regex", "safetensors", "tiktoken", "tokenizers"}  # of all but the command line
CLI_DEPENDENCIES = {"rich", "typer"}
SERVER_DEPENDENCIES = {"prometheus_client", "pydantic", "starlette", "uvicorn"}  # of the extra `server`
RAY_DEPENDENCIES = {"ray"}  # of the extra `ray`
EVAL_DEPENDENCIES = {"lm_eval", "tqdm"}  # of the extra `eval`, which brings more for the examples
OWN_DEPENDENCIES = {  # of parts of the package
    "cli": CLI_DEPENDENCIES,
    "server": SERVER_DEPENDENCIES,
    "ray": RAY_DEPENDENCIES | SERVER_DEPENDENCIES,
    "harness": EVAL_DEPENDENCIES,
}


def imports(path: Path, *, lazy: bool) -> Iterator[str]:
    """The modules that a file imports, `pygpt` alone for names from the package itself; not those for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                below = ROOT.joinpath(*node.module.split("."), alias.name)
                is_module = below.with_suffix(".py").exists() or below.with_suffix(".pyi").exists() or below.is_dir()
                yield f"{node.module}.{alias.name}" if is_module else node.module
        if lazy or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            nodes.extend(ast.iter_child_nodes(node))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_imports_point_downward(path: Path) -> None:
    here = part_of(module_of(path))
    for module in imports(path, lazy=True):
        if module.split(".")[0] == "pygpt":
            there = part_of(module)
            assert PYTHON_RANKS[there] <= PYTHON_RANKS[here], f"{here} must not import {there}"


def test_imports_have_no_cycle() -> None:
    graph = {module_of(p): {m for m in imports(p, lazy=False) if m.startswith("pygpt.")} for p in PACKAGE}
    list(graphlib.TopologicalSorter({k: v - {k} for k, v in graph.items()}).static_order())


def test_the_reference_stands_alone() -> None:
    found = {m for m in imports(ROOT / "pygpt" / "reference.py", lazy=True) if m.startswith("pygpt")}
    assert found <= {f"pygpt.{name}" for name in ("activations", "config", "errors", "information", "sites")}


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_importing_needs_the_base_dependencies_only(path: Path) -> None:
    allowed = BASE_DEPENDENCIES | OWN_DEPENDENCIES.get(part_of(module_of(path)), set()) | {"pygpt"}
    found = {m.split(".")[0] for m in imports(path, lazy=False)}
    assert found <= allowed | sys.stdlib_module_names


def test_the_dependencies_are_those_that_are_imported() -> None:
    """No more and no fewer than pyproject.toml names; what an extra brings is imported where it is used."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

    def names(key: str) -> set[str]:
        found = re.search(rf"^{key} = \[(.*?)\](?: #[^\n]*)?$", text, re.M | re.S)
        assert found is not None
        return set(re.findall(r'"([\w-]+)[^"]*"', found[1]))

    extras = {name.split("-")[0] for key in ("hub", "plot", "ray", "server", "trace", "train") for name in names(key)}
    modules = {m.split(".")[0] for path in PACKAGE for m in imports(path, lazy=True)} - {"pygpt"}
    assert names("eval") >= EVAL_DEPENDENCIES
    assert names("dependencies") == BASE_DEPENDENCIES | CLI_DEPENDENCIES
    assert modules - sys.stdlib_module_names == BASE_DEPENDENCIES | CLI_DEPENDENCIES | EVAL_DEPENDENCIES | extras


# --- sizes, version, traces of a machine ------------------------------------------------------------------------------


def test_files_have_one_subject() -> None:
    code = [p for p in tracked() if p.suffix in {".py", ".pyi", ".h", ".cpp"}]
    lengths = {name_of(p): len(p.read_text(encoding="utf-8").splitlines()) for p in code}
    assert len(lengths) > 50
    assert {name: n for name, n in lengths.items() if n > FILE_LINES} == {}


def test_functions_have_one_subject() -> None:
    long = {}
    for path in (p for p in tracked() if p.suffix == ".py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
                lines = node.end_lineno - node.body[0].lineno + 1
                if lines > FUNCTION_LINES:
                    long[f"{name_of(path)}:{node.name}"] = lines
    assert long == {}


def test_cpp_functions_have_one_subject() -> None:
    code = [p for p in tracked() if p.suffix in (".h", ".cpp")]
    not_code = r"//.*|'(?:\\.|[^'\\])'|\"(?:\\.|[^\"\\])*\"|^ *#.*"  # whose braces and semicolons mean nothing
    scopes = r"(template <.*> )?(inline )?(extern|namespace|class|struct|enum|union)\b"
    long, n_functions = {}, 0
    for path in code:
        text = re.sub(not_code, "", path.read_text(encoding="utf-8"), flags=re.M)
        begin, opened = 0, []
        for match in re.finditer(r"[;{}]", text):
            if match[0] == "{":
                opened.append((" ".join(text[begin : match.start()].split()), text.count("\n", 0, match.start())))
            if match[0] == "}":
                head, line = opened.pop()
                if ")" in head and not re.match(scopes, head):
                    n_functions += 1
                    if (lines := text.count("\n", 0, match.start()) - line - 1) > FUNCTION_LINES:
                        long[f"{name_of(path)}: {head}"] = lines
            begin = match.end()
        assert opened == [], path
    assert n_functions > 1000
    assert long == {}


def test_the_version_stands_in_one_place() -> None:
    found = re.search(r'^version = "([^"]+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert found is not None
    version = found[1]
    assert pygpt.__version__ == version
    allowed = {"pyproject.toml", "CHANGELOG.md"}
    places = {
        name_of(p)
        for p in tracked()
        if re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", p.read_text(encoding="utf-8"))
    }
    assert places <= allowed


def test_nothing_names_one_machine() -> None:
    """Paths of whoever wrote it, or the address of a package registry."""
    traces = re.compile(r"/(?:work|tmp|root|home|Users)/|--?index-url|pythonhosted|pypi\.|/simple\b")
    found = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in tracked()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if traces.search(line)
    ]
    assert found == []


def test_every_merge_was_finished() -> None:
    marks = re.compile(r"^(?:<{7}|>{7}) ", re.M)
    assert [name_of(path) for path in tracked() if marks.search(path.read_text(encoding="utf-8"))] == []


def test_the_distribution_is_not_another_projects() -> None:
    """`pygpt` on the package index is a stranger's code: no text may advise to install it."""
    assert re.search(r'^name = "pygpt-cpu"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    of_the_index = re.compile(r"""pip3? install [^&;`)]*?(?<=[\s"'])pygpt(?!-cpu|\w)|\bpygpt\[[a-z]""")
    assert of_the_index.search("pip install 'pygpt[gguf]'")
    assert of_the_index.search("pip install -U pygpt")
    assert not of_the_index.search("pip install . && pygpt generate")
    found = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in tracked()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if of_the_index.search(line)
    ]
    assert found == []


def test_the_build_keeps_the_numbers() -> None:
    """Flags for one machine's CPU or for looser arithmetic would break the contract of equal bits."""
    lists = [
        ROOT / "CMakeLists.txt",
        *ROOT.glob("tests/**/CMakeLists.txt"),
        ROOT / "pyproject.toml",
        *ROOT.glob(".ci/*"),
    ]
    text = "".join(p.read_text(encoding="utf-8") for p in lists)
    assert re.findall(r"-march=native|-mtune=native|-Ofast|-f\w*-?math\S*|-ffp-contract=fast", text) == []
    assert "-ffp-contract=off" in text
