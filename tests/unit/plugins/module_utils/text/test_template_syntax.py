# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads OpenNebula's template syntax."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, TemplateSyntaxError
from ansible_collections.nebula.provision.plugins.module_utils.model.template import Template
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import as_template, parse


def attributes(text: str) -> object:
    return parse(text).to_mapping()


def as_text(template: Template) -> str:
    """Return text of a template none of whose values ends in a backslash, which quotes can't hold."""

    def quoted(pairs: Iterable[tuple[str, str]]) -> list[str]:
        return [name + ' = "' + value.replace('"', '\\"') + '"' for name, value in pairs]

    parts = []
    for name, value in template.attributes:
        parts += quoted([(name, value)]) if isinstance(value, str) else [f"{name} = [{', '.join(quoted(value))}]"]
    return "\n".join(parts)


READINGS = {
    "empty": ("", {}),
    "only comments": ("# a\n  # b", {}),
    "comment without a final newline": ("A = 1\n# end", {"A": "1"}),
    "comment after a value": ('A = 1 # one\nB = "2"# two\n', {"A": "1", "B": "2"}),
    "byte order mark": ("\ufeffA = 1", {"A": "1"}),
    "windows line ends": ('A = one\r\nB = [\r\n X = 1,\r\n Y = "2"\r\n]\r\n', {"A": "one", "B": {"X": "1", "Y": "2"}}),
    "names become upper-case": ("cpu = 0.5\ndisk = [ image = x ]", {"CPU": "0.5", "DISK": {"IMAGE": "x"}}),
    "a digit or XML in front": (
        "1a = x\nXMLish = y\nxml = z\nA = [ 1b = c ]",
        {"ONE_1A": "x", "ONE_XMLISH": "y", "ONE_XML": "z", "A": {"1B": "c"}},
    ),
    "several on one line": ('A = 1 B = 2 C=[X=1] D = "x" E=', {"A": "1", "B": "2", "C": {"X": "1"}, "D": "x", "E": ""}),
    "repeated": ("A = 1\nB = 2\nA = 3", {"A": ["1", "3"], "B": "2"}),
    "repeated vectors": ("D=[X=1]\nD=[X=2]", {"D": [{"X": "1"}, {"X": "2"}]}),
    "first of equal keys wins": ("D = [ X = 1, x = 2 ]", {"D": {"X": "1"}}),
    "empty values": (
        'A =\nB = ""\nC = []\nD = [ ]\nE = [ X = "" ]\nF=',
        {"A": "", "B": "", "C": {}, "D": {}, "E": {"X": ""}, "F": ""},
    ),
    "quotes span lines": ('A = "1\n  2 # no comment\n[3], = "', {"A": "1\n  2 # no comment\n[3], = "}),
    "only the quote is escaped": (
        r'A = "a\"b" B = "c\\d" C = "e\nf" D = "\$x"',
        {"A": 'a"b', "B": r"c\\d", "C": r"e\nf", "D": r"\$x"},
    ),
    "a backslash before a quote": (r'A = "a\\"b"', {"A": r"a\"b"}),
    "unquoted with a final backslash": ("A = C:\\dir\\\nB = 1", {"A": "C:\\dir\\", "B": "1"}),
    "single quotes mean nothing": ("A = 'x'", {"A": "'x'"}),
    "a quote inside an unquoted value": ('A = 5"', {"A": '5"'}),
    "letters of any alphabet": ('A = Zürich\nB = "日本"', {"A": "Zürich", "B": "日本"}),
    "variables": (
        'A = 10.0.0.$VMID\nC = [ H = "$NAME", I = $NIC[IP] ]',
        {"A": "10.0.0.$VMID", "C": {"H": "$NAME", "I": "$NIC[IP]"}},
    ),
    "variables with a selector, unquoted": (
        'C = [ I = $NIC[IP, NETWORK="Public"], J=$NETWORK[DNS, NAME=\\"Public\\"]:53, K = x$A[B]$C[D] ]',
        {"C": {"I": '$NIC[IP, NETWORK="Public"]', "J": '$NETWORK[DNS, NAME="Public"]:53', "K": "x$A[B]$C[D]"}},
    ),
    "a bracket in the selector's quotes": ('I = $NIC[IP, NETWORK="a]b"]', {"I": '$NIC[IP, NETWORK="a]b"]'}),
    "blanks nowhere": ('A=[X="1",Y=2]B=3', {"A": {"X": "1", "Y": "2"}, "B": "3"}),
    "comments inside a vector": (
        "A = [ # first\n X = 1, # second\n # third\n Y = 2 ] # fourth",
        {"A": {"X": "1", "Y": "2"}},
    ),
    "comma on the next line": ("A = [ X = 1\n , Y = 2\n ]", {"A": {"X": "1", "Y": "2"}}),
    "CDATA's end is text": ('A = "]]>"', {"A": "]]>"}),
}


@pytest.mark.parametrize("case", READINGS)
def test_reads(case: str) -> None:
    text, meaning = READINGS[case]
    assert attributes(text) == meaning


# The 2.2 documentation's own example: lower-case names and a comma that is missing after `virtualuser`.
WITHOUT_COMMA = """
CONTEXT = [
  hostname  = "$NAME",
  ip_public = "$NIC[IP, NETWORK=\\"Public\\"]",
  username  = virtualuser
  files     = "/vms_configuration/id_rsa.pub /vms_configuration/init.sh"
]
"""


def test_the_missing_comma_of_the_old_documents_is_named_with_its_line() -> None:
    with pytest.raises(TemplateSyntaxError) as caught:
        parse(WITHOUT_COMMA, "template web")
    error = caught.value
    assert (error.line, error.column) == (5, 26)
    assert error.found == "no comma after the value of USERNAME, in: username  = …"
    assert error.remedy == "Write it there: username  = …,"


@pytest.mark.parametrize(
    ("text", "line", "column", "remedy"),
    [
        ("DISK = [ TYPE = swap\n SIZE = 1024 ]", 1, 21, "Write it there: DISK = [ TYPE = swap,"),
        ('A = [ X = "1" # one\n\n # two\n Y = 2 ]', 1, 14, 'Write it there: A = [ X = "1", # one'),
        ("A = [ X = 1,\r\n Y = 2 \r\n Z = 3 ]", 2, 7, "Write it there: Y = 2,"),
        ('A = [ X = "1\n2"\n Y = 2 ]', 2, 3, 'Write it there: ",'),
        ("GRAPHICS = [ PASSWD = hunter2\n TYPE = vnc ]", 1, 30, "(not shown: it may be a secret)"),
        ('CONTEXT = [ A = "hunter2"\n B = 2 ]', 1, 26, 'Write it there: CONTEXT = [ A = "…",'),
        ('CONTEXT = [ A = "hunter2\nhunter2"\n B = 2 ]', 2, 9, 'Write it there: ",'),
    ],
)
def test_a_line_end_is_no_comma(text: str, line: int, column: int, remedy: str) -> None:
    with pytest.raises(TemplateSyntaxError, match="no comma after the value of") as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert remedy in caught.value.remedy
    assert "hunter2" not in str(caught.value)


def test_context_of_the_old_documents() -> None:
    assert attributes(WITHOUT_COMMA.replace("virtualuser", "virtualuser,")) == {
        "CONTEXT": {
            "HOSTNAME": "$NAME",
            "IP_PUBLIC": '$NIC[IP, NETWORK="Public"]',
            "USERNAME": "virtualuser",
            "FILES": "/vms_configuration/id_rsa.pub /vms_configuration/init.sh",
        }
    }


def test_container_of_the_old_documents() -> None:
    text = """NAME = vps145
ONBOOT="yes"
MEMORY  = [ KMEMSIZE="14372700:14790164",
            LOCKEDPAGES="2048:2048" ]
DISK = [ TYPE = swap,
         SIZE = 1024,
         READONLY = "no" ]
CONTEXT = [
  NAMESERVER = "$NETWORK[DNS, NAME=\\"Public\\" ]",
  FIREWALLl  = "
                [*]
                111.111.111.0/24
               ",
FILES = "/srv/init.sh" ]
"""
    template = parse(text)
    assert template.get("name") == "vps145"
    assert template.vectors("MEMORY") == [{"KMEMSIZE": "14372700:14790164", "LOCKEDPAGES": "2048:2048"}]
    assert template.vector("DISK") == {"TYPE": "swap", "SIZE": "1024", "READONLY": "no"}
    context = template.vector("CONTEXT")
    assert context["FIREWALLL"].strip().splitlines()[0] == "[*]"
    assert context["NAMESERVER"] == '$NETWORK[DNS, NAME="Public" ]'


# text, line, column, words of what was found, words of the remedy
FAULTS = {
    "no equals sign": ("A = 1\nFOO bar", 2, 5, "'b' after the name FOO", "FOO ="),
    "no name": ("A = 1\n= 2", 2, 1, "'=' where an attribute's name", "letters, digits"),
    "a dash in a name": ("MY-ATTR = 1", 1, 3, "'-' after the name MY", "MY ="),
    "blank in an unquoted value": ("NAME = big raw", 1, 12, "'r' after the unquoted value of NAME", "quotes"),
    "equals in an unquoted value": ("A = b=c", 1, 6, "'=' after the unquoted value", "quotes"),
    "colour": ("A = #fff", 1, 5, "begin with #", "quotes"),
    "quote not closed": ('A = 1\nB = "x\ny\n', 2, 5, "never closed", "Close the value of B"),
    "quoted value with a final backslash": ('A = "C:\\dir\\"\n', 1, 5, "never closed", "backslash"),
    "text after a quote": ('A = "x"y', 1, 8, "right after the closing quote", '\\"'),
    "vector not closed": ("A = [ X = 1,\n Y = 2\n", 1, 5, "[ of A is never closed", "Close it"),
    "vector not even begun": ("A = [", 1, 5, "never closed", "Close it"),
    "vector ends after its comma": ("A = [ X = 1,", 1, 5, "never closed", "Close it"),
    "trailing comma": ("A = [ X = 1, ]", 1, 12, "comma before the closing", "Remove"),
    "two commas": ("A = [ X = 1,, Y = 2 ]", 1, 13, "','", "letters, digits"),
    "nested": ("A = [ X = [ Y = 1 ] ]", 1, 11, "vector inside a vector", "nested"),
    "empty value inside": ("A = [ X = , Y = 1 ]", 1, 11, "X has no value", '""'),
    "empty value at the end": ("A = [ X = ]", 1, 11, "X has no value", '""'),
    "empty value before a newline": ("A = [ X =\n Y = 1 ]", 1, 10, "X has no value", '""'),
    "no comma on one line": ('A = [ X = "1" Y = 2 ]', 1, 15, "'Y' after the value of X", "comma"),
    "no comma, unquoted": ("A = [ X = 1 and 2 ]", 1, 13, "'a' after the unquoted value", "quotes"),
    "bracket on the next line": ("A =\n[ X = 1 ]", 2, 1, "'['", "on the line of its ="),
    "brackets without a variable": ("A = x[1]", 1, 6, "'[' after the unquoted value", "quotes"),
    "selector not closed": ("C = [ I = $NIC[IP\n ]", 1, 15, "not closed on its line", "Close it"),
    "comma outside": ("A = 1,\nB = 2", 1, 6, "','", "letters, digits"),
    "NUL": ('A = "a\0b"', 1, 7, "NUL", "base64"),
    # A line that ends in a backslash is the one to be mended, though what can't be read comes in the next.
    "a vector on the line after a backslash": (
        "A = 1\nDISK = \\\n [ IMAGE = a ]", 2, 8, "a backslash at the end of the line", "on the line of its name",
    ),
    "a value on the line after a backslash": (
        "# one \\\nNAME = \\\nweb\n", 2, 8, "part of the value of NAME, and joins no lines", "Begin the value of NAME",
    ),
    "a value after a backslash and windows' line end": (
        "A = 1\r\nNAME = \\ \r\nweb big\r\n", 2, 8, "joins no lines", "in quotes",
    ),
    "a backslash within a vector": ('DISK = [ IMAGE = x\\\n "a" ]', 1, 19, "part of the value of IMAGE", "in quotes"),
    "a backslash behind a value over several lines": (
        'A = "x\ny" # one\nB = [ X = "1\n2", # two \\\n Y = \\\n 3 4 ]', 5, 6, "part of the value of Y", "in quotes",
    ),
    "a backslash after a comma": ("A = [ X = 1, \\\n Y = 2 ]", 1, 14, "where a name inside A", "letters, digits"),
    "a backslash after a bracket": ("A = [ \\\n Y = 2 ]", 1, 7, "where a name inside A", "letters, digits"),
    "a backslash after a quoted value": ('A = [ X = "1" \\\n, Y = 2 ]', 1, 15, "after the value of X", "comma"),
    "a backslash after an unquoted value": ("CPU = 1 \\\nMEMORY = 64", 1, 9, "after the unquoted value", "quotes"),
    "a backslash after several lines": ('A = "x\ny\nz" \\\nB = 1', 3, 4, "where an attribute's name", "letters"),
    "a backslash before the closing quote": (
        'A = 1\nB = "C:\\dir\\"\nD = "x"', 2, 12, "the value of B does not end here", "ends in a backslash",
    ),
    "that in a vector": (
        'B = [ X = "C:\\dir\\",\r\n Y = "x" ]', 1, 18, "the value of X does not end here", "end it with a blank",
    ),
    "that before a value with blanks": (
        'B = "C:\\" \nD = " a b"', 1, 8, "the value of B does not end here", "ends in a backslash",
    ),
    # Elsewhere a backslash is nobody's fault.
    "after quotes in pairs": ('A = "echo \\"a\\"\nb" x', 2, 5, "the end after the name X", "X ="),
    "after a value that ended": ("A = C:\\dir\\\nB = 1\nC D", 3, 3, "'D' after the name C", "C ="),
    "after a vector that ended": ("A = [ X = C:\\dir\\\n, Y = a\\\n]\nC D", 4, 3, "'D' after the name C", "C ="),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_faults_name_the_place(case: str) -> None:
    text, line, column, found, remedy = FAULTS[case]
    with pytest.raises(TemplateSyntaxError) as caught:
        parse(text, "template web")
    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert error.asked == f"template web: line {line}, column {column}"
    assert found in error.found
    assert remedy in error.remedy
    shown = text.split("\n")[line - 1].strip()
    assert shown[:40] in error.found or shown.rpartition('" ')[2] in error.found


def test_faults_show_no_secret() -> None:
    for text in (
        'GRAPHICS = [ TYPE = vnc, PASSWD = "hunter2" LISTEN = x ]',
        'PASSWORD = "hunter2" x',
        'CONTEXT = [ API = "hunter2" B = 1 ]',
        'CONTEXT = [ API = "hunter2',
        'CONTEXT = [ API = "begin\nhunter2" B = 1 ]',
        'CONTEXT = [ SCRIPT = "begin\nhunter2"x, B = 1 ]',
        "CONTEXT = [ API = hunter2 hunter2 ]",
        'CONTEXT = [ API = "a"hunter2" ]',
        "CONTEXT = [ API = hunter2 B = 1 ]",
        'CONTEXT = [ API = "a\\"hunter2" B = 1 ]',
        'CONTEXT = [ API = "hunter2 ' + "hunter2" * 30 + '" B = 1 ]',
        'CONTEXT = [ API = "hunter2\0" ]',
        'CONTEXT = [ API = "\nhunter2\0" ]',
        "ROOT_PASSWORD = hunter2 hunter2",
        'CONTEXT = [ API = "hunter2\\",\n B = "hunter2" ]',
        'CONTEXT = [ API = hunter2\\\n "hunter2" ]',
        "PASSWORD = hunter2\\\nhunter2",
    ):
        with pytest.raises(TemplateSyntaxError) as caught:
            parse(text)
        assert "hunter2" not in str(caught.value)


def test_a_long_line_is_cut() -> None:
    with pytest.raises(TemplateSyntaxError) as caught:
        parse("A = 1 B = 2 " * 200 + "!" + " C = 3" * 200)
    assert "!" in caught.value.found
    assert len(str(caught.value)) < 400


# what a real OpenNebula refuses in CONTEXT, where it is in the text, and the beginning of what is said of it
REFUSED = {
    "two dollars": ('CONTEXT = [ A = "hunter2$$" ]', 1, 25, "$$ in the value of CONTEXT/A"),
    "our own escape": ('CONTEXT = [ A = "$$NAME" ]', 1, 18, "$$ in the value of CONTEXT/A"),
    "a command": ('CONTEXT = [ A = "\n $(id hunter2)" ]', 2, 2, "$( in the value of CONTEXT/A"),
    "braces": ('CONTEXT = [ A = x, b = "${NAME}" ]', 1, 25, "${ in the value of CONTEXT/B"),
    "at the end": ('CONTEXT = [ A = "5$" ]', 1, 19, "a $ that no name follows in the value of CONTEXT/A"),
    "at the end, unquoted": ("CONTEXT = [ A = 5$ ]", 1, 18, "a $ that no name follows"),
    "a comma": ('CONTEXT = [ A = "$NAME, hunter2" ]', 1, 23, "a , right after a variable"),
    "a bracket": ('CONTEXT = [ A = "[$NIC[IP]]" ]', 1, 27, "a ] right after a variable"),
    "behind escaped quotes": (
        'CONTEXT = [ A = "\\"hunter2\\" $NIC[IP, NETWORK=\\"x\\"]]" ]', 1, 53, "a ] right after a variable",
    ),
    "CDATA's end": ('CONTEXT = [ A = "hunter2]]>" ]', 1, 25, "]]> in the value of CONTEXT/A"),
    "CDATA's end in a script": ('CONTEXT = [ START_SCRIPT = "[[ $x ]]>y" ]', 1, 35, "]]> in the value"),
    "in a second one": ('CONTEXT = [ A = 1 ]\ncontext = [\n a = "$$" ]', 3, 7, "$$ in the value of CONTEXT/A"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_opennebula_refuses_is_refused_in_text(case: str) -> None:
    text, line, column, found = REFUSED[case]
    with pytest.raises(TemplateSyntaxError) as caught:
        as_template(text, "template web")
    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert error.asked == f"template web: line {line}, column {column}"
    assert error.found.startswith(found)
    assert "YAML" in error.remedy
    assert ("$MY_ATTRIBUTE" in error.remedy) == ("]]>" not in found)
    assert "hunter2" not in str(error)
    # Only the text that users give: what was stored, or written by us, is read.
    parse(text)


def test_outside_of_context_everything_is_taken() -> None:
    text = 'PRICE = "5$"\nSCRIPT = "$(id) ${X} $$ $NAME, ]]>"\nRAW = [ DATA = "$$" ]\n'
    assert as_template(text, "template x") == parse(text)


@pytest.mark.parametrize("blanks", ["\n", " ", "\t", "\r\n", "\v\f", " \n\n "])
def test_blanks_at_the_ends_of_values_of_context_are_lost_in_text_alone(blanks: str) -> None:
    text = f'CONTEXT = [ A = "{blanks}x{blanks}y{blanks}", B = "{blanks}" ]\nC = "{blanks}z{blanks}"\n'
    users = {"CONTEXT": {"A": f"x{blanks}y", "B": ""}, "C": f"{blanks}z{blanks}"}
    stored = {"CONTEXT": {"A": f"{blanks}x{blanks}y{blanks}", "B": blanks}, "C": f"{blanks}z{blanks}"}
    assert as_template(text, "template x").to_mapping() == users
    assert parse(text, as_opennebula=True).to_mapping() == users
    # What was stored may be of YAML, which keeps them.
    assert parse(text).to_mapping() == as_template(stored, "template x").to_mapping() == stored


@pytest.mark.parametrize("character", ["\u00a0", "\u2003", "\u0085", "\x1c"])
def test_blanks_of_other_alphabets_stay(character: str) -> None:
    text = f'CONTEXT = [ A = "{character}x{character}" ]'
    assert as_template(text, "template x").vector("CONTEXT") == {"A": f"{character}x{character}"}


def test_a_context_that_is_no_vector_is_not_lost_beside_one_that_is() -> None:
    text = 'CONTEXT = "x\n"\nCONTEXT = [ A = "y\n" ]\n'
    assert as_template(text, "template x").to_mapping() == {"CONTEXT": ["x", {"A": "y"}]}


def test_start_scripts_are_never_expanded() -> None:
    script = '#!/bin/sh\nkill $$; echo $(id) ${X} "$1", $NAME, [$X]'
    text = as_text(Template((("CONTEXT", (("START_SCRIPT", script), ("START_SCRIPT_BASE64", "a$"))),)))
    assert as_template(text, "template x").vector("CONTEXT")["START_SCRIPT"] == script


def test_nothing_is_lost_in_yaml() -> None:
    values = {"A": "5$$", "B": "$(id) ${X}", "C": "$NAME, [$NIC[IP]]", "D": "]]>", "E": "$"}
    for given_ in ({"context": values}, json.dumps({"context": values})):
        assert as_template(given_, "template x").vector("CONTEXT") == values


@pytest.mark.parametrize("name", ["PATH", "uid", "LD_PRELOAD", "Seconds", "1A", "0"])
def test_names_that_a_shell_does_not_take_as_data_are_refused_in_yaml(name: str) -> None:
    for given_ in ({"context": {name: "hunter2"}}, json.dumps({"CONTEXT": {name: "hunter2"}})):
        with pytest.raises(InvalidValue, match=f"template x: CONTEXT: variable '?{name.upper()}") as caught:
            as_template(given_, "template x")
        assert "hunter2" not in str(caught.value)
    # OpenNebula takes them: a warning says so when the context is made.
    assert as_template(f"CONTEXT = [ {name} = x ]", "template x").vector("CONTEXT") == {name.upper(): "x"}


@pytest.mark.parametrize(("binary", "what"), [("\0", "NUL"), ("\udcff", "UTF-8")])
def test_binary_values_are_refused_unseen(binary: str, what: str) -> None:
    for given_ in (f'CONTEXT = [ A = "hunter2{binary}" ]', {"context": {"A": f"hunter2{binary}"}}):
        with pytest.raises(InvalidValue, match=what) as caught:
            as_template(given_, "template x")
        assert "hunter2" not in str(caught.value)
        assert "base64" in caught.value.remedy
        str(caught.value).encode()
    with pytest.raises(InvalidValue, match=r"template x: PRICE: .*UTF-8"):
        as_template({"price": "\udcff"}, "template x")


def test_equal_names() -> None:
    assert as_template("CONTEXT = [ a = 1, A = 2 ]", "template x").vector("CONTEXT") == {"A": "1"}
    with pytest.raises(InvalidValue, match="the key is there twice"):
        as_template({"context": {"a": "1", "A": "2"}}, "template x")


NAMES = st.from_regex(r"\A[A-Z_][A-Z0-9_]{0,8}\Z").filter(lambda name: not name.startswith("XML"))
VALUES = st.text(
    st.one_of(st.sampled_from('"\\\n#=[],$ \t\r'), st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    max_size=20,
).map(lambda value: value + "." if value.endswith("\\") else value)
KEYS = st.from_regex(r"\A[A-Z0-9_]{1,8}\Z")
VECTORS = st.dictionaries(KEYS, VALUES, max_size=4).map(lambda pairs: tuple(pairs.items()))
TEMPLATES = st.lists(st.tuples(NAMES, st.one_of(VALUES, VECTORS)), max_size=8).map(lambda a: Template(tuple(a)))


@given(TEMPLATES)
@example(Template((("A", '\\"'), ("B", '\\\\"x'))))
def test_text_and_back(template: Template) -> None:
    assert parse(as_text(template)) == template


@given(TEMPLATES)
def test_catalog_and_yaml_and_back(template: Template) -> None:
    assert Template.from_attributes(template.to_attributes()) == template
    assert Template.from_mapping(template.to_mapping()) == template


SCRAPS = st.sampled_from([
        '"', "\\", '\\"', "[", "]", ",", "=", "#", "\n", " ", "A", "B1", "$", "$NIC[", 'X = "y"', "A = [", "A = b\n",
        "\r", "é",
])  # fmt: skip


@given(st.lists(SCRAPS, max_size=40).map("".join))
@example('A=\\"\\')
@example("A=$NIC[]\\")
@settings(max_examples=400)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except TemplateSyntaxError as error:
        assert 1 <= error.line <= text.count("\n") + 1
        assert error.column >= 1


def as_opennebula_takes(template: Template) -> Template:
    """The template without what isspace() of C calls a blank at the ends of CONTEXT's values."""

    def trimmed(value: str) -> str:
        return re.sub(r"\A[ \t\n\v\f\r]+|[ \t\n\v\f\r]+\Z", "", value)

    attributes = []
    for name, value in template.attributes:
        if name != "CONTEXT":
            attributes.append((name, value))
        elif isinstance(value, str):
            attributes.append((name, trimmed(value)))
        else:
            attributes.append((name, tuple((key, trimmed(text)) for key, text in value)))
    return Template(tuple(attributes))


@given(st.lists(SCRAPS, max_size=40).map("".join), st.sampled_from(["", 'CONTEXT = [ A = "', "CONTEXT = [ A = "]))
@example("$$", 'CONTEXT = [ A = "')
@example('\n" ]', 'CONTEXT = [ A = "')
@example('A = b\n" ]', 'CONTEXT = [ A = "')
@settings(max_examples=400)
def test_any_text_that_users_give_is_read_or_refused(text: str, prefix: str) -> None:
    text = prefix + text
    try:
        template = as_template(text, "template x")
    except TemplateSyntaxError as error:
        assert 1 <= error.line <= text.count("\n") + 1
        assert 1 <= error.column <= len(text.split("\n")[error.line - 1]) + 1
        return
    except InvalidValue:
        # It begins with a brace, and is no JSON.
        assert text.lstrip().startswith("{")
        return
    assert template == as_opennebula_takes(parse(text))


SCRAP = 64 * 1024
HOSTILE = [
    '"', '\\"', 'A="', "[", "$A[", "A=$A[", "A=[", "A=1 ", "A=[X=1]", "A=[X=1\n", "A", " ", "\n", "#", "A=x$", "=",
    ",", "$", "A=[X=$N[", 'A=[X="\n"\n', "]", "A = 1\\", "A\n", "$A, ", "\\$", "A=1\n", 'A="1",',
]  # fmt: skip


@pytest.mark.parametrize("scrap", HOSTILE)
@pytest.mark.parametrize("prefix", ["", "A = [ X = ", 'A = "', "A = $B[", 'CONTEXT = [ A = "', "CONTEXT = [ A = $B "])
@pytest.mark.parametrize("end", ["", '" ]', '$$" ]'])
def test_cost_is_linear(scrap: str, prefix: str, end: str) -> None:
    text = (prefix + scrap * (SCRAP // len(scrap)))[: SCRAP - len(end)] + end
    for read in (parse, lambda text: as_template(text, "template x")):
        started = time.process_time()
        try:
            read(text)
        except TemplateSyntaxError as error:
            assert len(str(error)) < 600
        assert time.process_time() - started < 1.0
