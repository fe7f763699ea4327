r"""The regular expressions that cut up text before merging.

Those of tokenizer.json are Oniguruma's; here tiktoken's engine (fancy-regex) runs them, and the package `regex` where
tiktoken's cannot. What all three take to mean the same is passed on, some is translated, and the rest is refused by
name, and left to Hugging Face's own library: an expression that is nearly understood would give other ids for some
texts.

Which characters are letters or digits follows the Unicode version of each engine.
"""

from __future__ import annotations

import re

from pygpt.tokenizer.vocabulary import InexpressibleError

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
NUMBER = r"\p{N}"
_LINES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = _LINES % "{1,3}"
QWEN2 = _LINES % ""
_WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+%s|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*%s|"
    r"\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = _WORDS % (_ENDING, _ENDING, "{1,3}")
TEKKEN = _WORDS % ("", "", "")
# NUMBER and then GPT2 in one expression: to whitespace, a digit is the end of the text (SmolLM).
_DIGITS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
ANY_CHARACTER = r"[\s\S]"

COVERING = frozenset({GPT2, LLAMA3, QWEN2, GPT4O, TEKKEN, _DIGITS, ANY_CHARACTER})
"""Expressions known to leave out no text."""

_PROPERTIES = {
    *("L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "C", "Cc", "Cf", "Co", "Cn"),
    *("P", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp"),
    *("Han", "Hiragana", "Katakana", "Hangul", "Latin", "Greek", "Cyrillic", "Arabic", "Hebrew", "Thai", "Devanagari"),
}
_SAME = frozenset("sSdDrntfv")
_WORD = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}²³¹¼½¾"  # Oniguruma's \w; that of the others has two joiners, not these
_TOKEN = re.compile(
    r"\\p\{(?P<no>\^?)(?P<property>\w+)\}|\\P\{(?P<not>\w+)\}|\\x\{(?P<hex>[0-9A-Fa-f]{1,6})\}|"
    r"\\(?:x(?P<x>[0-9A-Fa-f]{2})|u(?P<u>[0-9A-Fa-f]{4}))|\\(?P<escape>.)|"
    r"(?P<group>\((?:\?(?:[:=!>]|<[=!]|i:))?)|"
    r"(?P<repeat>(?:[*+?]|\{\d+(?:,\d*)?\})[?+]?)|(?P<other>.)",
    re.S,
)
# Case-insensitive, Oniguruma also takes one character for two: for ss a sharp s, for st, ff, fi, fl their ligatures.
_TWO_IN_ONE = re.compile("ss|st|f[fil]|[^\x00-\x7f]", re.I)


def single(splits: tuple[str, ...]) -> str | None:
    """One expression that does what several do one after the other, where there is one."""
    if splits == (NUMBER, GPT2):
        return _DIGITS
    return splits[0] if len(splits) == 1 else None


def overflows(expression: str) -> bool:
    r"""Whether a long run of other characters than whitespace may be too much for tiktoken's engine: it needs a stack
    for an alternative that looks around. `\s+(?!\S)`, which nearly all have, needs it for whitespace only."""
    rest = expression.replace(r"|\s+(?!\S)", "").replace(r"|\s+(?![^\s\p{N}])", "")
    return re.search(r"\(\?(?:[=!]|<[=!])", rest) is not None


def translated(expression: str, where: str) -> str:
    """An expression of Oniguruma's for the other engines. InexpressibleError, which begins with `where`, for what is
    not the same there."""
    return _Translation(expression, where).result


class _Translation:
    """One walk over an expression."""

    def __init__(self, expression: str, where: str) -> None:
        self._expression, self._where = expression, where
        self._class: str | None = None  # where inside [...]: the last thing read there
        self._nested = 0  # classes open in that one
        self._insensitive: list[bool] = []  # for each open group
        self._literal = ""  # the letters read one after the other in a case-insensitive group
        self._repeatable = False
        parts = []
        at = 0
        while at < len(expression):
            match = _TOKEN.match(expression, at)
            assert match is not None  # its last alternative takes any character
            parts.append(self._one(match))
            at = match.end()
        if self._class is not None or self._insensitive:
            raise self._refused("an open group or class")
        self.result = "".join(parts)

    def _refused(self, what: str) -> InexpressibleError:
        return InexpressibleError(
            f"{self._where}: the expression {self._expression[:200]!r} has {what}, which pygpt cannot take over exactly"
        )

    def _one(self, match: re.Match[str]) -> str:
        found = match[0]
        kind = match.lastgroup
        if kind in ("property", "not"):
            name = match["property"] or match["not"]
            if name not in _PROPERTIES:
                raise self._refused(f"the property {found}")
            negative = bool(match["no"]) or kind == "not"
            return self._set(rf"\{'P' if negative else 'p'}{{{name}}}")
        if kind in ("hex", "x", "u"):
            code = int(match[kind], 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000 or (kind == "x" and code > 0x7F):
                raise self._refused(found)  # \xHH of Oniguruma is a byte
            return self._character(chr(code))
        if kind == "escape":
            return self._escape(match["escape"])
        if self._class is not None:
            return self._in_class(match)
        if kind == "group":
            return self._group(found, match.end())
        if kind == "repeat":
            return self._repeat(found)
        return self._plain(found)

    def _set(self, text: str) -> str:
        """Something that stands for any of several characters."""
        self._literal, self._repeatable = "", True
        if self._class is not None:
            if self._class == "-":
                raise self._refused("a range without an end")
            self._class = "set"
        return text

    def _escape(self, letter: str) -> str:
        if letter in _SAME:
            if letter in "sSdD":
                return self._set({"d": r"\p{Nd}", "D": r"\P{Nd}"}.get(letter, "\\" + letter))
            return self._character({"r": "\r", "n": "\n", "t": "\t", "f": "\f", "v": "\v"}[letter])
        if letter == "w":
            return self._set(_WORD if self._class is not None else f"[{_WORD}]")
        if letter == "W" and self._class is None:
            return self._set(f"[^{_WORD}]")
        if letter == "h":
            return self._set("0-9A-Fa-f" if self._class is not None else "[0-9A-Fa-f]")
        if letter.isascii() and letter.isalnum():
            raise self._refused(f"\\{letter}")
        return self._character(letter)

    def _character(self, letter: str) -> str:
        self._repeatable = True
        if any(self._insensitive):
            if self._class is None:
                self._literal += letter
            if _TWO_IN_ONE.search(self._literal if self._class is None else letter):
                raise self._refused("letters that one character may stand for, regardless of case")
        if self._class is not None:
            if self._class == "-" and letter == "-":
                raise self._refused("a doubtful '-' in a class")
            self._class = "end" if self._class == "-" else "character"
        return "\\" + letter if letter.isascii() and not letter.isalnum() and letter.isprintable() else letter

    def _in_class(self, match: re.Match[str]) -> str:
        out = ""
        for letter in match[0]:  # what means something outside a class means itself here
            out += self._class_letter(letter, match.end())
        return out

    def _class_letter(self, letter: str, end: int) -> str:
        if letter == "]":
            if self._nested:
                self._nested -= 1
                return self._set("")
            if self._class in ("start", None):
                raise self._refused("an empty class")
            closing = r"\-]" if self._class == "-" else "]"
            self._class, self._repeatable = None, True
            return closing if closing == "]" else "]"
        if letter == "[":  # a class in a class: those of both
            if self._class == "-" or self._expression[end : end + 1] in ("^", "]", ":", "-"):
                raise self._refused("a doubtful class in a class")
            self._nested += 1
            return self._set("")
        if letter == "&" and self._expression[end : end + 1] == "&":
            raise self._refused("&&")
        if letter == "^" and self._class == "start":
            self._class = "start^"
            return "^"
        if letter == "-":
            following = self._expression[end : end + 1]
            if self._class == "character" and following != "]":
                self._class = "-"
                return "-"
            if (self._class not in ("start", "start^") and following != "]") or self._nested:
                raise self._refused("a doubtful '-' in a class")
            self._class = "end"
            return r"\-"
        return self._character(letter)

    def _group(self, opening: str, end: int) -> str:
        if opening == "(" and self._expression[end : end + 1] in ("?", "*"):
            raise self._refused(self._expression[end - 1 : end + 3])
        self._literal, self._repeatable = "", False
        self._insensitive.append(opening == "(?i:")
        return "(?:" if opening == "(" else opening

    def _repeat(self, found: str) -> str:
        counted = found[0] == "{"  # {n}? and {n,m}+ mean something else to Oniguruma
        if not self._repeatable or (counted and (found[-1] == "+" or (found[-1] == "?" and "," not in found))):
            raise self._refused(f"the repetition {found}")
        self._literal, self._repeatable = "", False
        return found

    def _plain(self, letter: str) -> str:
        if letter == "[":
            self._class, self._literal = "start", ""
            return "["
        if letter == ")" and self._insensitive:
            self._insensitive.pop()
            self._literal, self._repeatable = "", True
            return ")"
        if letter == "|":
            self._literal, self._repeatable = "", False
            return "|"
        if letter == ".":
            return self._set(".")
        if letter in "^$)]{}":
            raise self._refused(repr(letter))
        return self._character(letter)
