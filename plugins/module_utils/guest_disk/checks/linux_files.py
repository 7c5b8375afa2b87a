# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads how a Linux guest says what it does: services, kernel command lines, sshd, network files. Pure, of Facts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .image_facts import LINK, Facts, System

MAC = re.compile(r"\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b", re.IGNORECASE)
NETWORK_FILES = (
    "/etc/network/interfaces", "/etc/network/interfaces.d/*", "/etc/netplan/*.yaml", "/etc/netplan/*.yml",
    "/etc/sysconfig/network-scripts/ifcfg-*", "/etc/sysconfig/network/ifcfg-*", "/etc/systemd/network/*.network",
    "/etc/NetworkManager/system-connections/*",
)  # fmt: skip
MAC_LINES = {
    "/etc/udev/rules.d/*.rules": re.compile(r"ATTRS?\{address\}", re.IGNORECASE),
    "/etc/sysconfig/network-scripts/ifcfg-*": re.compile(r"^\s*(HWADDR|MACADDR)\s*=", re.IGNORECASE),
    "/etc/sysconfig/network/ifcfg-*": re.compile(r"^\s*(HWADDR|LLADDR)\s*=", re.IGNORECASE),
    "/etc/netplan/*.yaml": re.compile(r"\bmacaddress\s*:", re.IGNORECASE),
    "/etc/netplan/*.yml": re.compile(r"\bmacaddress\s*:", re.IGNORECASE),
    "/etc/NetworkManager/system-connections/*": re.compile(r"^\s*(cloned-)?mac-address\s*=", re.IGNORECASE),
    "/etc/systemd/network/*.network": re.compile(r"^\s*(Permanent)?MACAddress\s*=", re.IGNORECASE),
    "/etc/systemd/network/*.link": re.compile(r"^\s*(Permanent)?MACAddress\s*=", re.IGNORECASE),
    "/etc/network/interfaces": re.compile(r"^\s*hwaddress\b|\bmac_address\b", re.IGNORECASE),
    "/etc/network/interfaces.d/*": re.compile(r"^\s*hwaddress\b|\bmac_address\b", re.IGNORECASE),
}
# A kernel's command line in the configuration of any boot loader.
COMMAND_LINE = re.compile(r"^[ \t]*(?:linux(?:16|efi)?[ \t]+\S+|options|append)[ \t]+.*$", re.MULTILINE | re.IGNORECASE)
_CONSOLE = re.compile(r"(?:^|\s)console=((?:ttyS|ttyAMA|hvc)\d+)\S*")
_GRUB = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/efi/EFI/*/grub.cfg", "/grub/grub.cfg")
_SYSLINUX = (
    "/boot/extlinux/extlinux.conf", "/boot/extlinux.conf", "/boot/syslinux/syslinux.cfg", "/extlinux.conf",
    "/syslinux.cfg", "/boot/isolinux/isolinux.cfg",
)  # fmt: skip
_ENTRIES = ("/boot/loader/entries/*.conf", "/boot/efi/loader/entries/*.conf")
# Patterns that sshd's configuration includes, and characters of one.
_MOST_INCLUDES, _LONGEST_PATTERN = 50, 1000
# Lines with options of an entry, of which there is one.
_MOST_OPTIONS = 10
BOOT_FILES = (*_GRUB, *_ENTRIES, *_SYSLINUX)


def lines(text: str) -> Iterator[str]:
    """Yield the lines of a text without comments and without blank lines."""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith(("#", ";")):
            yield line


# --- services --------------------------------------------------------------------------------------------------------


def what_starts(facts: Facts, *names: str) -> str:
    """Return what starts one of these services at boot, "" if nothing does."""
    for name in names:
        if is_masked(facts, name):
            continue
        for suffix in ("service", "socket", "target"):
            for path, _node in facts.matching(f"/etc/systemd/system/*/{name}.{suffix}"):
                if path.split("/")[-2].endswith((".wants", ".requires", ".upholds")):
                    return path
        for path, _node in facts.matching(
            f"/etc/rc[2-5].d/S[0-9][0-9]{name}",
            f"/etc/rc.d/rc[2-5].d/S[0-9][0-9]{name}",
            f"/etc/rcS.d/S[0-9][0-9]{name}",
            f"/etc/runlevels/*/{name}",
        ):
            return path
    return ""


def is_masked(facts: Facts, name: str) -> bool:
    node = facts.tree.get(f"/etc/systemd/system/{name}.service")
    return node is not None and (node.target == "/dev/null" or (node.kind != LINK and node.size == 0))


def has_systemd(facts: Facts) -> bool:
    return facts.has("/usr/lib/systemd/systemd", "/lib/systemd/systemd")


# --- what gives a guest its context ----------------------------------------------------------------------------------

CLOUD_INIT, OURS, ONE_CONTEXT, OLD = "cloud-init", "nebula-context", "one-context", "rc.local"


def context_programs(facts: Facts) -> list[str]:
    """Return the context programs that are installed and run at boot."""
    found = []
    if facts.has("/usr/bin/cloud-init") and not cloud_init_obstacle(facts):
        found.append(CLOUD_INIT)
    if facts.has("/usr/local/sbin/nebula-context") and _starts_our_program(facts):
        found.append(OURS)
    if facts.has("/usr/sbin/one-contextd", "/usr/sbin/one-context-run", "/etc/one-context.d") and (
        what_starts(facts, "one-context", "one-context-local", "vmcontext") or facts.has("/etc/init.d/vmcontext")
    ):
        found.append(ONE_CONTEXT)
    for path in ("/etc/rc.local", "/etc/rc.d/rc.local"):
        if "context.sh" in "\n".join(lines(facts.text(path))):
            found.append(OLD)
            break
    return found


def _starts_our_program(facts: Facts) -> bool:
    started = what_starts(facts, "nebula-context") or what_starts(facts, "nebula-context-network")
    texts = [facts.text(path) for path in ("/etc/inittab", "/etc/rc.local", "/etc/rc.d/rc.local")]
    return bool(started) or any("nebula-context" in line for text in texts for line in lines(text))


def cloud_init_obstacle(facts: Facts) -> str:
    """Return why cloud-init does not run at boot, or takes none of our contexts; "" if it does."""
    if facts.has("/etc/cloud/cloud-init.disabled"):
        return "/etc/cloud/cloud-init.disabled switches it off"
    for name in ("cloud-init", "cloud-init-local", "cloud-config", "cloud-final"):
        if is_masked(facts, name):
            return f"its service {name} is masked"
    if any("cloud-init=disabled" in line for line in command_lines(facts)):
        return "cloud-init=disabled is on the kernel's command line"
    sources = ""
    for _path, node in facts.matching("/etc/cloud/cloud.cfg", "/etc/cloud/cloud.cfg.d/*.cfg"):
        match = re.search(r"^datasource_list\s*:\s*\[?([^\]\n]*(?:\n\s+-[^\n]*)*)", node.text, re.MULTILINE)
        sources = match[1] if match else sources
    if sources.strip() and not re.search("OpenNebula|ConfigDrive|NoCloud", sources):
        return f"its datasource_list has none of OpenNebula, ConfigDrive and NoCloud: {' '.join(sources.split())[:100]}"
    return ""


_NO_NETWORK = re.compile(
    r"^network[ \t]*:[ \t]*(?:\{|\n[ \t])[ \t]*[\"']?config[\"']?[ \t]*:[ \t]*[\"']?disabled\b", re.MULTILINE
)


def cloud_init_without_network(facts: Facts) -> str:
    """Return what keeps cloud-init from configuring the network, as installers leave it; "" if nothing does."""
    if any("network-config=disabled" in line for line in command_lines(facts)):
        return "network-config=disabled on the kernel's command line"
    files = facts.matching("/etc/cloud/cloud.cfg", "/etc/cloud/cloud.cfg.d/*.cfg")
    return next((path for path, node in files if _NO_NETWORK.search(node.text)), "")


# --- the kernel's command line ---------------------------------------------------------------------------------------


def command_lines(facts: Facts) -> list[str]:
    """Return the kernel's command line of the default entry of each boot loader that has a configuration."""
    found = []
    for _path, node in facts.matching(*_GRUB):
        arguments = re.findall(r"^[ \t]*linux(?:16|efi)?[ \t]+\S+[ \t]*(.*)$", node.text, re.MULTILINE)
        found += arguments[:1]
    entries = [node.text for _path, node in facts.matching(*_ENTRIES)]
    environment = "".join(node.text for _path, node in facts.matching("/boot/grub2/grubenv", "/boot/grub/grubenv"))
    options = re.search(r"^kernelopts=(.*)$", environment, re.MULTILINE)
    for text in entries[-1:]:
        arguments = re.findall(r"^options\s+(.*)$", text, re.MULTILINE)
        # Once in a few lines, as it is: an image that names it again and again would have no end.
        found += [line.replace("$kernelopts", options[1] if options else "", 1) for line in arguments[:_MOST_OPTIONS]]
    for _path, node in facts.matching(*_SYSLINUX):
        found += re.findall(r"^[ \t]*append[ \t]+(.*)$", node.text, re.MULTILINE | re.IGNORECASE)[:1]
    return found


def has_serial_console(line: str) -> str:
    match = _CONSOLE.search(line)
    return match[1] if match else ""


# --- sshd ------------------------------------------------------------------------------------------------------------


def sshd_options(facts: Facts) -> dict[str, str]:
    """Return sshd's options outside of Match blocks, in lower case, with their first values, which count."""
    found: dict[str, str] = {}
    _read(facts, "/etc/ssh/sshd_config", found, set(), {"/etc/ssh/sshd_config"})
    return found


def _read(facts: Facts, path: str, found: dict[str, str], patterns: set[str], taken: set[str], depth: int = 0) -> None:
    """Read the options of one file, and of the files that it includes.
    patterns: patterns of files that were looked for already.
    taken: files that were read, which have nothing new again."""
    for line in lines(facts.text(path)):
        name, _blank, value = line.strip().replace("=", " ", 1).partition(" ")
        name, value = name.lower(), value.strip().strip('"')
        if name == "match":
            return
        if name == "include" and depth < 3:
            for pattern in value.split(None, _MOST_INCLUDES)[:_MOST_INCLUDES]:
                if pattern in patterns or len(patterns) >= _MOST_INCLUDES or len(pattern) > _LONGEST_PATTERN:
                    continue
                patterns.add(pattern)
                for other, _node in facts.matching(pattern if pattern.startswith("/") else f"/etc/ssh/{pattern}"):
                    if other not in taken:
                        taken.add(other)
                        _read(facts, other, found, patterns, taken, depth + 1)
        else:
            found.setdefault(name, value)


# --- the network -----------------------------------------------------------------------------------------------------


def hard_coded_macs(facts: Facts) -> list[str]:
    """Return the lines that bind something to a MAC address, each as "file: address"."""
    found = []
    for pattern, form in MAC_LINES.items():
        for path, node in facts.matching(pattern):
            for line in lines(node.text):
                match = MAC.search(line)
                if match and form.search(line):
                    found.append(f"{path}: {match[0]}")
    return found


def static_addresses(facts: Facts) -> list[str]:
    """Return the places where an address of an interface is written down, each as "file: line"."""
    found = []
    for path, node in facts.matching(*NETWORK_FILES):
        text = "\n".join(lines(node.text))
        name = path.rsplit("/", 1)[-1]
        if path.startswith("/etc/network/"):
            static = re.findall(r"^[ \t]*(iface (?!lo\b)\S+ inet6? static)", text, re.MULTILINE)
            found += [f"{path}: {line}" for line in static]
        elif "/netplan/" in path:
            form = r"^[ \t]+addresses[ \t]*:([ \t\n]*\[[ \t\n]*[^\]\s]|[ \t]*\n[ \t]*-)"
            found += [f"{path}: addresses"] if re.search(form, _without_dns(text), re.MULTILINE) else []
        elif name.startswith("ifcfg-") and name != "ifcfg-lo":
            match = re.search(r"""^[ \t]*IPADDR\d*[ \t]*=[ \t]*(["']?)[0-9][^"'\s]*\1""", text, re.MULTILINE)
            found += [f"{path}: {match[0].strip()}"] if match else []
        elif path.startswith("/etc/systemd/"):
            match = re.search(r"^[ \t]*Address[ \t]*=[ \t]*(?!127\.)\S+", text, re.MULTILINE)
            found += [f"{path}: {match[0].strip()}"] if match else []
        elif path.startswith("/etc/NetworkManager/"):
            match = re.search(r"^[ \t]*address\d*[ \t]*=[ \t]*\S+", text, re.MULTILINE)
            found += [f"{path}: {match[0].strip()}"] if match and "type=loopback" not in text else []
    return found


def _without_dns(text: str) -> str:
    """Return Netplan's text without its name servers: their addresses are not those of interfaces."""
    return re.sub(r"^([ \t]+)nameservers[ \t]*:.*\n(?:\1[ \t]+.*\n?)*", "", text + "\n", flags=re.MULTILINE)


# Names of network files that context programs write, and what stands in those whose names don't tell it.
_WRITTEN_NAME = re.compile(r"cloud-init|nebula-context|one-context", re.IGNORECASE)
_WRITTEN_LINE = re.compile(
    r"\A[ \t]*(?:#.*\b(?:created|generated|written) by (?:cloud-init|nebula-context|one-context)"
    r"|id[ \t]*=[ \t]*cloud-init\b)",
    re.IGNORECASE,
)


def former_networks(facts: Facts) -> list[str]:
    """Return the network files that a context program wrote in an earlier life of the image. They may act in place of
    the files that are written for a machine: NetworkManager prefers cloud-init's profiles by a priority."""
    return [
        path
        for path, node in facts.matching(*NETWORK_FILES)
        # ifupdown needs this file, and whoever writes it writes the whole of it.
        if path != "/etc/network/interfaces"
        and (_WRITTEN_NAME.search(path.rsplit("/", 1)[-1]) or any(map(_WRITTEN_LINE.match, node.text.splitlines())))
    ]


def automatic_addresses(facts: Facts) -> list[str]:
    """Return the files that ask for an address by DHCP."""
    forms = re.compile(
        r"^[ \t]*(iface (?!lo\b)\S+ inet6? (dhcp|auto)|dhcp[46]?[ \t]*:[ \t]*(true|yes)|"
        r"BOOTPROTO[ \t]*=[ \t]*[\"']?dhcp|DHCP[ \t]*=[ \t]*(yes|ipv4|ipv6|true)|method[ \t]*=[ \t]*auto)",
        re.MULTILINE | re.IGNORECASE,
    )
    return [path for path, node in facts.matching(*NETWORK_FILES) if forms.search(node.text)]


# --- fstab -----------------------------------------------------------------------------------------------------------

_NAMES = {"UUID": "uuid", "LABEL": "label", "PARTUUID": "partition_uuid", "PARTLABEL": "partition_label"}
_BY_BUS = re.compile(r"^/dev/(?:x?vd[a-z]|sd[a-z]|hd[a-z]|nvme\d+n\d+(?:p(?=\d))?|mmcblk\d+(?:p(?=\d))?)(\d*)$")
# The first disk of each bus, which is the image's.
_FIRST = re.compile(r"^/dev/(?:x?vda|sda|hda|nvme0n1(?:p(?=\d))?|mmcblk0(?:p(?=\d))?)(\d*)$")


def fstab(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield the lines of fstab, each as (source, mount point, type, options)."""
    for line in lines(text):
        words = line.split()
        if len(words) >= 3:
            point = words[1] if words[1] == "/" else words[1].rstrip("/")
            yield words[0], point, words[2], words[3] if len(words) > 3 else "defaults"


def is_by_bus(source: str) -> bool:
    """Return whether another bus, or another order of disks, changes this name of a device."""
    return _BY_BUS.match(source) is not None


def device_of(source: str, systems: Sequence[System]) -> str | None:
    """Return the device on this disk, here /dev/sda, that fstab's first word names; None if it is not there."""
    name, equals, value = source.partition("=")
    for key in _NAMES:
        prefix = f"/dev/disk/by-{key.lower()}/"
        if source.startswith(prefix):
            name, equals, value = key, "=", source[len(prefix) :]
    if equals and name in _NAMES:
        wanted = value.strip('"')
        for system in systems:
            has = getattr(system, _NAMES[name])
            if has and (has == wanted or ("UUID" in name and has.lower() == wanted.lower())):
                return system.device
        return None
    devices = {system.device for system in systems}
    if source.startswith("/dev/mapper/"):
        # vg-lv, whose own dashes are doubled.
        parts = source[len("/dev/mapper/") :].replace("--", "\0").split("-")
        volume = "/dev/" + "/".join(parts).replace("\0", "-")
        return volume if volume in devices else None
    first = _FIRST.match(source)
    if first:
        device = "/dev/sda" + first[1]
        return device if device in devices else None
    return source if source in devices else None
