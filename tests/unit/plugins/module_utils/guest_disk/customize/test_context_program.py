# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the context program says of itself is understood, and what a guest calls itself is shown without harm."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed, MissingDependency, NotFound
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize import context_program
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize.context_program import Outcome
from ansible_collections.nebula.provision.plugins.module_utils.printable import printable


@pytest.mark.parametrize(
    ("printed", "changed"),
    [
        ("changed", True),
        ("unchanged\n", False),
        ("enabled for systemd\nchanged\n\n", True),
        ("changed\nunchanged", False),
    ],
)
def test_its_last_word_is_what_came_of_it(printed, changed):
    assert context_program.outcome(printed, "PRETTY_NAME=x\n") == Outcome(changed, "x")


@pytest.mark.parametrize("printed", ["", "\n", "Changed", "changed to\nsomething else", "un changed!"])
def test_a_program_that_does_not_say_what_came_of_it(printed):
    with pytest.raises(CommandFailed) as caught:
        context_program.outcome(printed, "")
    assert caught.value.asked == "installing the context program"
    assert caught.value.found.startswith("it ended without saying what came of it: ")
    assert printable(printed.strip()) in caught.value.found and "full or damaged" in caught.value.remedy


@pytest.mark.parametrize(
    ("os_release", "name"),
    [
        ('ID=debian\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n', "Debian GNU/Linux 13 (trixie)"),
        ("PRETTY_NAME='Alpine Linux v3.22'", "Alpine Linux v3.22"),
        (" PRETTY_NAME = a=b \n", "a=b"),
        ("PRETTY_NAME=first\nPRETTY_NAME=second\n", "first"),
        ("NAME=x\n#PRETTY_NAME=y\n", ""),
        ("", ""),
        ("PRETTY_NAME=\x1b[31mred", "\\x1b[31mred"),
    ],
)
def test_what_a_guest_calls_itself(os_release, name):
    assert context_program.os_name(os_release) == name


@given(st.text(max_size=400))
@settings(max_examples=50, deadline=None)
def test_any_name_is_short_and_prints(text):
    name = context_program.os_name("PRETTY_NAME=" + text)
    # An escape is at most ten characters.
    assert name.replace("\t", "").isprintable() and len(name) <= 10 * 220


def test_a_long_name_is_cut():
    assert len(context_program.os_name("PRETTY_NAME=" + "x" * 5000)) < 220


def test_the_program_is_laid_into_the_directory_for_its_owner_alone(tmp_path):
    context_program.write(str(tmp_path), "#!/bin/sh\necho é\n")
    program = tmp_path / context_program.PROGRAM
    assert (
        program.read_text(encoding="utf-8") == "#!/bin/sh\necho é\n" and stat.S_IMODE(program.stat().st_mode) == 0o700
    )


def test_a_directory_that_is_not_there_is_told(tmp_path):
    with pytest.raises(NotFound, match=str(tmp_path / "gone")):
        context_program.write(str(tmp_path / "gone"), "x")


def test_a_program_that_is_there():
    assert context_program.present("sh")
    context_program.require("sh", "dash", "bash", "image web")


@pytest.mark.parametrize(
    ("debian", "fedora", "packages"),
    [("fdisk", "util-linux-core", "fdisk (Debian) or util-linux-core (Fedora)"), ("a", "a", "a")],
)
def test_a_program_that_is_missing_is_told_with_its_package(debian, fedora, packages):
    assert not context_program.present("no-such-program")
    with pytest.raises(MissingDependency) as caught:
        context_program.require("no-such-program", debian, fedora, "image web: mounting it")
    assert str(caught.value) == (
        "image web: mounting it: program no-such-program is not on this host. Install the package " + packages
    )
