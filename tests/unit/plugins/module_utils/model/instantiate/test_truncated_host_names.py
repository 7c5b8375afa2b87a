# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host names that a guest would not get."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.model.instantiate import (
    truncated_host_names,
    truncated_values,
)
from ansible_collections.nebula.provision.plugins.module_utils.text.template_syntax import parse


@pytest.mark.parametrize("key", ["SET_HOSTNAME", "HOSTNAME"])
@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("h" * 63, False),
        ("h" * 64, True),
        (f"{'h' * 63}.", False),
        (f"{'h' * 32}.{'h' * 31}", False),
        (f"{'h' * 63}.{'h' * 32}", False),
        (f"web.{'h' * 64}.org", True),
        (".".join(["h" * 60] * 5), True),
        ("ü" * 32, True),
        ("", False),
        ("$NAME" + "h" * 70, False),
    ],
)
def test_host_names(key, name, cut):
    """What a variable stands for is known of a machine only."""
    said = parse(f'MEMORY = 32 CONTEXT = [ {key} = "{name}" ]')
    assert (
        bool(truncated_values.cuts_of_template(said, "kvm"))
        == bool(truncated_host_names.cuts_of_host_name({key: name}))
        == cut
    )
    if cut:
        with pytest.raises(
            InvalidValue,
            match=rf"template web: CONTEXT/{key} = .* (a host name 64|dots has 63|a host name has 253) at most",
        ):
            truncated_values.refuse_in_template(said, None, "template web", ["lxc"])


@pytest.mark.parametrize(
    ("name", "told"), [("w" * 15, False), ("w" * 16, True), ("web.example.organisation.org", False), ("", False)]
)
def test_host_names_of_windows(name, told):
    for variables in ({"SET_HOSTNAME": name}, {"SET_HOSTNAME": "", "HOSTNAME": name}):
        found = truncated_host_names.cuts_of_windows_name(variables)
        assert len(found) == told and all("Windows would be 'wwwwwwwwwwwwwww'" in str(each) for each in found)
    if told:
        with pytest.raises(InvalidValue, match=r"VM w: CONTEXT/HOSTNAME = 'w+': its host name has 16 characters"):
            truncated_values.refuse_new(found, [], "VM w")
        # A machine that has it goes on.
        assert truncated_values.refuse_new(found, found, "VM w") == [str(found[0])]
