# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads expressions in the values of CONTEXT: $NAME, $NIC[IP], $NETWORK[DNS, NETWORK="Public"].

| written                       | means                                                                   |
|-------------------------------|-------------------------------------------------------------------------|
| `$NAME`                       | a single value of the machine                                           |
| `$VECTOR[ATTRIBUTE]`          | the attribute of the first vector of that name                          |
| `$VECTOR[ATTRIBUTE, KEY="v"]` | of the first one whose KEY is v; `\\"v\\"`, `'v'` and v are the same      |
| `$VECTOR[KEY="v"]`            | the vector itself (a file: `$FILE[IMAGE="init.sh"]`)                    |
| `\\$NAME`                      | the text `\\$NAME`: a backslash stays, and so does what follows it        |
| `$NAME\\$OTHER`               | both, with the backslash between: what follows an expression is text    |
| `$$NAME`                      | the text `$NAME`; each further `$` before it is one more in the text    |

What is not known becomes nothing, with a warning that names it, or where it may be part of a password its place. A
`$` that no name follows is itself: `$`, `$$`, `$(…)`, `${…}`, `$1`. Names are taken in any case. What an expression
gives is not read again.

`$$NAME` and a `$` that no name follows are ours, for values from YAML: OpenNebula refuses both. What every engine takes
is an attribute outside of CONTEXT that holds the text, and its name within: `PRICE = "5$"`, `COST = "$PRICE"`.
refused() says what in a value OpenNebula does not take."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from ..dataclass import dataclass

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BLANKS = re.compile(r"[ \t\r\n]*")
# OpenNebula's own notion of a name, and what it does not take after one.
_WORD = re.compile(r"[A-Za-z0-9_]+")
_OF_SELECTORS = re.compile(r"\[|[ \t]*[],=]")
CDATA_END = "]]>"
# A selector that goes on for longer is not one; it also keeps the time linear when brackets are never closed.
_LONGEST_SELECTOR = 1024
_EXPLAINED = 3
# As templates write the names of variables, and what does not stand right behind one that is no part of a password.
_PLAIN = re.compile(r"\$[A-Z][A-Z0-9_]{0,63}(?![A-Za-z0-9_!%*^~`#$\\])")


@dataclass(frozen=True)
class Expression:
    """Describes an expression: name, attribute and key ("" if not given) are in upper case, the value is as written."""

    name: str
    attribute: str = ""
    key: str = ""
    value: str = ""

    @property
    def is_vector(self) -> bool:
        return bool(self.attribute or self.key)


@dataclass(frozen=True)
class Scope:
    """Says what names stand for. All names are in upper case. A vector's own value ($FILE[IMAGE="x"]) has the key "".
    without: why known names have no value here, by NAME and ATTRIBUTE ("" for the vector's own value)."""

    singles: Mapping[str, str] = field(default_factory=dict, repr=False)
    vectors: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict, repr=False)
    without: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def find(self, expression: Expression) -> str | None:
        if not expression.is_vector:
            return self.singles.get(expression.name)
        for vector in self.vectors.get(expression.name, ()):
            if not expression.key or vector.get(expression.key) == expression.value:
                return vector.get(expression.attribute)
        return None

    def explain(self, expression: Expression, shown: str, place: str) -> str:
        """Return why the expression is not known. shown: its name as it was written, "" if that may as well be part of
        a password. place: where it stands."""
        why = self.without.get((expression.name, expression.attribute))
        if why:
            attribute = expression.attribute or (f"{expression.key}=…" if expression.key else "")
            return f"${expression.name}" + (f"[{attribute}]" if attribute else "") + f" is empty here: {why}"
        if not expression.is_vector:
            if expression.name in self.vectors:
                return f"${expression.name} needs an attribute: ${expression.name}[…]"
            what = f"{shown}, which is not known{place}" if shown else f"a $NAME that is not known{place}"
            return f"it holds {what}" + _hint("$", expression.name, self.singles)
        vectors = self.vectors.get(expression.name)
        if not vectors:
            what = f"{shown}[…], which the machine does not have" if shown else "a $VECTOR[…] that it does not have"
            return f"it holds {what}{place}" + _hint("$", expression.name, self.vectors)
        fitting = [v for v in vectors if not expression.key or v.get(expression.key) == expression.value]
        if not fitting:
            if any(expression.key in v for v in vectors):
                values = [v[expression.key] for v in vectors if expression.key in v]
                return f"there is no {expression.name} with that {expression.key}{place}" + _hint(
                    "", expression.value, values
                )
            return f"{expression.name} can't be chosen by that key{place}" + _hint("", expression.key, _keys(vectors))
        attribute = f"attribute {expression.attribute}" if shown else "that attribute"
        return f"{expression.name} does not have {attribute}{place}" + _hint(
            "", expression.attribute, _keys(fitting[:1])
        )


def replace_expressions(text: str, scope: Scope, secret: bool = False) -> tuple[str, list[str]]:
    """Return the text with every expression replaced, and a clause for each of the first few that are not known.
    secret: whether any word of the text may be part of a password, so that no word is repeated."""
    unknown: dict[Expression, int] = {}
    parts = []
    for start, part in _parts(text):
        if isinstance(part, Expression):
            value = scope.find(part)
            if value is None:
                unknown.setdefault(part, start)
            parts.append(value or "")
        else:
            parts.append(part)
    # Looking for near misses takes time: what holds a hundred of them is a script, or no template.
    return "".join(parts), [
        scope.explain(expression, "" if secret else _safe_name(text, start), _place(text, start, secret))
        for expression, start in list(unknown.items())[:_EXPLAINED]
    ]


def _safe_name(text: str, start: int) -> str:
    """Return the $NAME that begins there, "" if it may as well be part of a password or of its hash."""
    # user:password is a common form.
    found = None if start and (text[start - 1].isalnum() or text[start - 1] == ":") else _PLAIN.match(text, start)
    return found.group() if found else ""


def _place(text: str, start: int, secret: bool) -> str:
    """Return where the expression stands, "" if its name tells enough."""
    if "\n" not in text and not secret and _safe_name(text, start):
        return ""
    line = text.count("\n", 0, start) + 1
    return f" (line {line}, column {start - text.rfind(chr(10), 0, start)} of the value)"


def refused_by_opennebula(text: str) -> tuple[int, str] | None:
    """Return where a real OpenNebula refuses a value of CONTEXT, and what is there; None if it takes the value.

    Its parser wants a name after each $, and takes a comma, = or ] behind a name, with or without blanks between, for
    part of a selector. What was written is not repeated: it may as well be part of a password."""
    end = text.find(CDATA_END)
    place, limit, read = 0, len(text) if end < 0 else end, 0
    while True:
        dollar = text.find("$", place, limit)
        if dollar < 0:
            return None if end < 0 else (end, CDATA_END)
        name = _WORD.match(text, dollar + 1)
        if _is_escaped(text, dollar, read):
            place = dollar + 1
        elif name is None:
            after = text[dollar + 1 : dollar + 2]
            return dollar, f"${after}" if after in ("$", "(", "{") else "a $ that no name follows"
        else:
            _expression, place = _selector(name.group().upper(), text, name.end())
            read = place + 1
            follows = _OF_SELECTORS.match(text, place)
            if follows is not None:
                return follows.end() - 1, f"a {follows.group()[-1]} right after a variable"


def expressions(text: str) -> list[Expression]:
    """Return every expression in the text, in order."""
    return [part for _start, part in _parts(text) if isinstance(part, Expression)]


def _parts(text: str) -> Iterator[tuple[int, str | Expression]]:
    """Yield each piece of text and each expression, with the place where it begins."""
    place, read = 0, 0
    while True:
        dollar = text.find("$", place)
        if dollar < 0:
            yield place, text[place:]
            return
        yield place, text[place:dollar]
        if _is_escaped(text, dollar, read):
            yield dollar, "$"
            place = dollar + 1
            continue
        end = dollar + 1
        while text.startswith("$", end):
            end += 1
        name = _NAME.match(text, end)
        if name is None:
            yield dollar, text[dollar:end]
            place = end
        elif end - dollar > 1:
            yield dollar, text[dollar + 1 : name.end()]
            place = name.end()
        else:
            expression, place = _selector(name.group().upper(), text, name.end())
            # OpenNebula's lexer reads one character beyond an expression, and takes it as it is.
            read = place + 1
            yield dollar, expression


def _is_escaped(text: str, place: int, read: int) -> bool:
    """Return whether an odd number of backslashes stands before that place. read: the place from which they count."""
    start = place
    while start > read and text[start - 1] == "\\":
        start -= 1
    return bool((place - start) % 2)


def _selector(name: str, text: str, place: int) -> tuple[Expression, int]:
    """Return the expression whose name ends at `place`, and where it ends. Brackets that hold no selector stay text."""
    plain = Expression(name), place
    if not text.startswith("[", place):
        return plain
    limit = place + _LONGEST_SELECTOR
    first, place = _word(text, place + 1, limit)
    if not first:
        return plain
    attribute, key = first.upper(), ""
    if text.startswith(",", place):
        second, place = _word(text, place + 1, limit)
        if not second or not text.startswith("=", place):
            return plain
        key = second.upper()
    elif text.startswith("=", place):
        attribute, key = "", attribute
    value = ""
    if key:
        found = _value(text, place + 1, limit)
        if found is None:
            return plain
        value, place = found
    if not text.startswith("]", place):
        return plain
    return Expression(name, attribute, key, value), place + 1


def _word(text: str, place: int, limit: int) -> tuple[str, int]:
    """Return a name, and where the blanks after it end; ("", …) if there is none."""
    place = _skip(text, place, limit)
    found = _NAME.match(text, place, limit)
    if found is None:
        return "", place
    return found.group(), _skip(text, found.end(), limit)


def _value(text: str, place: int, limit: int) -> tuple[str, int] | None:
    place = _skip(text, place, limit)
    for quote in ('\\"', '"', "'"):
        if text.startswith(quote, place):
            end = text.find(quote, place + len(quote), limit)
            return None if end < 0 else (text[place + len(quote) : end], _skip(text, end + len(quote), limit))
    end = text.find("]", place, limit)
    return None if end < 0 else (text[place:end].rstrip(" \t\r\n"), end)


def _skip(text: str, place: int, limit: int) -> int:
    found = _BLANKS.match(text, place, limit)
    return found.end() if found else place


def _keys(vectors: Sequence[Mapping[str, str]]) -> list[str]:
    return sorted({key for vector in vectors for key in vector if key})


def _hint(prefix: str, word: str, known: Sequence[str] | Mapping[str, object]) -> str:
    import difflib

    near = difflib.get_close_matches(word[:128], list(known), n=1, cutoff=0.6)
    return f" (is {prefix}{near[0]} meant?)" if near else ""
