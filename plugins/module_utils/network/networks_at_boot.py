# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a node's networks back after a reboot of its host: a unit of systemd carries out what lies in files below the
node's root, before the hypervisor starts its machines. The files say what the node has now; none of them is a
program but one script, which is the same everywhere."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping

from ..dataclass import replace
from ..errors import InvalidValue, MissingDependency, NotFound
from ..host import systemd_units
from ..host.command import run
from ..host.files import make_directory, read_limited, remove_empty_directory, remove_file, write_all
from . import bridge_sysctls, links, multicast_limit, nat, nic_filter, openvswitch_state, uplinks
from .links import Link, Mark

# In it one for each catalog.
DIRECTORY = "boot"
PREFIX = "nebula-network-"
SCRIPT = "networks.sh"
GUARDS = "guards.nft"
# Those that set the host's own networks and filter up, and those that start machines. What is not there does not count.
AFTER = (
    "network-pre.target systemd-networkd.service NetworkManager.service networking.service nftables.service "
    "firewalld.service ufw.service systemd-sysctl.service"
)
BEFORE = (
    "libvirtd.service virtqemud.service virtxend.service virtlxcd.service libvirt-guests.service xendomains.service "
    "vz.service"
)
SWITCH = "openvswitch-switch.service"
UNIT = """{mark}
[Unit]
Description=Networks of virtual machines of nebula.provision, catalog {catalog}
RequiresMountsFor={place}
After={after}
Before={before}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh {script} {directory} {catalog} {table}

[Install]
WantedBy=multi-user.target
"""
# Where hypervisors keep the definitions of a host's own machines.
DEFINITIONS = ("/etc/libvirt/qemu", "/etc/libvirt/lxc", "/etc/libvirt/libxl", "/etc/xen")
# Whatever else is in their directory is somebody's.
_OURS = re.compile(
    r"\.?(networks\.sh|bridge-[^/]+\.(links|device|settings|nft)|nat-[01]\.nft|guards\.nft|switches\.list)"
    r"(\.[^.]+\.tmp)?\Z"
)
_COMES_BY = re.compile(r'\biifname "([^"]+)"')
# bridge-NAME.links: its mark as a comment, two lines that make the bridge, lines that may be carried out again.
# bridge-NAME.device: the mark of a VLAN or VXLAN device as a comment, with its name, and the lines that make it.
# bridge-NAME.settings: files below /proc/sys/net, each with what is to be in it before the bridge is up.
# guards.nft: what is filtered of machines' NICs; nebula_deploy keeps it.
# switches.list: bridges of Open vSwitch, which makes them again by itself, each with the interface that is to be up.
# bridge-NAME.nft: the rules of its networks, for a table that nat-VALUE.nft makes, where VALUE is what forwarding was
# before.
PROGRAM = r"""#!/bin/sh
# Brings bridges and NAT of virtual networks back when the host boots. nebula_node_network keeps the files beside it.
# What is there already and does not carry the mark of catalog $2 is left alone, and makes this fail.
cd "$1" || exit 1
catalog=$2
table=$3
failed=0

complain() {
    echo "$1" >&2
    failed=1
}

settle() {
    while read -r name value; do
        # A limit that is higher already is somebody's.
        case $name in */igmp_max_memberships) [ "$(cat "/proc/sys/net/$name")" -lt "$value" ] || continue ;; esac
        # A kernel may be without IPv6 by now.
        [ ! -e "/proc/sys/net/$name" ] || echo "$value" >"/proc/sys/net/$name" || return 1
    done <"$1"
}

device() {
    read -r _ mark name <"$1"
    if [ ! -e "/sys/class/net/$name" ]; then
        tail -n +2 "$1" | ip -batch -
    elif [ "$(cat "/sys/class/net/$name/ifalias")" != "$mark" ]; then
        complain "interface $name is there and is not of catalog $catalog: it is left alone"
        return 1
    fi
}

filter() {
    rules=$(nft list table inet "$table" 2>/dev/null)
    case $rules in
        "") nft -f "nat-$(cat /proc/sys/net/ipv4/ip_forward).nft" || return 1 ;;
        *"\"nebula:$catalog:"*) ;;
        *)
            told="nftables table inet $table is not of catalog $catalog: it is left alone"
            complain "$told, the networks have no NAT, and nothing keeps their machines from this host"
            return 0 ;;
    esac
    case $rules in
        *"\"nebula:$2:"*) ;;
        *) nft -f "$1" || return 1 ;;
    esac
    if grep -q masquerade "$1"; then
        echo 1 >/proc/sys/net/ipv4/ip_forward
    fi
}

is_defined_here() {
    for place in DEFINITIONS; do
        [ ! -e "$place/one-$1.xml" ] && [ ! -e "$place/one-$1.cfg" ] || return 0
    done
    return 1
}

# As nebula_deploy does before it starts a machine: what its guest said before the host was booted counts no more. Other
# hosts may have machines in the same directory, and these run on.
for file in ../../datastores/0/*/console.log; do
    [ -f "$file" ] && [ ! -L "$file" ] || continue
    machine=${file#../../datastores/0/}
    is_defined_here "${machine%/console.log}" && printf '\nnebula-node: starting\n' >>"$file"
done

# Before a bridge is up that a machine may be attached to.
if [ -e guards.nft ]; then
    case $(nft list table bridge "$table" 2>/dev/null) in
        "") nft -f guards.nft || complain "what is filtered of machines' interfaces could not be made" ;;
        *"\"nebula:$catalog:"*) ;;
        *) complain "nftables table bridge $table is not of catalog $catalog: machines may send what they like" ;;
    esac
fi

for file in bridge-*.links; do
    [ -e "$file" ] || continue
    bridge=${file#bridge-}
    bridge=${bridge%.links}
    read -r _ mark <"$file"
    if [ ! -e "/sys/class/net/$bridge" ]; then
        head -n 3 "$file" | ip -batch - || { complain "bridge $bridge could not be made"; continue; }
    elif [ "$(cat "/sys/class/net/$bridge/ifalias")" != "$mark" ]; then
        complain "bridge $bridge: an interface of that name that is not of catalog $catalog is there: it is left alone"
        continue
    fi
    if [ -e "bridge-$bridge.device" ]; then
        device "bridge-$bridge.device" || complain "bridge $bridge: what joins it with other hosts could not be made"
    fi
    settle "bridge-$bridge.settings" || { complain "bridge $bridge: its settings could not be made"; continue; }
    rules=bridge-$bridge.nft
    if [ -e "$rules" ]; then
        network=$(echo "$mark" | cut -d : -f 3)
        filter "$rules" "$network" || complain "bridge $bridge: its nftables rules could not be made"
    fi
    tail -n +4 "$file" | ip -batch - || complain "bridge $bridge could not be set up"
done

if [ -e switches.list ]; then
    while read -r bridge port; do
        mark=$(ovs-vsctl --timeout=30 --if-exists get Bridge "$bridge" external_ids:SWITCH_MARK) || mark=
        if [ "$mark" != "\"$catalog\"" ]; then
            complain "bridge $bridge of Open vSwitch is not there, or not of catalog $catalog: it is left alone"
            continue
        fi
        [ "$port" = - ] || ip link set dev "$port" up || complain "bridge $bridge: $port could not be set up"
    done <switches.list
fi
exit "$failed"
""".replace("SWITCH_MARK", openvswitch_state.MARK).replace("DEFINITIONS", " ".join(DEFINITIONS))


def desired_files(catalog: str, present: Mapping[str, Link]) -> dict[str, str]:
    """Return the files that make what is here now: each name with its content."""
    ours = links.bridges_of_catalog(present, catalog)
    files = {SCRIPT: PROGRAM}
    by_network = {mark.network: name for name, link in ours.items() for mark in [link.mark] if mark}
    forced = [name for name, link in ours.items() if link.mark is not None and link.mark.forced]
    limit = multicast_limit.sysctl_line(present)
    # After a boot the host has its addresses where its distribution puts them, and who moves them again is a run.
    ours = {name: _without_addresses(link) if link.mark and link.mark.forced else link for name, link in ours.items()}
    for name, link in ours.items():
        if link.mark is not None:
            steps = links.bridge_making_lines(name, link.mark, link.mac) + links.bridge_changing_lines(
                name, link.mark, None
            )
            steps = [step.replace("address add", "address replace", 1) for step in steps]
            kept = bridge_sysctls.lines(name, bool(link.mark.address))
            for port in uplinks.ports(link, present):
                device = present[port]
                steps += uplinks.at_boot(device, name)
                if device.kind == links.VXLAN_KIND:
                    kept.append(limit)
                if device.number:
                    files[f"bridge-{name}.device"] = _text([f"# {device.alias} {port}", *uplinks.device_lines(device)])
                    kept += bridge_sysctls.lines_of(port, uplinks.SETTINGS)
            files[f"bridge-{name}.links"] = _text([f"# {link.mark}", *steps])
            files[f"bridge-{name}.settings"] = _text(kept)
    filters = nic_filter.at_boot(catalog)
    if filters:
        files[GUARDS] = filters
    switched = openvswitch_state.bridges_of_catalog(catalog)
    if switched:
        files[SWITCHES] = _text(f"{name} {bridge.port or '-'}" for name, bridge in sorted(switched.items()))
    rules = _rules(catalog)
    for network, lines in rules.items():
        # Of a bridge that several networks have, its mark names one of them, and their rules name the bridge.
        name = by_network.get(network) or next((m[1] for m in map(_COMES_BY.search, lines) if m and m[1] in ours), "")
        if name:
            made = nat.Rules(network, name).lines(catalog) if name in forced else lines
            files[f"bridge-{name}.nft"] = files.get(f"bridge-{name}.nft", "") + _text(made)
    if rules:
        for value in ("0", "1"):
            files[f"nat-{value}.nft"] = _text(nat.frame(catalog, value))
    return files


def _without_addresses(link: Link) -> Link:
    mark = link.mark
    return (
        link
        if mark is None
        else replace(link, alias=str(Mark(mark.catalog, mark.network, shared=mark.shared)), ports=())
    )


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _rules(catalog: str) -> dict[str, list[str]]:
    """Return this catalog's rules as nftables itself writes them, by their networks' UUIDs."""
    table = nat.table_name(catalog)
    try:
        text = run(["nft", "--stateless", "list", "table", "inet", table], timeout=nat.TIMEOUT, check=False).stdout
    except MissingDependency:
        return {}
    found: dict[str, list[str]] = {}
    chain = ""
    for line in map(str.strip, text.splitlines()):
        begun = re.match(r"chain (\S+) \{", line)
        chain = begun.group(1) if begun else chain
        rule = re.search(r' comment "nebula:([0-9a-f-]{36}):[0-9a-f]{12}"$', line)
        if rule:
            found.setdefault(rule.group(1), []).append(f"add rule inet {table} {chain} {line}")
    return found


SWITCHES = "switches.list"


class Boot:
    """Keeps the unit and the files of one node, whose machines are those of one catalog. root: nebula_root."""

    def __init__(self, root: str, catalog: str) -> None:
        self.catalog = catalog
        self.place = place_of(root, catalog)
        self.mark = f"# {Mark(catalog, 'boot')}"
        self.unit = f"{PREFIX}{catalog or '<catalog>'}.service"

    def text(self, switched: bool = False) -> str:
        """Return the text of the unit. switched: whether there are bridges of Open vSwitch."""
        return UNIT.format(
            mark=self.mark,
            catalog=self.catalog,
            table=nat.table_name(self.catalog),
            place=systemd_units.quoted(self.place),
            script=systemd_units.quoted_argument(os.path.join(self.place, SCRIPT)),
            directory=systemd_units.quoted_argument(self.place),
            after=f"{AFTER} {SWITCH}" if switched else AFTER,
            before=BEFORE,
        )

    def keep(self, act: bool, forecast: bool = False) -> tuple[dict[str, str] | None, dict[str, str] | None]:
        """Bring unit and files to what the node has now. Return what differed, before and after; None without systemd.
        forecast: the networks are going to be others than they are, so that the files will be, too"""
        if not systemd_units.has_systemd():
            return None, None
        present = links.observe(with_settings=False) if self.catalog and not forecast else {}
        files = desired_files(self.catalog, present) if not forecast else {}
        before, after = self._found(), {**files}
        if forecast:
            after = {**before, "networks": "as they will be"}
        text = self.text(SWITCHES in files or (forecast and SWITCHES in before))
        changed = before != after or not systemd_units.installed(self.unit, text)
        if not changed:
            return None, None
        if act:
            self.write(files)
            systemd_units.install(self.unit, text, self.mark)
        return self._shown(before), {**self._shown(after), "unit": self.unit}

    def kept_guards(self) -> str:
        """Return what keep_guards() took over, which a boot makes; "" if there is nothing."""
        return self._found().get(GUARDS, "")

    def keep_guards(self, text: str) -> None:
        """Take over what is filtered of machines' NICs. Without systemd nothing would carry it out, and nothing is
        kept."""
        if not systemd_units.has_systemd():
            return
        if text:
            found = self._found()
            self.write({**found, SCRIPT: PROGRAM, GUARDS: text})
            systemd_units.install(self.unit, self.text(SWITCHES in found), self.mark)
        else:
            self._unlink([name for name in self._found() if name == GUARDS])

    def write(self, files: Mapping[str, str]) -> None:
        root = os.path.dirname(self.place)
        if not os.path.isdir(root):
            make_directory(root, 0o711)
        make_directory(self.place, 0o700)
        write_all(self.place, files)
        self._unlink(set(self._found()) - set(files))

    def remove(self, act: bool) -> tuple[dict[str, str] | None, dict[str, str] | None]:
        found = self._found()
        has_unit = systemd_units.has_systemd() and self.unit in systemd_units.units_named(PREFIX)
        if not found and not has_unit and not os.path.isdir(self.place):
            return None, None
        if act:
            if has_unit:
                systemd_units.remove(self.unit, self.mark)
            self._unlink(found)
            if remove_empty_directory(self.place):
                remove_empty_directory(os.path.dirname(self.place))
        return {**self._shown(found), **({"unit": self.unit} if has_unit else {})}, None

    def _found(self) -> dict[str, str]:
        found = {}
        try:
            names = os.listdir(self.place)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        for name in (each for each in names if _OURS.match(each)):
            try:
                limit = nic_filter.LONGEST_LIST if name == GUARDS else 1 << 20
                found[name] = read_limited(os.path.join(self.place, name), limit).decode("utf-8", "replace")
            except (InvalidValue, NotFound) as error:
                error.remedy = "Remove it: files of that name in this directory are the collection's own"
                raise
        return found

    def _unlink(self, names: Iterable[str]) -> None:
        for name in names:
            remove_file(os.path.join(self.place, name))

    def _shown(self, files: Mapping[str, str]) -> dict[str, str]:
        # Rules of a thousand NICs are millions of characters.
        brief = {SCRIPT: lambda _content: "present", GUARDS: _brief}
        return {name: brief.get(name, str)(content) for name, content in files.items()}


def _brief(content: str) -> str:
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return f"{content.count(chr(10))} lines, SHA-256 {digest}"


def catalogs(root: str) -> list[str]:
    """Return the catalogs whose networks a unit brings back from below this root."""
    found = []
    for name in systemd_units.units_named(PREFIX):
        catalog = name[len(PREFIX) : -len(".service")]
        text = read_limited(os.path.join(systemd_units.PLACE, name), 1 << 20).decode("utf-8", "replace")
        if f" {systemd_units.quoted_argument(place_of(root, catalog))} " in text:
            found.append(catalog)
    return found


def place_of(root: str, catalog: str) -> str:
    return os.path.join(os.path.abspath(root), DIRECTORY, catalog or "-")
