"""Files that take the place of others at once, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pygpt.checkpoint.folder import replacing


def test_a_full_disk_is_told_by_the_file_and_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    path.write_text("before", encoding="utf-8")

    def write() -> None:
        with replacing(path) as partial:
            partial.write_text("half", encoding="utf-8")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write raises it, of no file

    with pytest.raises(OSError, match=rf"{os.strerror(errno.ENOSPC)}: '.*chat\.json'"):
        write()
    assert [file.name for file in tmp_path.iterdir()] == ["chat.json"]
    assert path.read_text(encoding="utf-8") == "before"
