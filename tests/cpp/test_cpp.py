"""Builds the C++ unit tests with CMake and runs them, one test here for each suite there.

`PYGPT_SANITIZE=address,undefined pytest tests/cpp` builds them with these sanitizers, and with warnings as errors.
The build folder stays in build/, so that a second run compiles only what changed.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SANITIZE = os.environ.get("PYGPT_SANITIZE", "")
SUITES = sorted(
    {m for f in Path(__file__).parent.glob("*.cpp") for m in re.findall(r"^TEST\((\w+),", f.read_text(), re.M)}
)


def program(name: str) -> str:
    """The path of cmake or ninja, whether or not the virtual environment is activated."""
    found = shutil.which(name, path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
    if found is None:
        pytest.fail(f"{name} is needed to build the C++ tests: pip install '.[test]'")
    return found


def gtest_source() -> Path | None:
    """The folder of GoogleTest's sources that the package ros-gtest-vendor installs, if it is there."""
    try:
        files = importlib.metadata.files("ros-gtest-vendor") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    sources = [Path(str(f.locate())).resolve() for f in files if f.match("src/gtest_vendor/src/gtest-all.cc")]
    return sources[0].parents[1] if sources else None


def quiet(*command: str | Path) -> str:
    """What a command prints; if it fails, so does the test, and shows it."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))} exited with {done.returncode}:\n{done.stdout}", pytrace=False)
    return done.stdout


@pytest.fixture(scope="module")
def build() -> Path:
    """The folder of the finished build."""
    folder = ROOT / "build" / ("cpp-" + SANITIZE.replace(",", "-") if SANITIZE else "cpp")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "CMakeCache.txt").unlink(missing_ok=True)  # it may name tools and paths of another day
    options = ["-DPYGPT_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_MAKE_PROGRAM={program('ninja')}"]
    if SANITIZE:
        options += [f"-DPYGPT_SANITIZE={SANITIZE}", "-DPYGPT_WERROR=ON"]
    if source := gtest_source():
        options.append(f"-DPYGPT_GTEST_SOURCE={source}")
    cmake = program("cmake")
    quiet(cmake, "-S", ROOT, "-B", folder, "-G", "Ninja", *options)
    quiet(cmake, "--build", folder)
    return folder


@pytest.mark.parametrize("suite", SUITES)
def test_suite(build: Path, suite: str) -> None:
    printed = quiet(build / "tests" / "cpp" / "pygpt_tests", f"--gtest_filter={suite}.*", "--gtest_brief=1")
    assert re.search(r"\[  PASSED  \] [1-9]", printed), printed


def test_no_suite_is_left_out(build: Path) -> None:
    listed = quiet(build / "tests" / "cpp" / "pygpt_tests", "--gtest_list_tests")
    assert sorted(re.findall(r"^(\w+)\.$", listed, re.M)) == SUITES


@pytest.mark.skipif(SANITIZE != "", reason="sanitizers add symbols of their own")
@pytest.mark.parametrize("isa", sorted(f.stem for f in (ROOT / "csrc" / "kernels" / "isa").glob("*.cpp")))
def test_an_instruction_set_offers_one_symbol_only(build: Path, isa: str) -> None:
    """Its table, or the one product, or format of products, by which it differs from another's table.

    Any other global symbol, weak ones above all, could be chosen by the linker for machines that cannot run it.
    """
    objects = [f for f in build.rglob(f"{isa}.cpp.o") if f.parent.name == "isa"]
    if not objects:
        pytest.skip(f"{isa} is not built for this machine")
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm (binutils) is not installed")
    name = "".join(part.capitalize() for part in isa.split("_"))
    table, product = f"pygpt::k{name}Kernels", f"pygpt::linear_int8_{isa}(pygpt::LinearInt8Args const&)"
    offered = quiet(nm, "--defined-only", "--extern-only", "--demangle", objects[0]).split("\n")
    assert [line.split(maxsplit=2)[2] for line in offered if line] in (
        [table],
        [product],
        [f"pygpt::k{name}Matmul"],
    )
    assert not re.search(r" [VvWwu] ", quiet(nm, "--demangle", objects[0])), "a weak symbol"
    # A table that has to be filled at start-up runs this instruction set's code before anybody chose it.
    assert "_GLOBAL__sub_I" not in quiet(nm, objects[0])
