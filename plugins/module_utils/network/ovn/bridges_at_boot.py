# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets a host's bridges of Open vSwitch up after the host was rebooted. Open vSwitch makes them again by itself, but
they come back down and without their addresses: a unit of systemd sets them up, before machines are started."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ...host import systemd_units
from ...host.files import make_directory, read_limited, remove_file, write_atomically
from ..networks_at_boot import BEFORE
from .certificates import remove_place
from .openvswitch_settings import ADDRESS, Bridge, BridgeMapping
from .ovsdb_client import MARK
from .paths import our_path

PREFIX = "nebula-ovn-"
SCRIPT = "bridges.sh"
LIST = "bridges.list"
PLACE = "boot"
UNIT = """{mark}
[Unit]
Description=Bridges of OVN of nebula.provision, catalog {catalog}
RequiresMountsFor={place}
After=openvswitch-switch.service network-pre.target systemd-networkd.service NetworkManager.service networking.service
Wants=openvswitch-switch.service
Before=ovn-controller.service {before}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh {script} {list} {catalog}

[Install]
WantedBy=multi-user.target
"""
# Lines of the list: bridge, its address or "-", its interface or "-".
PROGRAM = """#!/bin/sh
# Sets the bridges of OVN up when the host boots. nebula_ovn_host keeps the list $1.
# A bridge that does not carry the mark of catalog $2 is left alone, and makes this fail.
failed=0
while read -r bridge address interface; do
    mark=$(ovs-vsctl --timeout=30 --if-exists get Bridge "$bridge" external_ids:{mark}) || mark=
    if [ "$mark" != "\\"$2\\"" ]; then
        echo "bridge $bridge is not there, or not of catalog $2: it is left alone" >&2
        failed=1
        continue
    fi
    ip link set dev "$bridge" up || failed=1
    [ "$address" = - ] || ip address replace "$address" dev "$bridge" || failed=1
    # As nebula_ovn_host does for the userspace datapath.
    datapath=$(ovs-vsctl --timeout=30 get Bridge "$bridge" datapath_type)
    if [ "$datapath" = netdev ] && [ "$address" != - ]; then
        ethtool --offload "$bridge" tx off >/dev/null || failed=1
    fi
    [ "$interface" = - ] || ip link set dev "$interface" up || failed=1
done <"$1"
exit "$failed"
"""


def desired_files(mappings: Sequence[BridgeMapping]) -> dict[str, str]:
    lines = [f"{each.bridge} {each.address or '-'} {each.interface or '-'}\n" for each in mappings]
    return {SCRIPT: PROGRAM.format(mark=MARK), LIST: "".join(lines)} if lines else {}


class Boot:
    def __init__(self, root: str, catalog: str) -> None:
        self.root, self.catalog = root, catalog
        self.place = our_path(root, PLACE)
        self.unit = f"{PREFIX}{catalog}.service"
        self.mark = f"# nebula:{catalog}:ovn"

    def text(self) -> str:
        return UNIT.format(
            mark=self.mark,
            catalog=self.catalog,
            place=systemd_units.quoted(self.place),
            script=systemd_units.quoted_argument(os.path.join(self.place, SCRIPT)),
            list=systemd_units.quoted_argument(os.path.join(self.place, LIST)),
            before=BEFORE,
        )

    def found(self) -> dict[str, str]:
        found = {}
        for name in (SCRIPT, LIST):
            path = os.path.join(self.place, name)
            if os.path.lexists(path):
                found[name] = read_limited(path, 1 << 20).decode("utf-8", "replace")
        return found

    def view(self) -> dict[str, str]:
        """Return what there is, as a diff shows it."""
        shown = {name: "present" if name == SCRIPT else content for name, content in self.found().items()}
        if systemd_units.has_systemd() and systemd_units.installed(self.unit, self.text()):
            shown["unit"] = self.unit
        return shown

    def expected(self, mappings: Sequence[BridgeMapping]) -> dict[str, str]:
        if not systemd_units.has_systemd() or not mappings:
            return {}
        return {SCRIPT: "present", LIST: desired_files(mappings)[LIST], "unit": self.unit}

    def keep(self, mappings: Sequence[BridgeMapping]) -> None:
        """Write the files and install the unit. Without systemd, running the playbook again sets the bridges up."""
        if not systemd_units.has_systemd() or not mappings:
            self.remove()
            return
        make_directory(self.place, 0o700)
        for name, content in desired_files(mappings).items():
            write_atomically(os.path.join(self.place, name), content, mode=0o600)
        systemd_units.install(self.unit, self.text(), self.mark)

    def remove(self) -> None:
        if systemd_units.has_systemd() and self.unit in systemd_units.units_named(PREFIX):
            systemd_units.remove(self.unit, self.mark)
        for name in (SCRIPT, LIST):
            remove_file(os.path.join(self.place, name))
        remove_place(self.root, self.place)


def addresses(bridges: Mapping[str, Bridge], catalog: str) -> dict[str, str]:
    """Return the addresses that we gave, by bridge."""
    return {
        name: bridge.external_ids[ADDRESS]
        for name, bridge in bridges.items()
        if bridge.mark == catalog and ADDRESS in bridge.external_ids
    }
