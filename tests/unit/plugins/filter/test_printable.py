# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks say of others' words is no line of Ansible's."""

import pytest

from ansible_collections.nebula.provision.plugins.filter.printable import printable


@pytest.mark.parametrize(
    ("value", "heading", "shown"),
    [
        ("plain", "", "plain"),
        ("\x1b[2Ja\nok: [kvm1]", "", "\\x1b[2Ja\n    ok: [kvm1]"),
        ("", "", ""),
        (None, "", "None"),
        (7, "", "7"),
        ({"a": 1}, "", "{'a': 1}"),
        ([], "", ""),
        (["one"], "", "one"),
        (["one", "PLAY RECAP ***\nok: [kvm1]"], "", "- one\n- PLAY RECAP ***\n    ok: [kvm1]"),
        (iter(["one", 2]), "", "- one\n- 2"),
        (["one"], "1 found:", "1 found:\n- one"),
        ("one", "kvm1\n\x07", "kvm1\n\\x07\n- one".replace("\n\\", "\n    \\")),
        ([], "Nothing:", "Nothing:"),
    ],
)
def test_a_message_of_others_words(value, heading, shown):
    assert printable(value, heading) == shown
