# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one rule for names."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.object_names import (
    LONGEST,
    check_name,
    doubt_of_name,
    nearest_word,
)


@pytest.mark.parametrize(
    "name", ["web", "0", "big raw", "web-%i", "...", ".hidden", "日本", "a" * LONGEST, "-x", "$x", "a\\b"]
)
def test_names(name):
    assert check_name("image", name) == name


REFUSED = {
    "": "empty",
    "a/b": "holds a /",
    "/": "holds a /",
    ".": "directory",
    "..": "directory",
    "a\nb": r"'\n'",
    "a\tb": r"'\t'",
    "a\0b": r"'\x00'",
    "a\x7fb": r"'\x7f'",
    "a\x1b[31mb": r"'\x1b'",
    "a\u2028b": r"'\u2028'",
    "a\u202eb": r"'\u202e'",
    " a": "blank",
    "a ": "blank",
    "a\n": "blank",
    "a" * (LONGEST + 1): "129 characters",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_name(name):
    with pytest.raises(InvalidValue) as caught:
        check_name("image", name)
    error = caught.value
    assert error.asked.startswith("image")
    assert REFUSED[name] in error.found
    assert error.remedy
    # An error about a name must not itself break a log's lines.
    assert "\n" not in str(error) and "\x1b" not in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize("name", [None, 5, 0, True, ["a"], {"a": 1}])
def test_what_is_not_even_text(name):
    with pytest.raises(InvalidValue, match="Give it a name"):
        check_name("image", name)


def test_nearest():
    assert nearest_word("debain", ["debian", "alpine"]) == "debian"
    assert nearest_word("windows", ["debian", "alpine"]) == ""


@pytest.mark.parametrize("kind", ["image", "network", "template", "VM", "host", "datastore", "router"])
@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("bad & <name>", "& < >"),
        ("debian:12", ":"),
        ("o'brien", "'"),
        ('"web"', '"'),
        ("a#1", "#"),
        ("$x", "$"),
        ("{{ x }}", "{ }"),
        ("a;b|c\\d", "; | \\"),
    ],
)
def test_what_a_real_opennebula_takes_in_no_name(kind, name, held):
    check_name(kind, name)
    assert doubt_of_name(kind, name) == (
        f"{kind} {name!r} could not go to a real OpenNebula: it takes no name with {held}. Here it may keep its name"
    )


@pytest.mark.parametrize("name", ["web-0", "big raw", "Ünï", "a.b_c", "web-%i", "a@b", "a,b", "a(b)", "é" * 64])
def test_what_it_takes(name):
    assert doubt_of_name("image", name) == ""


def test_it_counts_bytes():
    assert "no more than 128 bytes, and these are 130" in doubt_of_name("image", "é" * 65)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("node1", True),
        ("kvm_01.example.org", True),
        ("10.0.0.1", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("a", False),
        ("-a", False),
        ("big host", False),
        ("nöde", False),
    ],
)
def test_hosts_have_names_of_hosts(name, taken):
    assert (doubt_of_name("host", name) == "") == taken
