# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a machine on OVN's integration bridge from announcing itself as a router, where the kernel forwards.

OVN lets such advertisements pass above all rules of a switch that has any (ovn-northd(8), ls_in_acl: nd_ra at
priority 65532). So nftables drops them where they come in, before Open vSwitch has them: by one chain of family
netdev for each interface. The chain lets through what it can read: an advertisement in parts, or in a frame of IEEE
802.3 (SNAP), which Open vSwitch reads as if it were none, is dropped with all that is not ARP or IP. The userspace
datapath reads what comes before nftables does, and nothing is dropped there.

With kernels before 6.16 such a chain disappears with its interface, and can't be made before the interface exists.
So each interface has a file with the commands that make its chain, and a rule of udev carries them out whenever an
interface of that name comes, whoever starts its machine."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import CommandFailed, ForeignObject, MissingDependency
from ..host.command import run
from ..host.files import make_directory, read_limited, remove_empty_directory, remove_file, write_all, write_atomically
from ..model.nic_filter_rules import Guard
from . import nat
from .links import Mark
from .nic_filter import INTERFACES, ethertype_rules, interfaces_of

FAMILY = "netdev"
# Below nebula_root: one file for each interface, of its name.
DIRECTORY = "announcers"
UDEV = Path("/etc/udev/rules.d")
NFT = "/usr/sbin/nft"
TIMEOUT = 120.0
LARGEST = 1 << 16
_RULE = """{mark}
# Drops what machines on OVN announce as routers. nebula_deploy and nebula_node_network keep the files.
ACTION=="add|move", SUBSYSTEM=="net", TEST=="{place}/$name", RUN+="{nft} -f {place}/$name"
"""
# What udev reads otherwise than it is written.
_SPECIAL = re.compile(r"""[\s"'\\$%*?\[\]|{}]""")
_CHAIN = re.compile(
    r'^\tchain (\S+) \{\n\t\ttype filter hook ingress device "([^"]+)"(.*?)^\t\}', re.MULTILINE | re.DOTALL
)
# Of a run that was killed while it wrote.
_UNFINISHED = re.compile(r"\..*\.tmp\Z")
_DROPS = "icmpv6 type nd-router-advert drop"
# Neighbour discovery does not come in parts (RFC 6980), and the first part of anything else has its type. What is left
# are headers that can't be followed to their end.
_LETS = (
    _DROPS,
    "meta l4proto != ipv6-icmp accept",
    "ether type != ip6 accept",
    "frag frag-off != 0 accept",
    "icmpv6 type != 133-137 accept",
    "exthdr frag missing icmpv6 type 133-137 accept",
)
_MARKED = re.compile(r' comment "([0-9a-f]{12}/[0-9]+)"')


def desired_chains(guards: Iterable[Guard], catalog: str) -> dict[str, str]:
    """Return the commands that make each interface's chain, by the interface's name."""
    return {
        name: _commands(
            catalog,
            name,
            f"nic_{guard.vm_id}_{guard.nic_id}" + ("_emu" if name != guard.port else ""),
            guard.ethertypes,
        )
        for guard in guards
        if guard.bars_router_advertisements
        for name in interfaces_of(guard.port)
    }


def _commands(catalog: str, interface: str, chain: str, named: Sequence[int]) -> str:
    where = f"{FAMILY} {nat.table_name(catalog)}"
    hook = f'type filter hook ingress device "{interface}" priority filter; policy accept;'
    rules = [*ethertype_rules(named), "ether type != { arp, ip, ip6 } drop", *_LETS]
    mark = f"{hashlib.sha256(repr(rules).encode()).hexdigest()[:12]}/{len(rules) + 1}"
    lines = (
        f"add table {where}",
        f"add chain {where} {chain} {{ {hook} }}",
        f"flush chain {where} {chain}",
        *(f"add rule {where} {chain} {rule}" for rule in (*rules, f'drop comment "{mark}"')),
    )
    return "".join(f"{line}\n" for line in lines)


def _is_whole(rules: str, wanted: str) -> bool:
    """Return whether a chain is as the commands make it. rules: as nft lists the chain, after its hook."""
    mark = _MARKED.search(wanted)
    if mark is None:
        # Of an earlier version, for a machine that the catalog does not know.
        return _DROPS in rules
    number = len(re.findall(r"^\t\t\S", rules, re.MULTILINE))
    return f'"{mark.group(1)}"' in rules and number == int(mark.group(1).rpartition("/")[2])


def digests(files: Mapping[str, str]) -> dict[str, str]:
    """Return a digest of each interface's file, as an audit knows it, but of none that Xen emulates besides."""
    emulated = {name for port in files for name in interfaces_of(port) if name != port}
    return {
        name: hashlib.sha256(text.encode()).hexdigest()[:12] for name, text in files.items() if name not in emulated
    }


class Announcers:
    """Keeps files, udev's rule and chains of one node, whose machines are one catalog's. root: nebula_root."""

    def __init__(self, root: str, catalog: str) -> None:
        self.catalog = catalog
        self.place = os.path.join(os.path.abspath(root), DIRECTORY)
        self.rule = UDEV / f"70-nebula-{catalog}.rules"
        self.mark = f"# {Mark(catalog, DIRECTORY)}"

    def found(self) -> dict[str, str]:
        """Return what the file of each interface holds, by the interface's name."""
        places = {name: os.path.join(self.place, name) for name in self._names() if not _UNFINISHED.match(name)}
        return {name: read_limited(path, LARGEST).decode("utf-8", "replace") for name, path in places.items()}

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.place))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def of_strangers(self, machines: Collection[int]) -> set[str]:
        """Return the interfaces that are there and have a file, but whose machine is not among these. A machine that
        the catalog does not know keeps what it had for as long as it runs."""
        return {name for name in self.of_others(machines) if (INTERFACES / name).exists()}

    def of_others(self, machines: Collection[int]) -> set[str]:
        """Return the interfaces that have a file, but whose machine is not among these."""
        found = {name: re.search(r" nic_(\d+)_", text) for name, text in self.found().items()}
        return {name for name, match in found.items() if match is None or int(match.group(1)) not in machines}

    def ensure(self, wanted: Mapping[str, str], staying: Collection[str], act: bool = True) -> tuple[bool, list[str]]:
        """Bring files, udev's rule and the chains of interfaces to this. Return whether anything changes, and
        warnings.
        staying: interfaces whose files stay, though they are not among wanted
        act: False only foretells"""
        before = self.found()
        after = {**{name: text for name, text in before.items() if name in staying}, **wanted}
        if not before and not after:
            return False, []
        changed = before != after
        if not act:
            return changed or bool(self._script(after, needed=False)), []
        warnings = self._udev(bool(after))
        if changed and after:
            make_directory(self.place, 0o700)
            write_all(self.place, after)
        # Before their files go: who finds none does not look for chains.
        made, problems = self._carry_out(after)
        unfinished = filter(_UNFINISHED.match, self._names())
        for name in (*(set(before) - set(after)), *unfinished):
            remove_file(os.path.join(self.place, name))
        if not after:
            remove_empty_directory(self.place)
        return changed or made, [*warnings, *problems]

    def _carry_out(self, wanted: Mapping[str, str]) -> tuple[bool, list[str]]:
        failed = ""
        while True:
            script = self._script(wanted, needed=bool(wanted))
            if not script:
                return False, []
            try:
                run(["nft", "-f", "-"], input=script, timeout=TIMEOUT)
            except CommandFailed as error:
                # An interface may have gone since it was looked for.
                if script == failed:
                    return False, [f"{error}. What machines on OVN announce as routers passes on this host"]
                failed = script
            else:
                return True, []

    def _script(self, wanted: Mapping[str, str], needed: bool) -> str:
        """Return what makes the chains that are lacking and removes the chains for which there is no file. needed:
        whether nft has to be installed."""
        where = f"{FAMILY} {nat.table_name(self.catalog)}"
        listed = self._listed(needed)
        if not wanted:
            return f"delete table {where}\n" if listed else ""
        lines, whole = list[str](), set[str]()
        for chain, device, rules in _CHAIN.findall(listed):
            if f" {chain} " not in wanted.get(device, ""):
                lines += [f"{verb} chain {where} {chain}\n" for verb in ("flush", "delete")]
            elif _is_whole(rules, wanted[device]):
                whole.add(device)
        lacking = (name for name in wanted if name not in whole and (INTERFACES / name).exists())
        return "".join([*lines, *(wanted[name] for name in lacking)])

    def _listed(self, needed: bool) -> str:
        argv = ["nft", "--stateless", "list", "table", FAMILY, nat.table_name(self.catalog)]
        try:
            return run(argv, timeout=TIMEOUT, check=False).stdout
        except MissingDependency:
            if needed:
                raise
            return ""

    def _udev(self, needed: bool) -> list[str]:
        if not UDEV.is_dir():
            return []
        before = self.rule.read_text(encoding="utf-8") if self.rule.exists() else None
        if before is not None and self.mark not in before:
            raise ForeignObject(
                f"file {self.rule}", "one of this name is there that is not ours", "Rename or remove it"
            )
        if not needed:
            if before is not None:
                remove_file(str(self.rule))
            return []
        if _SPECIAL.search(self.place):
            unnamed = (
                f"nebula_root {os.path.dirname(self.place)} has characters that no rule of udev can name: a machine on "
                "OVN may announce itself as a router once others than this collection have started it"
            )
            return [unnamed]
        text = _RULE.format(mark=self.mark, place=self.place, nft=shutil.which("nft") or NFT)
        if text != before:
            write_atomically(str(self.rule), text, mode=0o644)
        return []
