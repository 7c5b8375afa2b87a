# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers what is in a disk, in one appliance, for the points of a check (checks/points.py). Nothing is written.

Whole directories are read at once, rather than file by file: each question takes an emulated appliance some
hundredths of a second."""

from __future__ import annotations

import io
import os
import posixpath
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator

from ...dataclass import replace
from ...errors import CommandFailed, ImageRefused, harmless
from .. import file_injection
from ..checks import image_facts
from ..checks.image_facts import Facts, Node, Partition
from ..customize import context_program
from ..open import guestfish, image_overlay
from ..open.guestfish import Session
from . import initrd, root_file_system, windows_registry
from .root_file_system import DISK, Root

LONGEST_TEXT = 1 << 20
# What no point asks for, and can be large.
_EXCLUDED = (
    "./udev/hwdb.bin ./ssl/certs ./pki ./ca-certificates ./alternatives ./selinux/targeted ./selinux/default "
    "./apparmor.d ./perl ./X11 ./fonts"
)
# Files of /etc; beyond that it is no system's.
_MOST = 50_000
_LARGEST_INITRD = 512 << 20
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._+@~:-]+")
_STAT = re.compile(r"^  (mode|size): (-?\d+)$", re.MULTILINE)
# Everything that a point looks for outside of /etc. Braces are expanded there.
_LINUX = (
    "/{usr/,}{bin,sbin,local/sbin,local/bin}/{sshd,dropbear,cloud-init,growpart,sfdisk,nebula-context,one-context*}",
    "/{usr/,}lib/systemd/{systemd,system/ssh.service,system/ssh{d,}-keygen*.service,system/sshd*.service}",
    "/usr/lib/repart.d/*.conf",
    "/boot/{vmlinuz,vmlinux,Image,kernel,initrd,initramfs}*",
    "/{usr/,}lib/modules/*/{vmlinuz,modules.dep}",
    "/boot/{grub,grub2}/{grub.cfg,grubenv}",
    "/boot/loader/entries/*.conf",
    "/boot/{extlinux/,syslinux/,}{extlinux.conf,syslinux.cfg}",
    "/{extlinux.conf,syslinux.cfg,grub/grub.cfg}",
    "/{boot/efi,efi,boot}/EFI/*/*",
    "/var/lib/{systemd,urandom,misc}/random-seed",
    "/var/lib/{random-seed,dbus,dbus/machine-id,cloud/instance,nebula-context/*.sum}",
    "/var/lib/{dhcp/*.leases,dhclient/*.lease*,dhcpcd/*.lease*,dhcpcd5/*.lease*,NetworkManager/*}",
    "/{root,home/*}/{.ssh/*,.*_history}",
    "/{,var/}tmp/{*,.[!.]*}",
    "/var/log/{syslog,messages,auth.log,secure,kern.log,daemon.log,user.log,wtmp,btmp,lastlog,boot.log,dmesg}*",
    "/var/log/{cloud-init,nebula-context}*.log",
    "/var/log/journal/*/*",
)
_READ = re.compile(
    r"/(grub\.cfg|grubenv|extlinux\.conf|syslinux\.cfg)$|^/boot/loader/entries/.*\.conf$|^/var/lib/dbus/machine-id$"
)
_KERNEL = re.compile(r"^/boot/(?:vmlinuz|vmlinux|kernel)-(\d.*)$|^(?:/usr)?/lib/modules/([^/]+)/vmlinuz$")


def facts(talk: Session, root: Root, directory: str, what: str, zone: str = "UTC", drivers: bool = True) -> Facts:
    """Return the facts of a disk whose root is mounted.
    directory: for what has to be taken out of the disk.
    drivers: also those of its kernel, and what an EFI partition holds, after which the root is not mounted any
    more."""
    found = _disk(talk, root, zone)
    if root.os == root_file_system.WINDOWS:
        return windows_registry.facts(talk, found)
    found = _linux(talk, found, what)
    return _boot_files(talk, _kernel(talk, found, directory, what)) if drivers else found


# --- the disk --------------------------------------------------------------------------------------------------------


def _disk(talk: Session, root: Root, zone: str) -> Facts:
    parts = [
        Partition(each.number, each.device, each.start, each.size, each.partition_type, each.bootable)
        for each in root.systems
        if each.number
    ]
    return Facts(
        os=root.os,
        size=int(talk.ask("blockdev-getsize64", DISK)),
        table=next((each.scheme for each in root.systems if each.number), ""),
        partitions=tuple(parts),
        boot=_boot_code(talk, parts),
        root=root.device,
        root_type=next((each.type for each in root.systems if each.device == root.device), ""),
        systems=root.systems,
        mounted=root.mounted,
        failed=root.failed,
        zone=zone,
    )


def _boot_code(talk: Session, parts: Iterable[Partition]) -> str:
    """Return whose code is in the first sector, or, of an MBR that only starts it, in the active partition."""
    sector = talk.read("pread-device", DISK, "512", "0")
    if not any(sector[:440]):
        return ""
    active = [talk.read("pread-device", part.device, "512", "0") for part in parts if part.bootable][:1]
    for code in (sector, *active):
        for mark, name in ((b"GRUB", "GRUB"), (b"SYSLINUX", "SYSLINUX"), (b"BOOTMGR", "BOOTMGR"), (b"LILO", "LILO")):
            if mark in code:
                return name
    # What mkfs leaves there prints this.
    if any(b"not a bootable disk" in code for code in active) or sector[510:] != b"\x55\xaa":
        return ""
    return "a boot loader that is not known here"


# --- Linux -----------------------------------------------------------------------------------------------------------


def _linux(talk: Session, found: Facts, what: str) -> Facts:
    tree = dict(_directory(talk, "/etc", what))
    tree.update(_list_files(talk, talk.paths(*_LINUX)))
    os_release = talk.text("/etc/os-release", LONGEST_TEXT)
    for path in [path for path in tree if _READ.search(path)]:
        if tree[path].kind != image_facts.DIRECTORY:
            tree[path] = replace(tree[path], text=talk.text(path, LONGEST_TEXT))
    return replace(found, name=context_program.os_name(os_release), tree=tree)


def _directory(talk: Session, directory: str, what: str) -> Iterator[tuple[str, Node]]:
    """Yield all files below a directory, with the texts of the files that are read."""
    data = talk.read("tar-out", directory, "-", f"excludes:{_EXCLUDED}")
    seen: dict[str, Node] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for count, member in enumerate(archive):
                if count > _MOST:
                    raise ImageRefused(what, f"its {directory} holds more than {_MOST} files", "See what these are")
                path = posixpath.normpath(posixpath.join(directory, member.name))
                if member.islnk():
                    # Another name of what came before it, be that a link. tarfile would follow that, to no end.
                    target = posixpath.normpath(posixpath.join(directory, member.linkname))
                    seen[path] = seen.get(target, Node(image_facts.OTHER, member.mode))
                else:
                    seen[path] = _node(archive, member)
                yield path, seen[path]
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise CommandFailed(f"{what}: reading {directory}", f"it can't be read: {harmless(str(error))}") from error


def _node(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Node:
    if member.issym():
        return Node(image_facts.LINK, member.mode, 0, member.linkname)
    if member.isdir():
        return Node(image_facts.DIRECTORY, member.mode)
    if not member.isreg():
        return Node(image_facts.OTHER, member.mode)
    file = archive.extractfile(member)
    data = file.read(LONGEST_TEXT + 1) if file is not None else b""
    # What is written back is to be what it was, in whatever coding. A part of a file is none.
    text = data.decode("utf-8", "surrogateescape") if len(data) <= LONGEST_TEXT else ""
    return Node(image_facts.FILE, member.mode, max(member.size, len(data)), text=text)


def _list_files(talk: Session, paths: Iterable[str]) -> Iterator[tuple[str, Node]]:
    """Yield the kinds, modes and sizes of these files, by one question to the appliance for each directory."""
    by_directory: dict[str, list[str]] = {}
    for path in paths:
        head, name = posixpath.split(path.rstrip("/"))
        if name not in (".", ".."):
            by_directory.setdefault(head, []).append(name)
    for head, names in by_directory.items():
        plain = [name for name in dict.fromkeys(names) if _PLAIN_NAME.fullmatch(name)]
        for name in names:
            if name not in plain:
                # That they are there is enough to know.
                yield posixpath.join(head, name), Node(size=1)
        stats = _STAT.findall(talk.ask("lstatlist", head, " ".join(plain)) if plain else "")
        for name, (_mode, mode), (_size, size) in zip(plain, stats[::2], stats[1::2]):
            if int(mode):
                kind = {
                    stat.S_IFREG: image_facts.FILE,
                    stat.S_IFDIR: image_facts.DIRECTORY,
                    stat.S_IFLNK: image_facts.LINK,
                }
                node = Node(kind.get(stat.S_IFMT(int(mode)), image_facts.OTHER), stat.S_IMODE(int(mode)), int(size))
                yield posixpath.join(head, name), node


def _kernel(talk: Session, found: Facts, directory: str, what: str) -> Facts:
    versions = {match[1] or match[2] for path in found.tree if (match := _KERNEL.match(path))}
    versions = {version for version in versions if not re.search(r"rescue|\.old$|\.img$", version)}
    if not versions:
        return found
    version = max(versions, key=_version_key)
    builtin = talk.text(f"/lib/modules/{version}/modules.builtin")
    beside = talk.text(f"/lib/modules/{version}/modules.dep")
    found = replace(
        found,
        kernel=version,
        builtin=_names(builtin.splitlines()),
        modules=_names(line.split(":")[0] for line in beside.splitlines()),
    )
    if {"virtio_blk", "virtio_scsi"} & found.builtin:
        return found
    there = [f"/boot/{name}" for name in (f"initrd.img-{version}", f"initramfs-{version}.img", f"initrd-{version}")
             if f"/boot/{name}" in found.tree]  # fmt: skip
    if not there:
        return replace(found, initrd_why="there is none in /boot")
    # It may be a link, and that lead anywhere: all that is taken out is as much as was looked at.
    size = talk.file_size(there[0])
    if size is None:
        return replace(found, initrd_why="it is no file")
    if size > _LARGEST_INITRD:
        return replace(found, initrd_why="it is too large")
    path = os.path.join(directory, "initrd")
    talk.ask("download-offset", there[0], path, "0", str(size))
    try:
        modules, why = initrd.modules_or_reason(path, f"{what}: {there[0]}")
    finally:
        os.unlink(path)
    return replace(found, initrd=modules, initrd_why=why)


def _names(paths: Iterable[str]) -> frozenset[str]:
    return frozenset(name for path in paths for name in initrd.module_names(path))


def _version_key(version: str) -> list[tuple[int, str]]:
    parts = re.findall("[0-9]+|[^0-9]+", version)
    return [(int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in parts]


def _boot_files(talk: Session, found: Facts) -> Facts:
    """Return the facts with what is in an EFI partition that fstab does not mount."""
    from_efi = [part for part in found.partitions if part.type.lower() in image_facts.ESP]
    if not from_efi or any(part.device in found.mounted.values() for part in from_efi):
        return found
    talk.ask("umount-all")
    if talk.found("mount-ro", from_efi[0].device, "/") is None:
        return found
    loaders = talk.paths("/EFI/*/*")
    return replace(found, tree={**found.tree, **{f"/boot/efi{path}": Node() for path in loaders}})


# --- from a file -----------------------------------------------------------------------------------------------------


def inspect_file(path: str, format: str, trusted: bool, what: str, zone: str) -> Facts:
    """Return the facts of the image in this file, which is not written to. Raise InUse if a machine does."""
    image = image_overlay.locate_for_reading(path, format, trusted, what)
    with file_injection.scratch() as directory:
        overlay = os.path.join(directory, "overlay")
        image_overlay.make_overlay(image, overlay)
        with guestfish.session(overlay, "qcow2", directory, what, keep=False) as talk:
            return facts(talk, root_file_system.mount(talk, what, writable=False), directory, what, zone)
