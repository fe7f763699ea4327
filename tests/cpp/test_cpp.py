"""Builds the C++ unit tests with CMake and runs them, one test here for each suite there.

`PYGPT_SANITIZE=address,undefined pytest tests/cpp` builds them with these sanitizers, and with warnings as errors.
`PYGPT_CROSS=aarch64-linux-gnu pytest tests/cpp` builds them with the cross compiler of that name, with warnings as
errors too, and runs them in QEMU's user mode, as a processor that has everything and as older ones. CXX=clang++ takes
another compiler, again with warnings as errors. The build folder stays in build/, so that a second run compiles only
what changed.
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
CROSS = os.environ.get("PYGPT_CROSS", "")
COMPILER = os.environ.get("CXX", "")
MACHINE = CROSS.split("-")[0]
# QEMU's user mode cannot start a thread in the child of a process with threads.
NOT_EMULATED = ["*.AChildProcessFinishes", "*.AChildForkedInsideACallFinishes"]
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


def run(build: Path, *arguments: str, cpu: str = "max") -> str:
    """What the tests print; of another kind of processor in the emulator."""
    program = build / "tests" / "cpp" / "pygpt_tests"
    emulator = [f"qemu-{MACHINE}", "-cpu", cpu, "-L", f"/usr/{CROSS}"] if CROSS else []
    return quiet(*emulator, program, *arguments)


def quiet(*command: str | Path, timeout: float = 900) -> str:
    """What a command prints; if it fails, so does the test, and shows it."""
    # The thread sanitizer ends a child that starts threads after fork() unless told otherwise: pygpt's may.
    environment = {**os.environ, "TSAN_OPTIONS": "die_after_fork=0:" + os.environ.get("TSAN_OPTIONS", "")}
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env=environment,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as hanging:
        pytest.fail(f"{hanging}: {hanging.output!r}", pytrace=False)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))} exited with {done.returncode}:\n{done.stdout}", pytrace=False)
    return done.stdout


@pytest.fixture(scope="module")
def build() -> Path:
    """The folder of the finished build."""
    folder = ROOT / "build" / "-".join(["cpp", *filter(None, [Path(COMPILER).name, CROSS, *SANITIZE.split(",")])])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "CMakeCache.txt").unlink(missing_ok=True)  # it may name tools and paths of another day
    options = ["-DPYGPT_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_MAKE_PROGRAM={program('ninja')}"]
    if SANITIZE or CROSS or COMPILER:
        options += [f"-DPYGPT_SANITIZE={SANITIZE}", "-DPYGPT_WERROR=ON"]
    if CROSS:
        options += ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={MACHINE}"]
        options += [f"-DCMAKE_CXX_COMPILER={CROSS}-g++"]
    if source := gtest_source():
        options.append(f"-DPYGPT_GTEST_SOURCE={source}")
    cmake = program("cmake")
    quiet(cmake, "-S", ROOT, "-B", folder, "-G", "Ninja", *options)
    quiet(cmake, "--build", folder, timeout=3600)  # beside other work
    return folder


@pytest.mark.parametrize("suite", SUITES)
def test_suite(build: Path, suite: str) -> None:
    left_out = "-" + ":".join(NOT_EMULATED) if CROSS else ""
    printed = run(build, f"--gtest_filter={suite}.*{left_out}", "--gtest_brief=1")
    assert re.search(r"\[  PASSED  \] [1-9]", printed), printed


def test_no_suite_is_left_out(build: Path) -> None:
    listed = run(build, "--gtest_list_tests")
    assert sorted(re.findall(r"^(\w+)\.$", listed, re.M)) == SUITES


@pytest.mark.skipif(MACHINE != "aarch64", reason="only the emulator has other processors: PYGPT_CROSS")
@pytest.mark.parametrize("cpu", ["cortex-a72", "cortex-a76"])  # without and with the dot product
def test_older_processors(build: Path, cpu: str) -> None:
    """They have no instruction that a table which they may run does not need: the emulator would end the program."""
    printed = run(build, "--gtest_filter=Features.*:Select.*:KnownAnswers.*", "--gtest_brief=1", cpu=cpu)
    assert re.search(r"\[  PASSED  \] 1\d", printed), printed


def objects(build: Path, source: Path) -> list[Path]:
    """The object files of a source of the core, as this build has them."""
    place = source.relative_to(ROOT).parent / f"{source.name}.o"
    return [f for f in build.rglob(place.name) if f.as_posix().endswith(place.as_posix())]


def symbols(*command: str | Path) -> list[str]:
    nm = shutil.which(f"{CROSS}-nm" if CROSS else "nm")
    if nm is None:
        pytest.skip("nm (binutils) is not installed")
    return quiet(nm, *command).splitlines()


def int8_products(name: str) -> str:
    return (
        f"pygpt::attention_int8_{name}(pygpt::AttentionArgs const&) pygpt::linear_int8_{name}(pygpt::LinearArgs const&)"
    )


# What each instruction set's translation unit offers: its table, or the products, or format of products, by which it
# differs from another's table.
OFFERED = {
    "kernels/isa/scalar": "pygpt::kScalarKernels",
    "kernels/isa/neon": "pygpt::kNeonKernels",
    "kernels/isa/dotprod": int8_products("dotprod"),
    "kernels/isa/i8mm": "pygpt::linear_int8_i8mm(pygpt::LinearArgs const&)",
    "kernels/isa/avx2": "pygpt::kAvx2Kernels",
    "kernels/isa/avxvnni": int8_products("avxvnni"),
    "kernels/isa/avx512": "pygpt::kAvx512Kernels",
    "kernels/isa/avx512vnni": int8_products("avx512vnni"),
    "kernels/isa/amx": "pygpt::linear_int8_amx(pygpt::LinearArgs const&)",
    "kernels/isa/amx_attention": "pygpt::attention_int8_amx(pygpt::AttentionArgs const&)",
    "kernels/training/isa/scalar": "pygpt::kScalarTraining",
    "kernels/training/isa/neon": "pygpt::kNeonTraining",
    "kernels/training/isa/avx2": "pygpt::kAvx2Training",
    "kernels/training/isa/avx512": "pygpt::kAvx512Training",
    "kernels/training/isa/amx_bf16": "pygpt::kAmxBf16Matmul",
    "kernels/training/isa/avx512_bf16": "pygpt::kAvx512Bf16Matmul",
    "kernels/training/isa/avx512_bf16_attention": "pygpt::kAvx512Bf16Attention",
}


def test_every_instruction_set_is_named_here() -> None:
    units = (ROOT / "csrc").rglob("isa/*.cpp")
    assert sorted(OFFERED) == sorted(f.relative_to(ROOT / "csrc").with_suffix("").as_posix() for f in units)


@pytest.mark.skipif(SANITIZE != "", reason="sanitizers add symbols of their own")
@pytest.mark.parametrize("unit", OFFERED)
def test_an_instruction_set_offers_these_symbols_only(build: Path, unit: str) -> None:
    """Any other global symbol, weak ones above all, could be chosen by the linker for machines that cannot run it."""
    found = objects(build, ROOT / "csrc" / f"{unit}.cpp")
    if not found:
        pytest.skip(f"{unit} is not built for this machine")
    offered = symbols("--defined-only", "--extern-only", "--demangle", found[0])
    assert " ".join(sorted(line.split(maxsplit=2)[2] for line in offered)) == OFFERED[unit]
    everything = symbols("--demangle", found[0])
    assert [line for line in everything if re.search(r" [VvWwu] ", line)] == [], "a weak symbol"
    # A table that has to be filled at start-up runs this instruction set's code before anybody chose it.
    assert [line for line in everything if "_GLOBAL__sub_I" in line] == []
