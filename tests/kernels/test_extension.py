"""The compiled extension as a file: what it offers to the process that loads it."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from pygpt import _core

DYNAMIC_SYMBOLS = 11  # SHT_DYNSYM
UNDEFINED = 0  # SHN_UNDEF
LOCAL = 0  # STB_LOCAL: for relocations, not for others


def exported(path: Path) -> list[str]:
    """The names that a 64-bit little-endian ELF file offers in its dynamic symbol table."""
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"
    (sections_at,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    # name, type, flags, address, offset, size, link, info, alignment, size of an entry
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + i * size) for i in range(count)]
    names = []
    for _, kind, _, _, offset, length, strings, _, _, entry in sections:
        if kind != DYNAMIC_SYMBOLS:
            continue
        for at in range(offset, offset + length, entry):
            name, info, _other, section = struct.unpack_from("<IBBH", data, at)
            if section != UNDEFINED and info >> 4 != LOCAL:
                start = sections[strings][4] + name
                names.append(data[start : data.index(b"\0", start)].decode())
    return names


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
def test_the_extension_offers_its_entry_only() -> None:
    """Symbols of a C++ library of its own, linked statically, would mix with those of other extensions."""
    assert exported(Path(_core.__file__)) == ["PyInit__core"]
