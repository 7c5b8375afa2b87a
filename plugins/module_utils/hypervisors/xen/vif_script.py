# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the script by which Xen's tools make a NIC a port of Open vSwitch: what ports.py keeps of it is set with
the port, in one transaction, so that OVN never sees a port that is not its network's."""

from __future__ import annotations

from pathlib import Path

from ...errors import ForeignObject, NotFound
from ...host.files import make_directory, read_limited, remove_empty_directory, remove_file, write_atomically
from ...host.node_file import Changes
from . import switch_ports

# Xen's tools look for scripts here, and the functions that ours uses are beside it.
SCRIPTS = Path("/etc/xen/scripts")
MARK = "# Written by nebula.provision: it makes NICs of machines ports of Open vSwitch."
LARGEST = 1 << 16
# vif-common.sh knows what is asked (command), gives the interface the name that it is to have (dev), and says in
# xenstore that all is done (success) or why not (fatal). type_if is "tap" for QEMU's end of an emulated NIC, which is
# another port for the same MAC: OVN knows one port of each NIC, and never gets that one. When the host boots, Open
# vSwitch may be later than the machine (--retry); Xen's tools wait ten seconds longer than this does.
TEXT = f"""#!/bin/bash
{MARK}
dir=$(dirname "$0")
. "$dir/vif-common.sh"

case "$command" in
    add|online)
        frontend=$(xenstore_read "$XENBUS_PATH/frontend-id")
        vm=$(xenstore_read "/local/domain/$frontend/vm")
        mac=$(xenstore_read "$XENBUS_PATH/mac")
        mac=${{mac,,}}
        file={switch_ports.PORTS}/${{vm##*/}}
        record=$(grep -m 1 "^$mac " "$file" || true)
        [ -n "$record" ] || fatal "$file has no port for $mac"
        read -r mac bridge interface columns <<< "$record"
        ids=("external_ids:attached-mac=\\"$mac\\"" "external_ids:vm-id=\\"${{vm##*/}}\\"")
        if [ "$type_if" = vif ]; then
            ids+=("external_ids:iface-id=\\"$interface\\"" external_ids:iface-status=active)
        fi
        setup_virtual_bridge_port "$dev"
        mtu=$(cat "/sys/class/net/$bridge/mtu" || true)
        if [ -n "$mtu" ]; then
            do_without_error ip link set dev "$dev" mtu "$mtu"
        fi
        do_or_die ovs-vsctl --retry --timeout=30 -- --if-exists del-port "$dev" \\
            -- add-port "$bridge" "$dev" $columns -- set Interface "$dev" "${{ids[@]}}"
        do_or_die ip link set dev "$dev" up
        ;;
    remove|offline)
        do_without_error ovs-vsctl --timeout=30 -- --if-exists del-port "$dev"
        do_without_error ip link set dev "$dev" down
        ;;
esac

log debug "Successful $0 $command for $dev."
if [ "$type_if" = vif ] && [ "$command" = online ]; then
    success
fi
"""


def prepare(changes: Changes) -> None:
    """Install the script where Xen's tools look for it."""
    path = SCRIPTS / switch_ports.SCRIPT
    before = _installed_text(path)
    if before == TEXT:
        return
    _refuse_foreign(path, before)
    changes.did(str(path), "not there" if before is None else "of another version", "attaches NICs to Open vSwitch")
    if not changes.check_mode:
        make_directory(str(SCRIPTS), 0o755)
        write_atomically(str(path), TEXT, mode=0o755)


def give_back(changes: Changes) -> bool:
    """Remove the script if it is ours. Return whether it was."""
    path = SCRIPTS / switch_ports.SCRIPT
    before = _installed_text(path)
    if before is None or MARK not in before:
        return False
    changes.did(str(path), "attaches NICs to Open vSwitch", "not there")
    if not changes.check_mode:
        remove_file(str(path))
        # With files of machines it stays: they are some other catalog's.
        remove_empty_directory(str(switch_ports.PORTS))
    return True


def require(asked: str) -> None:
    """Raise NotFound if the script that attaches NICs is missing, ForeignObject if it is somebody else's."""
    path = SCRIPTS / switch_ports.SCRIPT
    before = _installed_text(path)
    _refuse_foreign(path, before)
    if before is None:
        raise NotFound(asked, f"there is no {path}, which attaches its NICs", "Run role nebula.provision.node first")


def _installed_text(path: Path) -> str | None:
    try:
        return read_limited(str(path), LARGEST, follow=False).decode("utf-8", "replace")
    except NotFound:
        return None


def _refuse_foreign(path: Path, text: str | None) -> None:
    if text is not None and MARK not in text:
        raise ForeignObject(f"script {path}", "one of this name is there that is not ours", "Rename or remove it")
