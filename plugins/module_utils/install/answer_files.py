# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes the installers that take answers from a file: its name, how it reaches them, how they are started."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from ..dataclass import dataclass
from ..errors import InvalidValue
from ..model.object_names import known_are
from . import answer_addresses, answer_values, windows_names

SERIAL = "ttyS0,115200n8"
# How answers reach an installer: a second ISO with the label that it looks for, a file appended to its initrd, or a
# floppy.
ISO, INITRD, FLOPPY = "iso", "initrd", "floppy"
WAYS = (ISO, INITRD, FLOPPY)
# What starts the installer: the firmware, from the ISO; or the hypervisor, with a kernel that was taken out of it.
FROM_ISO, FROM_KERNEL = "iso", "kernel"

# Whatever installs, if it says so on the serial console, can't go on.
COMMON_FAILURES = (r"No space left on device", r"nebula-install: (failed|refused)")

# What all templates of this role know.
_COMMON: Mapping[str, object] = {
    "hostname": "",
    "domain": "",
    "locale": "en_US.UTF-8",
    "keyboard": "us",
    "timezone": "Etc/UTC",
    "user": "ops",
    "user_fullname": "",
    "password_hash": "",
    "root_password_hash": "",
    "ssh_keys": (),
    "packages": (),
    "disk": "",
    "mirror": "",
    "proxy": "",
    "address": "",
    "netmask": "",
    "gateway": "",
    "nameservers": (),
    "late_commands": (),
    "extra": "",
}
# Of answers, those that are no variables of a template.
OPTIONS = ("kind", "file", "way")


@dataclass(frozen=True)
class Kind:
    """Describes a form of answers.
    file: its name where the installer looks for it.
    label: of the ISO that the installer looks for.
    ways: how it can be given, the usual one first.
    boots: what can start the installer when answers are given, the usual one first.
    kernels: (kernel, initrd) in ISOs as distributions make them.
    commands: the kernel's command line by way; {label} is the installer ISO's own.
    beside: further files that belong on the answers' ISO.
    memory, disk: MiB that the installer needs at least.
    failures: what it prints on its console when it can't go on.
    accounts: variables of which one has to be given, since nobody could log in else.
    windows: whether it installs Windows.
    disk_paths: whether it wants the path of a disk.
    apt: whether it is apt that gets mirror and proxy.
    link_local_gateway: whether it takes a router by an address of fe80::/10.
    longest_host: characters of host name and domain together; the kernel keeps 64 where both are its host name."""

    name: str
    title: str
    file: str
    template: str
    label: str = ""
    ways: tuple[str, ...] = (ISO,)
    boots: tuple[str, ...] = (FROM_KERNEL,)
    kernels: tuple[tuple[str, str], ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[tuple[str, str], ...] = ()
    memory: int = 1024
    disk: int = 1024
    failures: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ("password_hash", "root_password_hash", "ssh_keys")
    windows: bool = False
    disk_paths: bool = True
    apt: bool = False
    link_local_gateway: bool = True
    longest_host: int = 253
    variables: Mapping[str, object] = field(default_factory=dict)


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name="preseed",
            title="Debian's preseed",
            file="preseed.cfg",
            template="preseed.cfg.j2",
            ways=(INITRD,),
            kernels=(
                ("install.amd/vmlinuz", "install.amd/initrd.gz"),
                ("debian-installer/amd64/linux", "debian-installer/amd64/initrd.gz"),
                ("install/vmlinuz", "install/initrd.gz"),
                ("linux", "initrd.gz"),
            ),
            # priority: what is not answered is asked only if there is no default at all.
            commands={
                INITRD: f"auto=true priority=critical preseed/file=/preseed.cfg DEBIAN_FRONTEND=text console={SERIAL}"
            },
            memory=1024,
            disk=2048,
            # netcfg asks for another gateway than one outside of the address's prefix, and has no device for this one.
            link_local_gateway=False,
            apt=True,
            failures=(
                r"Low memory",
                r"Failed to (partition the selected disk|create a file system)",
                r"No root file system",
                r"Unable to install the (selected kernel|base system|boot loader)",
                r"Debootstrap Error",
                r"Installation step failed",
                r"Bad archive mirror",
                r"(Reserved|Invalid) username",
                r"No kernel modules were found",
            ),
            variables={**_COMMON, "suite": "", "udeb_suite": "", "unsigned_mirror": False, "tasks": ()},
        ),
        Kind(
            name="kickstart",
            title="Kickstart of the RHEL family",
            file="ks.cfg",
            template="ks.cfg.j2",
            label="OEMDRV",
            ways=(ISO, INITRD),
            boots=(FROM_KERNEL, FROM_ISO),
            kernels=(
                ("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"),
                ("isolinux/vmlinuz", "isolinux/initrd.img"),
            ),
            commands={
                ISO: f"inst.stage2=hd:LABEL={{label}} inst.ks=hd:LABEL=OEMDRV:/ks.cfg inst.text console={SERIAL}",
                INITRD: f"inst.stage2=hd:LABEL={{label}} inst.ks=file:/ks.cfg inst.text console={SERIAL}",
            },
            memory=2048,
            disk=10240,
            longest_host=64,
            disk_paths=False,
            failures=(
                r"Not enough free space on (the selected )?disks?",
                r"[Nn]ot enough (disk )?space",
                r"An unknown error has occurred",
                r"Kickstart file .* is missing required sections",
                r"The following error occurred while (parsing|running) the kickstart",
                r"Pane is dead",
            ),
            variables={**_COMMON, "environment": "@^minimal-environment", "repositories": {}, "selinux": "enforcing"},
        ),
        Kind(
            name="autoinstall",
            title="Ubuntu's autoinstall",
            file="user-data",
            template="user-data.j2",
            label="CIDATA",
            ways=(ISO,),
            # From the ISO's own menu the installer would ask whether to go on.
            kernels=(("casper/vmlinuz", "casper/initrd"), ("casper/hwe-vmlinuz", "casper/hwe-initrd")),
            commands={ISO: f"autoinstall console={SERIAL} ---"},
            beside=(("meta-data", ""),),
            memory=2048,
            disk=5120,
            failures=(
                r"subiquity/.*: (FAIL|ERROR)",
                r"autoinstall config did not validate",
                r"An error occurred\. Press enter to start a shell",
                r"curtin.*(command failed|FAIL)",
            ),
            apt=True,
            variables={**_COMMON, "storage": "direct"},
        ),
        Kind(
            name="autoyast",
            title="AutoYaST of openSUSE",
            file="autoinst.xml",
            template="autoinst.xml.j2",
            label="OEMDRV",
            ways=(ISO, INITRD),
            kernels=(("boot/x86_64/loader/linux", "boot/x86_64/loader/initrd"),),
            commands={
                ISO: f"autoyast=label://OEMDRV/autoinst.xml textmode=1 console={SERIAL}",
                INITRD: f"autoyast=file:///autoinst.xml textmode=1 console={SERIAL}",
            },
            memory=2048,
            disk=10240,
            failures=(
                r"Error while (parsing|reading) the control file",
                r"[Nn]ot enough (disk )?space",
                r"Cannot (create|find) .*(partition|repositor)",
            ),
            variables={**_COMMON, "product": "Leap", "patterns": ("base", "minimal_base")},
        ),
        Kind(
            name="autounattend",
            title="autounattend.xml of Windows",
            file="autounattend.xml",
            template="autounattend.xml.j2",
            label="AUTOUNATTEND",
            ways=(ISO, FLOPPY),
            boots=(FROM_ISO,),
            memory=4096,
            disk=32768,
            accounts=("password",),
            windows=True,
            variables={
                "hostname": "",
                "locale": "en-US",
                "keyboard": "",
                "timezone": "UTC",
                "user": "ops",
                "user_fullname": "",
                "password": "",
                "organization": "",
                "product_key": "",
                "image_name": "",
                "image_index": 1,
                "disk": "0",
                "drivers": "w11",
                "late_commands": (),
                "extra": "",
            },
        ),
    )
}


def kind_of(name: object, where: str) -> Kind:
    """Return the kind of this name. Raise InvalidValue, which names the kinds that there are, for another name."""
    if isinstance(name, str) and name in KINDS:
        return KINDS[name]
    raise InvalidValue(
        f"{where}: kind {name!r}" if name else f"{where}: kind",
        "there is no such kind" if name else "it is not given",
        known_are(str(name), KINDS),
    )


def variables_of(kind: Kind, answers: Mapping[str, object], where: str) -> dict[str, object]:
    """Return what the kind's template is given: the answers over its defaults. Errors never show a value."""
    known = {**kind.variables}
    for key, value in answers.items():
        if key in OPTIONS:
            continue
        if key not in known:
            if kind.windows and key in answer_addresses.KEYS:
                raise InvalidValue(
                    f"{where}: {key}",
                    "Windows is installed from its ISO alone, and uses no network for it, neither IPv4 nor IPv6",
                    "Leave it out: machines of the image get their addresses from their context",
                )
            found, words = f"a template of kind {kind.name} has no such variable", sorted([*known, *OPTIONS])
            raise InvalidValue(f"{where}: {key}", found, known_are(str(key), words))
        if value is not None:
            known[key] = _value(str(key), value, kind.variables[key], where)
    if not kind.windows:
        # Those of Windows are looked at with its rules for the computer's name: check_late().
        answer_values.check_user(str(known["user"]), where)
    answer_values.check_names(known, where)
    for key in ("address", "gateway", "nameservers"):
        answer_addresses.check_form(key, known.get(key), where)
    return known


def _value(key: str, value: object, default: object, where: str) -> object:
    if isinstance(default, tuple):
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, (list, tuple)) or not all(_is_text(each) for each in value):
            raise InvalidValue(f"{where}: {key}", "it is not a list of texts", "Write a list, each in quotes")
        value = [str(each) for each in value]
    elif isinstance(default, str):
        if not _is_text(value):
            raise InvalidValue(f"{where}: {key}", f"it is a {type(value).__name__}", "Give text, in quotes")
        value = str(value)
    elif type(value) is not type(default):
        raise InvalidValue(f"{where}: {key}", f"it is a {type(value).__name__}", f"Give a {type(default).__name__}")
    for text in value if isinstance(value, list) else [value]:
        # A line of its own in the file would be an answer to another question.
        if key != "extra" and isinstance(text, str) and any(c in text for c in "\r\n\0"):
            raise InvalidValue(f"{where}: {key}", "it has more than one line", "Give one line")
    return value


def check_late(kind: Kind, variables: Mapping[str, object], name: str, where: str) -> None:
    """Raise InvalidValue for what the installer itself would refuse only when it is half done, or would lose.

    An image that is installed, or being installed, is not held to it. name: the image's."""
    host = host_of(kind, variables, name)
    if kind.windows:
        windows_names.check_computer(host, bool(variables["hostname"]), where)
        windows_names.check_user(str(variables["user"]), host, where)
        answer_values.check_windows(variables, where)
        return
    answer_values.check_linux(variables, kind.disk_paths, kind.apt, where)
    if ":" in str(variables["user_fullname"]):
        raise InvalidValue(
            f"{where}: user_fullname", "it has a colon, which separates the fields of /etc/passwd", "Leave it out"
        )
    answer_addresses.check(variables, where, kind.link_local_gateway)
    whole = f"{host}.{variables['domain']}".rstrip(".")
    if len(whole) > kind.longest_host:
        raise InvalidValue(
            f"{where}: hostname, domain",
            f"together they have {len(whole)} characters, and a name {kind.longest_host} at most",
            "Give a shorter one",
        )


def check_accounts(kind: Kind, variables: Mapping[str, object], where: str) -> None:
    """Raise InvalidValue where nobody could log in to what is installed."""
    # A password of a user that there is none of helps nobody.
    names = [name for name in kind.accounts if name != "password_hash" or variables.get("user")]
    if not any(variables.get(name) for name in names):
        raise InvalidValue(
            where,
            f"nobody could log in: none of {', '.join(names)} is given",
            "Give one of them, or answers of your own (file)",
        )


def command_line(kind: Kind, way: str, label: str) -> str:
    """Return the command line by which the installer's kernel finds the answers."""
    escaped = "".join(c if c.isalnum() or c in "._-+" else f"\\x{ord(c):02x}" for c in label)
    return kind.commands[way].replace("{label}", escaped)


def host_name(name: str) -> str:
    """Return a name that a guest may have, made of its image's."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63].rstrip("-") or "localhost"


def host_of(kind: Kind, variables: Mapping[str, object], name: str) -> str:
    """Return the host name of what is installed: that of the answers, or one that is made of its image's name."""
    made = host_name(name)
    return str(variables["hostname"] or (windows_names.computer_name(made) if kind.windows else made))


def disk_name(bus: str) -> str:
    """Return the disk to install on, as Linux calls it."""
    return "/dev/vda" if bus == "virtio" else "/dev/sda"


def _is_text(value: object) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)
