# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bridge of ours takes nothing from what comes in by it, and the settings of others are only told of."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import CommandFailed
from ansible_collections.nebula.provision.plugins.module_utils.network import bridge_sysctls

DEFAULTS = {
    "ipv6/disable_ipv6": "0",
    "ipv6/accept_ra": "1",
    "ipv6/autoconf": "1",
    "ipv6/accept_redirects": "1",
    "ipv6/forwarding": "0",
    "ipv4/accept_redirects": "1",
    "ipv4/send_redirects": "1",
    "ipv4/arp_ignore": "0",
}


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bridge_sysctls, "PROC", tmp_path)
    return tmp_path


def give(proc: Path, bridge: str, values: dict[str, str]) -> None:
    for name, value in values.items():
        family, setting = name.split("/")
        place = proc / family / "conf" / bridge
        place.mkdir(parents=True, exist_ok=True)
        (place / setting).write_text(f"{value}\n")


@pytest.mark.parametrize(("gateway", "arp"), [(True, "1"), (False, "8")])
def test_the_defaults_of_the_kernel_become_what_they_are_to_be(proc: Path, gateway: bool, arp: str) -> None:
    give(proc, "nbr0", DEFAULTS)
    seen = bridge_sysctls.observe("nbr0")
    assert seen == DEFAULTS
    bridge_sysctls.write("nbr0", bridge_sysctls.differing(seen, gateway))
    assert bridge_sysctls.observe("nbr0") == {
        "ipv6/disable_ipv6": "1",
        "ipv6/accept_ra": "0",
        "ipv6/autoconf": "0",
        "ipv6/accept_redirects": "0",
        "ipv6/forwarding": "0",
        "ipv4/accept_redirects": "0",
        "ipv4/send_redirects": "0",
        "ipv4/arp_ignore": arp,
    }
    assert bridge_sysctls.differing(bridge_sysctls.observe("nbr0"), gateway) == {}


def test_ipv6_is_off_before_anything_else(proc: Path) -> None:
    give(proc, "nbr0", DEFAULTS)
    assert next(iter(bridge_sysctls.differing(DEFAULTS, True))) == "ipv6/disable_ipv6"


def test_a_kernel_without_ipv6_has_none_of_its_settings(proc: Path) -> None:
    give(proc, "nbr0", {name: value for name, value in DEFAULTS.items() if name.startswith("ipv4")})
    assert set(bridge_sysctls.desired(True)) == {"ipv4/accept_redirects", "ipv4/send_redirects", "ipv4/arp_ignore"}
    bridge_sysctls.write("nbr0", bridge_sysctls.differing(bridge_sysctls.observe("nbr0"), False))
    assert bridge_sysctls.differing(bridge_sysctls.observe("nbr0"), False) == {}
    assert bridge_sysctls.lines("nbr0", False)[-1] == "ipv4/conf/nbr0/arp_ignore 8"


def test_a_bridge_without_ipv6_lacks_nothing(proc: Path) -> None:
    give(proc, "other", DEFAULTS)
    seen = {name: "0" for name in DEFAULTS if name.startswith("ipv4")}
    assert bridge_sysctls.differing(seen, True) == {"ipv4/arp_ignore": "1"}
    assert bridge_sysctls.observe("gone") == {}


def test_what_can_not_be_set_is_told_by_its_name(proc: Path) -> None:
    (proc / "ipv4" / "conf" / "nbr0" / "arp_ignore").mkdir(parents=True)
    with pytest.raises(CommandFailed) as caught:
        bridge_sysctls.write("nbr0", {"ipv4/arp_ignore": "8"})
    assert caught.value.asked == "set net.ipv4.conf.nbr0.arp_ignore to 8"
    assert "Is a directory" in caught.value.found


def test_a_dot_in_a_name_is_no_level() -> None:
    assert bridge_sysctls.command("br.0", "ipv6/accept_ra", "0") == "sysctl -w net/ipv6/conf/br.0/accept_ra=0"
    assert bridge_sysctls.command("br0", "ipv6/accept_ra", "0") == "sysctl -w net.ipv6.conf.br0.accept_ra=0"


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, {"ipv6/accept_ra", "ipv6/accept_redirects", "ipv4/accept_redirects"}),
        ({"ipv6/disable_ipv6": "1"}, {"ipv4/accept_redirects"}),
        ({"ipv6/forwarding": "1"}, {"ipv6/accept_redirects", "ipv4/accept_redirects"}),
        (
            {"ipv6/forwarding": "1", "ipv6/accept_ra": "2"},
            {"ipv6/accept_ra", "ipv6/accept_redirects", "ipv4/accept_redirects"},
        ),
        ({"ipv6/accept_ra": "0", "ipv6/accept_redirects": "0", "ipv4/accept_redirects": "0"}, set()),
    ],
)
def test_where_a_bridge_of_others_believes_guests(changed: dict[str, str], found: set[str]) -> None:
    assert set(bridge_sysctls.trusts_guests({**DEFAULTS, **changed})) == found


def test_a_doubt_names_settings_and_commands() -> None:
    (text,) = bridge_sysctls.doubts("Office", "br0", {**DEFAULTS, "ipv4/accept_redirects": "0"})
    assert text.startswith("network Office: bridge br0 is this host's own and is left as it is")
    assert "net.ipv6.conf.br0.accept_ra = 1" in text
    assert "sysctl -w net.ipv6.conf.br0.accept_ra=0 && sysctl -w net.ipv6.conf.br0.accept_redirects=0" in text
    assert bridge_sysctls.doubts("Office", "br0", {}) == []


def test_an_interface_that_was_just_made_gets_them_without_being_read(proc: Path) -> None:
    give(proc, "nbr0", {name: value for name, value in DEFAULTS.items() if name != "ipv6/autoconf"})
    bridge_sysctls.write_new("nbr0", {**dict.fromkeys(DEFAULTS, "0"), "ipv6/disable_ipv6": "1"})
    # What the kernel does not have for it is not made.
    assert not (proc / "ipv6/conf/nbr0/autoconf").exists()
    found = bridge_sysctls.observe("nbr0")
    assert (found.pop("ipv6/disable_ipv6"), set(found.values()), len(found)) == ("1", {"0"}, len(DEFAULTS) - 2)


@pytest.mark.parametrize("value", ["8", "1"])
def test_where_nothing_can_be_written_it_may_be_right_already(
    proc: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(proc, "nbr0", {"ipv4/arp_ignore": "8"})
    really = os.open

    def read_only(path: str, flags: int, *more: int, **options: Any) -> int:
        if flags & os.O_WRONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return really(path, flags, *more, **options)

    monkeypatch.setattr(bridge_sysctls.os, "open", read_only)
    if value == "8":
        bridge_sysctls.write_new("nbr0", {"ipv4/arp_ignore": value})
    else:
        with pytest.raises(CommandFailed, match="Read-only file system"):
            bridge_sysctls.write_new("nbr0", {"ipv4/arp_ignore": value})
