"""Writes csrc/tokenizer/unicode_classes.h: the classes of characters that tiktoken's expressions tell apart, by the
tables of the installed tiktoken.

    python tests/make_unicode_classes.py
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import tiktoken

CLASSES = {  # as enum class CharClass has them; each character is in one of them at most
    "space": r"[\s&&[^\r\n]]",
    "newline": r"[\r\n]",
    "number": r"\p{N}",
    "upper": r"[\p{Lu}\p{Lt}]",
    "lower": r"\p{Ll}",
    "letter": r"[\p{Lm}\p{Lo}]",
    "mark": r"\p{M}",
}
HEADER = Path(__file__).resolve().parent.parent / "csrc" / "tokenizer" / "unicode_classes.h"
TOP = """// Written by tests/make_unicode_classes.py, by the tables of tiktoken %s: not to be edited.
#pragma once

#include <cstdint>

namespace pygpt {

// Where the characters of one class begin, in order: 16 times the code point, plus the class.
// clang-format off
constexpr std::uint32_t kClassStarts[] = {
"""
BOTTOM = """
};
// clang-format on

}  // namespace pygpt
"""


def members(expression: str) -> set[int]:
    """The code points that an expression of one character matches."""
    bytes_only = tiktoken.Encoding(
        "classes", pat_str=expression, mergeable_ranks={bytes([b]): b for b in range(256)}, special_tokens={}
    )
    found: set[int] = set()
    for begin in range(0, 0x110000, 1 << 12):
        text = "".join(chr(c) for c in range(begin, begin + (1 << 12)) if not 0xD800 <= c < 0xE000)
        found |= {ord(c) for c in bytes(bytes_only.encode_ordinary(text)).decode()}
    return found


def main() -> None:
    class_of = dict.fromkeys(range(0x110000), 0)
    for number, expression in enumerate(CLASSES.values(), start=1):
        class_of |= dict.fromkeys(members(expression), number)
    starts = [16 * next(group)[0] + number for number, group in groupby(class_of.items(), key=lambda item: item[1])]
    lines, line = [], "   "
    for start in starts:
        if len(line) + len(f" {start:#x},") > 120:
            lines.append(line)
            line = "   "
        line += f" {start:#x},"
    HEADER.write_text(TOP % tiktoken.__version__ + "\n".join([*lines, line]) + BOTTOM)


if __name__ == "__main__":
    main()
