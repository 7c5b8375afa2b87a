# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads OpenNebula's template syntax.

    # a comment
    NAME = web                         an attribute: a single value, unquoted
    DESCRIPTION = "two
    lines, \\"quoted\\""               quoted values may hold anything; \\" is the only escape
    DISK = [ IMAGE = "debian",         a vector; attributes may be repeated
             TARGET = vda ]

What OpenNebula's own parser drops without a word (stray characters, text after a closing quote) is an error here, and
so is a line's end where a vector needs a comma, as in an example of its older documents. One thing is read that today's
OpenNebula does not take and those documents show: `$NIC[IP, NETWORK="Public"]` without quotes.

What a real OpenNebula refuses in the values of CONTEXT is refused in the text that users give (as_template), with the
way to write it instead: text/variable_substitution.py has the list."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidValue, TemplateSyntaxError
from ..model.dataclass_json import json_value
from ..model.template import Template, Value, Vector, attribute_name, is_secret, vector_key
from . import context_sh
from .variable_substitution import CDATA_END, refused_by_opennebula

_BLANK = " \t\r"
_SPACE = " \t\r\n"
# What OpenNebula takes from the ends of what it is given: isspace() of C.
_ENDS = " \t\r\n\v\f"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_ENDS_VALUE = frozenset(" \t\r\n=#,[]")
# Characters of the user's own that an error shows.
_SHOWN = 100
# Never expanded: the guest's shell reads them.
_SCRIPTS = ("START_SCRIPT", "START_SCRIPT_BASE64")
# A line's end after a backslash, and one after an escaped quote with what may stand behind a value.
_CONTINUED = re.compile(r"[ \t\r]*(?:\n|\Z)")
_LEFT_OPEN = re.compile(r'\\"[ \t\r]*[,\]]?[ \t\r]*\n')
# With what a quote that was not escaped leaves behind it.
_QUOTED = re.compile(r'"(?:[^"]|(?<=\\)")*(?:"[^\s",\]#]*)?')
_UNQUOTED = re.compile(r'(=[ \t]*)[^\s"\[=,\]][^"=,\]]*')


def parse(text: str, what: str = "template", as_opennebula: bool = False) -> Template:
    """Return the template that the text says. Raise TemplateSyntaxError for malformed text.
    what: names the object in errors.
    as_opennebula: whether to read the text as a real OpenNebula takes it from its users: what it refuses in the values
    of CONTEXT raises too, and these values lose blanks and line ends at both ends. Stored text is read without."""
    return _Scanner(text, what, as_opennebula).template()


def as_template(given: Any, what: str) -> Template:
    """Return a template as users give it: OpenNebula's text, a dict with the same meaning, or that dict as JSON."""
    if isinstance(given, Mapping):
        return _from_mapping(given, what)
    if not isinstance(given, str):
        raise InvalidValue(what, f"it is a {type(given).__name__}", "Give OpenNebula's text, or a dict of attributes")
    if not given.lstrip().startswith("{"):
        return parse(given, what, as_opennebula=True)
    try:
        mapping = json_value(given)
    except ValueError as error:
        # Its text may hold secrets: the error names the place only.
        place = f"character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise InvalidValue(what, f"it begins with a brace, and is no JSON ({place})", "Correct it") from None
    return _from_mapping(mapping, what)


def _from_mapping(mapping: Mapping[Any, Any], what: str) -> Template:
    template = Template.from_mapping(mapping, what)
    for name, value in template.attributes:
        for key, text in ((name, value),) if isinstance(value, str) else value:
            if _surrogate_at(text) >= 0:
                where = name if isinstance(value, str) else f"{name}/{key}"
                raise InvalidValue(
                    f"{what}: {where}", "its value is not text (no UTF-8)", "Encode it, for example in base64"
                )
    for context in template.vectors("CONTEXT"):
        context_sh.refuse_names(context, f"{what}: CONTEXT")
    return template


def _surrogate_at(text: str) -> int:
    """Return where half a surrogate pair is, which stands for a byte that is no UTF-8; -1 if there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return -1


class _Scanner:
    """Reads the text in one pass from left to right; each character is looked at a fixed number of times."""

    def __init__(self, text: str, what: str, as_opennebula: bool) -> None:
        self.text = text
        self.what = what
        self.as_opennebula = as_opennebula
        self.at = 0
        self.name = ""
        # Behind the last quoted value that spans lines: what stands before it on its last line is its content.
        self.shown_from = 0
        # A backslash that may have been meant to do what none does here, and what it does: what is found wrong before
        # the next name and = were read is most likely its fault.
        self.blamed = -1
        self.because = ("", "")

    def template(self) -> Template:
        self.refuse_binary("a NUL character", self.text.find("\0"))
        self.refuse_binary("a byte that is no UTF-8", _surrogate_at(self.text))
        # A byte order mark is nothing that its author sees.
        self.at = 1 if self.text.startswith("\ufeff") else 0
        attributes: list[tuple[str, Value]] = []
        self.skip()
        while self.at < len(self.text):
            name = attribute_name(self.word("an attribute's name"), self.what)
            self.name = name
            self.equals(name)
            attributes.append((name, self.vector() if self.peek() == "[" else self.single(name, inside=False)))
            self.skip()
        return Template(tuple(attributes))

    # -- values -----------------------------------------------------------------------------------------------------
    def vector(self) -> Vector:
        opened = self.at
        self.at += 1
        pairs: list[tuple[str, str]] = []
        self.skip()
        if self.peek() == "]":
            self.at += 1
            return ()
        while True:
            self.refuse_unclosed(opened)
            key = vector_key(self.word(f"a name inside {self.name} = [ … ]"), self.what)
            self.equals(f"{self.name}/{key}")
            if self.peek() == "[":
                self.fail("a vector inside a vector", "Vectors can't be nested: write one value")
            pairs.append((key, self.single(key, inside=True)))
            ended = self.at
            newline = self.skip()
            self.refuse_unclosed(opened)
            if self.peek() == "]":
                self.blamed = -1
                self.at += 1
                return tuple(pairs)
            if self.peek() == ",":
                self.blamed = -1
                comma = self.at
                self.at += 1
                self.skip()
                if self.peek() == "]":
                    self.fail("a comma before the closing ]", "Remove the comma", comma)
            elif newline and self.name_and_equals_follow():
                self.fail(f"no comma after the value of {key}", f"Write it there: {self.line_with(',', ended)}", ended)
            else:
                self.fail(
                    f"{self.next_character()} after the value of {key}",
                    'Put a comma before it, or the value in "quotes"',
                )

    def refuse_unclosed(self, opened: int) -> None:
        if self.at >= len(self.text):
            self.fail(f"the [ of {self.name} is never closed", "Close it with ]", opened)

    def single(self, name: str, inside: bool) -> str:
        first = self.peek()
        if first == '"':
            return self.quoted(name)
        if first in ("", "\n") or (first == "," and inside) or (first == "]" and inside):
            if inside:
                self.fail(f"{name} has no value", f'Write {name} = "" for an empty one')
            return ""
        if first == "#":
            self.fail(f"the value of {name} would begin with #, which begins a comment", 'Put the value in "quotes"')
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in _ENDS_VALUE:
            self.at += 1
            if self.peek() == "[" and self.variable_before(start):
                self.index()
        if self.at == start:
            self.fail(f"{self.next_character()} where the value of {name} is expected", 'Put the value in "quotes"')
        value = self.text[start : self.at]
        if value.endswith("\\") and _CONTINUED.match(self.text, self.at):
            self.blamed = self.at - 1
            self.because = (
                f"a backslash at the end of the line is part of the value of {name}, and joins no lines",
                f"Begin the value of {name} on the line of its name, and put one of several lines in quotes",
            )
        self.nothing_follows(name)
        return self.final_value(name, value, start)

    def nothing_follows(self, name: str) -> None:
        """Fail if an unquoted value has a blank within it, or = or [ follows: the value should have been quoted."""
        here = self.at
        while self.peek() in (" ", "\t", "\r"):
            self.at += 1
        follows = self.peek()
        if follows in ("", "\n", "#", ",", "]") or self.name_and_equals_follow():
            self.at = here
            return
        self.fail(
            f"{self.next_character()} after the unquoted value of {name}", f'Put the whole value of {name} in "quotes"'
        )

    def variable_before(self, start: int) -> bool:
        """Return whether the characters just read end in $NAME."""
        position = self.at
        while position > start and self.text[position - 1] in _NAME:
            position -= 1
        return start < position < self.at and self.text[position - 1] == "$"

    def index(self) -> None:
        """Skip [IP] or [IP, NETWORK="Public"], with its ]."""
        opened = self.at
        quoted = False
        while self.at < len(self.text) and self.text[self.at] != "\n":
            character = self.text[self.at]
            self.at += 1
            if character == '"':
                quoted = not quoted
            elif character == "]" and not quoted:
                return
        self.fail("the [ after this variable is not closed on its line", "Close it with ]", opened)

    def quoted(self, name: str) -> str:
        opened = self.at
        start = opened + 1
        end = self.text.find('"', start)
        while end > start and self.text[end - 1] == "\\":
            end = self.text.find('"', end + 1)
        if end < 0:
            remedy = f"Close the value of {name} with a quote"
            if '"' in self.text[start:]:
                remedy += '. In quotes \\" is a quote: a value that ends in a backslash has to do without them'
            self.fail("the quote is never closed", remedy, opened)
        self.at = end + 1
        value = self.text[start:end]
        if "\n" in value:
            self.shown_from = end
            first = value[: value.index("\n") + 1]
            left_open = _LEFT_OPEN.search(first)
            # Quotes within a value come in pairs.
            if left_open is not None and first.count('\\"') % 2:
                self.blamed = start + left_open.start()
                self.because = (
                    f"the value of {name} does not end here: after a backslash a quote is part of it",
                    "Do without quotes for a value that ends in a backslash, or end it with a blank",
                )
        if self.at < len(self.text) and self.text[self.at] not in _ENDS_VALUE:
            self.fail(f"{self.next_character()} right after the closing quote", 'Write a quote inside a value as \\"')
        return self.final_value(name, value, start)

    def refuse_binary(self, what: str, position: int) -> None:
        if position >= 0:
            # Whose value it is in is not known yet.
            show = "CONTEXT" not in self.text[:position].upper()
            self.fail(what, "Encode binary values in base64", position, show)

    def final_value(self, name: str, written: str, start: int) -> str:
        """Return the value that is written there. Fail if a real OpenNebula would refuse it from a user."""
        value = written.replace('\\"', '"')
        if not self.as_opennebula or self.name != "CONTEXT":
            return value
        self.refuse_what_opennebula_does(name, value, start)
        return value.strip(_ENDS)

    def refuse_what_opennebula_does(self, name: str, value: str, start: int) -> None:
        """Refuse a value of CONTEXT, written there, that a real OpenNebula refuses."""
        if "$" not in value and CDATA_END not in value:
            return
        found = refused_by_opennebula(value.replace("$", "_") if name in _SCRIPTS else value)
        if found is None:
            return
        offset, what = found
        if what == CDATA_END:
            remedy = "Write it in base64 (a script in START_SCRIPT_BASE64), or give the template as a YAML dict"
        else:
            remedy = (
                "Put the text into an attribute outside of CONTEXT and name that one ($MY_ATTRIBUTE), a script into "
                "START_SCRIPT, or give the template as a YAML dict"
            )
        # Back to where it is written: each quote of the value before it has a backslash more.
        position = start
        for _character in range(offset):
            position += 2 if self.text.startswith('\\"', position) else 1
        self.fail(f"{what} in the value of CONTEXT/{name}, which OpenNebula refuses", remedy, position, show=False)

    # -- what stands between ----------------------------------------------------------------------------------------
    def skip(self) -> bool:
        """Skip blanks, line ends and comments. Return whether there was a line's end."""
        newline = False
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif character in _SPACE:
                newline = newline or character == "\n"
                self.at += 1
            else:
                break
        return newline

    def word(self, expected: str) -> str:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in _NAME:
            self.at += 1
        if self.at == start:
            remedy = "Names have letters, digits and _ only"
            if self.peek() == "[":
                remedy = "Put the [ of a vector on the line of its ="
            self.fail(f"{self.next_character()} where {expected} is expected", remedy)
        return self.text[start : self.at]

    def equals(self, name: str) -> None:
        """Skip = and the blanks around it: the value begins on the same line."""
        while self.peek() in (" ", "\t", "\r"):
            self.at += 1
        if self.peek() != "=":
            self.fail(f"{self.next_character()} after the name {name}, where = is expected", f'Write {name} = "…"')
        self.blamed = -1
        self.at += 1
        while self.peek() in (" ", "\t", "\r"):
            self.at += 1

    def name_and_equals_follow(self) -> bool:
        position = self.at
        while position < len(self.text) and self.text[position] in _NAME:
            position += 1
        if position == self.at:
            return False
        while position < len(self.text) and self.text[position] in _BLANK:
            position += 1
        return self.text[position : position + 1] == "="

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def next_character(self) -> str:
        character = self.peek()
        return {"": "the end", "\n": "the end of the line"}.get(character) or repr(character)

    def line_of(self, position: int) -> tuple[str, int]:
        """Return the line of that place, without content of a value over several lines, and the place in it."""
        end = self.text.find("\n", position)
        start = self.text.rfind("\n", 0, position) + 1
        if self.shown_from <= position:
            start = max(start, self.shown_from)
        return self.text[start : len(self.text) if end < 0 else end].rstrip("\r"), position - start

    def line_with(self, what: str, position: int) -> str:
        """Return the line of that place with this text put in, without what may be a secret."""
        line, column = self.line_of(position)
        return _excerpt(line[:column] + what + line[column:], column + 1, self.name)

    def fail(self, found: str, remedy: str, position: int | None = None, show: bool = True) -> None:
        """Raise the error for that place (default: here), with its line, without what may be a secret. show: whether to
        show the line at all."""
        position = self.at if position is None else position
        if 0 <= self.blamed < position:
            position, (found, remedy) = self.blamed, self.because
        number = self.text.count("\n", 0, position) + 1
        column = position - self.text.rfind("\n", 0, position)
        found = found[: 2 * _SHOWN]
        if show:
            line, place = self.line_of(position)
            found += f", in: {_excerpt(line, place + 1, self.name)}"
        raise TemplateSyntaxError(
            f"{self.what}: line {number}, column {column}", found, remedy[: 2 * _SHOWN], line=number, column=column
        )


def _excerpt(line: str, column: int, name: str) -> str:
    """Return the line around its column, without what may be a secret: passwords, and every value of a CONTEXT."""
    for piece in line.split("="):
        word = piece.strip(_SPACE + ",[]\"'").rpartition(" ")[2]
        if is_secret(word):
            return f"{line[: line.find('=') + 1].strip()} (not shown: it may be a secret)"
    if name == "CONTEXT":
        line, column = _without_values(line), len(_without_values(line[: column - 1])) + 1
    start = max(0, min(column - 1, len(line)) - _SHOWN // 2)
    part = line[start : start + _SHOWN]
    return ("…" if start else "") + part.strip() + ("…" if start + _SHOWN < len(line) else "")


def _without_values(line: str) -> str:
    # A value begins on the line of its name: a quote before everything else closes one of several lines.
    closing = '"' if line[:1] == '"' else ""
    return closing + _UNQUOTED.sub(r"\1…", _QUOTED.sub('"…"', line[len(closing) :]))
