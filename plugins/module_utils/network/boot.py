# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's networks after its host was rebooted: a unit of systemd carries out what lies in files below the node's
root, before the hypervisor starts its machines. The files say what the node has now; nothing of them is a program but
one script, which is the same everywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Optional

from ..errors import InvalidValue, MissingDependency, NotFound
from ..host import units
from ..host.command import run
from ..host.files import make_directory, read_limited, remove_empty_directory, remove_file, write_atomically
from . import links, nat, settings
from .links import Link, Mark

# In it one for each catalog.
DIRECTORY = "boot"
PREFIX = "nebula-network-"
SCRIPT = "networks.sh"
# Those that set the host's own networks and filter up, and those that start machines. What is not there does not count.
AFTER = (
    "network-pre.target systemd-networkd.service NetworkManager.service networking.service nftables.service "
    "firewalld.service ufw.service systemd-sysctl.service"
)
BEFORE = (
    "libvirtd.service virtqemud.service virtxend.service virtlxcd.service libvirt-guests.service xendomains.service "
    "vz.service"
)
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
# Whatever else is in their directory is somebody's.
_OURS = re.compile(r"\.?(networks\.sh|bridge-[^/]+\.(links|settings|nft)|nat-[01]\.nft)(\.[^.]+\.tmp)?\Z")
# bridge-NAME.links: its mark as a comment, two lines that make the bridge, lines that may be carried out again.
# bridge-NAME.settings: files below /proc/sys/net, each with what is to be in it before the bridge is up.
# bridge-NAME.nft: its network's rules, for a table that nat-VALUE.nft makes, where VALUE is what forwarding was before.
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
        # A kernel may be without IPv6 by now.
        [ ! -e "/proc/sys/net/$name" ] || echo "$value" >"/proc/sys/net/$name" || return 1
    done <"$1"
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

# As nebula_deploy does before it starts a machine: what its guest said before the host was booted counts no more.
for file in ../../datastores/0/*/console.log; do
    [ -f "$file" ] && [ ! -L "$file" ] && printf '\nnebula-node: starting\n' >>"$file"
done

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
    settle "bridge-$bridge.settings" || { complain "bridge $bridge: its settings could not be made"; continue; }
    rules=bridge-$bridge.nft
    if [ -e "$rules" ]; then
        network=$(echo "$mark" | cut -d : -f 3)
        filter "$rules" "$network" || complain "bridge $bridge: its nftables rules could not be made"
    fi
    tail -n +4 "$file" | ip -batch - || complain "bridge $bridge could not be set up"
done
exit "$failed"
"""


def wanted(catalog: str, present: Mapping[str, Link]) -> dict[str, str]:
    """Name → content of the files that make what is here now."""
    ours = links.marked(present, catalog)
    files = {SCRIPT: PROGRAM}
    by_network = {mark.network: name for name, link in ours.items() for mark in [link.mark] if mark}
    for name, link in ours.items():
        if link.mark is not None:
            steps = links.new_steps(name, link.mark, link.mac) + links.bridge_steps(name, link.mark, None)
            steps = [step.replace("address add", "address replace", 1) for step in steps]
            kept = settings.lines(name, bool(link.mark.address))
            files[f"bridge-{name}.links"] = "".join(f"{line}\n" for line in [f"# {link.mark}", *steps])
            files[f"bridge-{name}.settings"] = "".join(f"{line}\n" for line in kept)
    rules = _rules(catalog)
    for network, lines in rules.items():
        if network in by_network:
            files[f"bridge-{by_network[network]}.nft"] = "".join(f"{line}\n" for line in lines)
    if rules:
        for value in ("0", "1"):
            files[f"nat-{value}.nft"] = "".join(f"{line}\n" for line in nat.frame(catalog, value))
    return files


def _rules(catalog: str) -> dict[str, list[str]]:
    """This catalog's rules as nftables itself writes them, by their networks' UUIDs."""
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


class Boot:
    """Of one node, whose machines are those of one catalog. root: nebula_root."""

    def __init__(self, root: str, catalog: str) -> None:
        self.catalog = catalog
        self.place = place_of(root, catalog)
        self.mark = f"# {Mark(catalog, 'boot')}"
        self.unit = f"{PREFIX}{catalog or '<catalog>'}.service"

    def text(self) -> str:
        return UNIT.format(
            mark=self.mark,
            catalog=self.catalog,
            table=nat.table_name(self.catalog),
            place=units.quoted(self.place),
            script=units.argument(os.path.join(self.place, SCRIPT)),
            directory=units.argument(self.place),
            after=AFTER,
            before=BEFORE,
        )

    def keep(self, act: bool, forecast: bool = False) -> tuple[Optional[dict[str, str]], Optional[dict[str, str]]]:
        """Make it what the node has now. Returns what differed, before and after; None where there is no systemd.
        forecast: the networks are going to be others than they are, so that the files will be, too."""
        if not units.has_systemd():
            return None, None
        present = links.observe() if self.catalog and not forecast else {}
        files = wanted(self.catalog, present) if not forecast else {}
        before, after = self._found(), {**files}
        if forecast:
            after = {**before, "networks": "as they will be"}
        changed = before != after or not units.installed(self.unit, self.text())
        if not changed:
            return None, None
        if act:
            self.write(files)
            units.install(self.unit, self.text(), self.mark)
        return self._shown(before), {**self._shown(after), "unit": self.unit}

    def write(self, files: Mapping[str, str]) -> None:
        root = os.path.dirname(self.place)
        if not os.path.isdir(root):
            make_directory(root, 0o711)
        make_directory(self.place, 0o700)
        for name, content in files.items():
            write_atomically(os.path.join(self.place, name), content, mode=0o600)
        self._unlink(set(self._found()) - set(files))

    def remove(self, act: bool) -> tuple[Optional[dict[str, str]], Optional[dict[str, str]]]:
        """Take unit and files away."""
        found = self._found()
        has_unit = units.has_systemd() and self.unit in units.named(PREFIX)
        if not found and not has_unit and not os.path.isdir(self.place):
            return None, None
        if act:
            if has_unit:
                units.remove(self.unit, self.mark)
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
                found[name] = read_limited(os.path.join(self.place, name), 1 << 20).decode("utf-8", "replace")
            except (InvalidValue, NotFound) as error:
                error.remedy = "Remove it: files of that name in this directory are the collection's own"
                raise
        return found

    def _unlink(self, names: Iterable[str]) -> None:
        for name in names:
            remove_file(os.path.join(self.place, name))

    def _shown(self, files: Mapping[str, str]) -> dict[str, str]:
        return {name: "present" if name == SCRIPT else content for name, content in files.items()}


def catalogs(root: str) -> list[str]:
    """Whose networks a unit brings back from below this root."""
    found = []
    for name in units.named(PREFIX):
        catalog = name[len(PREFIX) : -len(".service")]
        text = read_limited(os.path.join(units.PLACE, name), 1 << 20).decode("utf-8", "replace")
        if f" {units.argument(place_of(root, catalog))} " in text:
            found.append(catalog)
    return found


def place_of(root: str, catalog: str) -> str:
    return os.path.join(os.path.abspath(root), DIRECTORY, catalog or "-")
