# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes onto a machine's context ISO, and by which key a plan has it."""

from __future__ import annotations

import pytest
from carried import carried, unset

from ansible_collections.nebula.provision.plugins.module_utils.model.context import (
    DEVICES,
    FORMATS,
    Context,
    ContextFile,
)

FILE = ContextFile("https://example.org/init.sh", "init.sh", sha256="ab" * 32, image="init")
CONTEXT = Context(
    2, "sda", "sata", {"PASSWORD": "hunter2"}, (FILE, ContextFile("/srv/hunter3", "b")), "nocloud", "disk", True
)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        (ContextFile("/srv/a", "a"), "/srv/a"),
        (FILE, "ab" * 32),
        (ContextFile("https://example.org/init.sh", "init.sh"), "https://example.org/init.sh"),
    ],
)
def test_a_file_goes_by_its_content_where_that_is_known(file: ContextFile, key: str) -> None:
    assert file.key == key


def test_the_same_url_with_another_content_is_another_file() -> None:
    first, second = ContextFile("http://a/x", "x", sha256="1"), ContextFile("http://a/x", "x", sha256="2")
    assert first.key != second.key


def test_a_context_is_carried_with_all_it_has() -> None:
    assert unset(CONTEXT) == unset(FILE) == set()
    assert carried(CONTEXT) == CONTEXT


def test_a_context_that_says_nothing_is_opennebulas_on_a_cdrom() -> None:
    context = Context(1, "hda")
    assert (context.format, context.device) == ("opennebula", "cdrom")
    assert (FORMATS[0], DEVICES[0]) == ("opennebula", "cdrom")
    assert context.variables == {} and context.files == ()


def test_neither_variables_nor_files_are_shown_with_their_context() -> None:
    assert "hunter" not in repr(CONTEXT)
    assert "sata" in repr(CONTEXT)


def test_a_context_shows_none_of_its_values() -> None:
    assert "hunter2" not in repr(CONTEXT)
