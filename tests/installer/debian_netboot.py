# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's own installer, of the package debian-installer-N-netboot-amd64, and the components that it loads.

The package is downloaded and unpacked, never installed. The installer takes its other components, some eighty packages
of their own kind, from the archive while it runs. Archives that were not copied whole lack some: then the installer
stops with «The installer failed to download a file from the mirror». What another package of the same archive has the
same files of, and what an installation on one ext4 never calls, is put into the initrd instead; a release that lacks
anything else can't be installed from that archive, and the next one is taken."""

from __future__ import annotations

import gzip
import lzma
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_image
from ansible_collections.nebula.provision.tests.integration.guests.cache import cached

from .mirror import Mirror, path_of

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
RELEASES = (("12", "bookworm"), ("13", "trixie"))
IMAGES = "usr/lib/debian-installer/images"
STATUS = "var/lib/dpkg/status"
# Of these priorities the installer loads all.
LOADED = ("required", "important", "standard")
# Component → the packages that have its files.
REPLACED: Mapping[str, Sequence[str]] = {
    "e2fsprogs-udeb": ("e2fsprogs", "libext2fs2t64", "libss2", "libcom-err2"),
    "libmount1-udeb": ("libmount1",),
}
# Component, less the kernel's version → files of the kernel's own package.
KERNEL_FILES: Mapping[str, Sequence[str]] = {
    "ext4-modules": ("fs/ext4",),
    # Without them the partitioner stops, and says that there is no software RAID, and no LVM.
    "md-modules": ("drivers/md/md-mod", "drivers/md/raid1.", "drivers/md/dm-mod", "drivers/md/dm-snapshot"),
    "scsi-modules": ("drivers/block/virtio_blk", "drivers/scsi/virtio_scsi"),
}
# For other disks, and other file systems, than the machine has.
UNNEEDED = (
    "ata-modules",
    "btrfs-modules",
    "btrfs-progs-udeb",
    "cdrom-core-modules",
    "firewire-core-modules",
    "isofs-modules",
    "jfs-modules",
    "jfsutils-udeb",
    "loop-modules",
    "ntfs-3g-udeb",
    "pata-modules",
    "pcmcia-storage-modules",
    "sata-modules",
    "xfs-modules",
    "xfsprogs-udeb",
)


class Lacking(Exception):
    """The archive has not all that an installation of this release needs."""


@dataclass(frozen=True)
class Component:
    """A package of the installer's, as the archive's index has it."""

    name: str
    fields: Mapping[str, str]
    provides: frozenset[str] = frozenset()
    depends: Sequence[str] = ()


@dataclass
class Netboot:
    """number, codename: the release's. extra: what has to be behind initrd, as a cpio archive. replaced: the components
    that are in it, and why."""

    number: str
    codename: str
    kernel: Path
    initrd: Path
    extra: bytes = b""
    replaced: dict[str, str] = field(default_factory=dict)


def installer(mirror: Mirror) -> Netboot:
    """That of the first release of which the archive has enough."""
    problems = []
    for number, codename in RELEASES:
        found = netboot(mirror, number, codename)
        try:
            complete(mirror, found)
        except Lacking as problem:
            problems.append(f"Debian {number}: {problem}")
            print(problems[-1], flush=True)
            continue
        return found
    raise SystemExit("No installer can be tried with this archive.\n" + "\n".join(problems))


# --- the package -----------------------------------------------------------------------------------------------------


def netboot(mirror: Mirror, number: str, codename: str) -> Netboot:
    package = f"debian-installer-{number}-netboot-amd64"
    apt = Apt(mirror, codename)

    def make(place: Path) -> None:
        apt.unpack([package], place / "unpacked")
        images = place / "unpacked" / IMAGES / number / "amd64/text/debian-installer/amd64"
        for name in ("linux", "initrd.gz"):
            (images / name).rename(place / name)
        shutil.rmtree(place / "unpacked")

    place = cached(f"netboot-{number}", [package, apt.version(package)], make)
    return Netboot(number, codename, place / "linux", place / "initrd.gz")


class Apt:
    """apt with the lists of one release of the same archive, whatever this machine's own sources name."""

    def __init__(self, mirror: Mirror, codename: str) -> None:
        self.place = mirror.place.parent / f"apt-{codename}"
        (self.place / "lists/partial").mkdir(parents=True, exist_ok=True)
        (self.place / "archives/partial").mkdir(parents=True, exist_ok=True)
        (self.place / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror.uri} {codename} main\n")
        self.settings = {
            "Dir::Etc::sourcelist": f"{self.place}/sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::Lists": f"{self.place}/lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Sandbox::User": "root",
        }
        self.run("apt-get", "-q", "update")

    def run(self, program: str, *arguments: str) -> str:
        options = [word for name, value in self.settings.items() for word in ("-o", f"{name}={value}")]
        argv = [program, *options, *arguments]
        cwd = self.place / "archives"
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=900, cwd=cwd).stdout

    def version(self, package: str) -> str:
        found = re.search(r"^Version: (.+)$", self.run("apt-cache", "--no-all-versions", "show", package), re.MULTILINE)
        if found is None:
            raise Lacking(f"package {package}")
        return found[1]

    def unpack(self, packages: Sequence[str], root: Path) -> None:
        self.run("apt-get", "-q", "download", *packages)
        for package in packages:
            archive = max((self.place / "archives").glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)
            subprocess.run(["dpkg-deb", "-x", str(archive), str(root)], check=True)
            archive.unlink()


# --- its components --------------------------------------------------------------------------------------------------


def complete(mirror: Mirror, found: Netboot) -> None:
    """Fetch what the installer is going to load, and put into `found` what the archive lacks of it."""
    status = of_initrd(found.initrd, STATUS).decode()
    installed = {component.name: component for component in parsed(status)}
    version = next(name.removeprefix("kernel-image-").removesuffix("-di") for name in installed if "kernel-im" in name)
    there = set(installed) | {name for component in installed.values() for name in component.provides}
    wanted = loaded(index(mirror, found.codename), there, version)
    missing = [each for each in wanted if mirror.file(f"{path_of(mirror.uri)}/{each.fields['Filename']}") is None]
    if not missing:
        return
    by_kind = {component.name.replace(f"-{version}-di", ""): component for component in missing}
    hopeless = sorted(set(by_kind) - {*REPLACED, *KERNEL_FILES, *UNNEEDED})
    if hopeless:
        raise Lacking(f"the archive lacks {len(hopeless)} components of its installer: {', '.join(hopeless)}")

    packages = {name for kind in by_kind for name in REPLACED.get(kind, ())}
    if set(by_kind) & set(KERNEL_FILES):
        packages.add(f"linux-image-{version}")

    def make(place: Path) -> None:
        for package in sorted(packages):
            Apt(mirror, found.codename).unpack([package], place / package)

    root = cached("components", [found.codename, version, sorted(packages)], make)
    # A root whose /lib is a link has all below /usr; a directory of that name would replace the link.
    below = "usr/" if is_link(found.initrd, "lib") else ""
    tree: dict[str, demo_image.Entry] = {}
    for kind, component in sorted(by_kind.items()):
        if kind in KERNEL_FILES:
            add_modules(
                tree, root / f"linux-image-{version}", f"{below}lib/modules/{version}/kernel", KERNEL_FILES[kind]
            )
        for package in REPLACED.get(kind, ()):
            add_programs(tree, root / package, below)
        status += stanza(component)
        found.replaced[component.name] = ", ".join(REPLACED.get(kind, KERNEL_FILES.get(kind, ()))) or "not needed"
    tree[STATUS] = demo_image.file(status.encode())
    found.extra = gzip.compress(demo_image.cpio(tree), 6, mtime=0)


def add_modules(tree: dict[str, demo_image.Entry], root: Path, where: str, wanted: Sequence[str]) -> None:
    """Modules of the kernel's package, and those that they need."""
    kernel = next(path for lib in ("usr/lib", "lib") for path in (root / lib).glob("modules/*/kernel"))
    every = {path.name.partition(".")[0].replace("-", "_"): path for path in kernel.rglob("*.ko*")}
    due = [path for part in wanted for start in kernel.glob(f"{part}*") for path in (start, *start.rglob("*.ko*"))]
    while due:
        path = due.pop()
        name = f"{where}/{path.relative_to(kernel)}"
        if path.is_file() and name not in tree:
            take(tree, name, path)
            module = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
            needed = [each.replace("-", "_") for each in demo_image.dependencies(module)]
            due += [every[each] for each in needed if each in every]


def add_programs(tree: dict[str, demo_image.Entry], root: Path, below: str) -> None:
    """Programs and libraries of a package; wherever the package has them, where the installer's root has its own."""
    for path in sorted(root.rglob("*")):
        found = re.match(r"(usr/)?((sbin|lib)/.+)", str(path.relative_to(root)))
        if found and not path.is_dir():
            take(tree, f"{below}{found[2]}", path)
        elif path.name == "mke2fs.conf":
            take(tree, "etc/mke2fs.conf", path)


def take(tree: dict[str, demo_image.Entry], name: str, path: Path) -> None:
    for parent in reversed(Path(name).parents[:-1]):
        tree.setdefault(str(parent), demo_image.directory())
    if path.is_symlink():
        tree[name] = demo_image.link(os.readlink(path))
    else:
        tree[name] = demo_image.file(path.read_bytes(), stat.S_IMODE(path.stat().st_mode))


def stanza(component: Component) -> str:
    keys = ("Package", "Version", "Architecture", "Provides", "Depends", "Description")
    lines = [f"{key}: {component.fields[key]}" for key in keys if key in component.fields]
    return "\n".join([lines[0], "Status: install ok installed", *lines[1:]]) + "\n\n"


def loaded(archive: Sequence[Component], there: set[str], version: str) -> list[Component]:
    """What the installer is going to load: all of some priorities for its kernel, and what these depend on."""
    fitting = [each for each in archive if each.fields.get("Kernel-Version", version) == version]
    by_name = {component.name: component for component in fitting}
    for component in fitting:
        for name in component.provides:
            by_name.setdefault(name, component)
    chosen: dict[str, Component] = {}

    def add(component: Component) -> None:
        if component.name in there or component.name in chosen:
            return
        chosen[component.name] = component
        for name in component.depends:
            if name not in there and name in by_name:
                add(by_name[name])

    for component in fitting:
        if component.fields.get("Priority") in LOADED:
            add(component)
    return list(chosen.values())


def index(mirror: Mirror, codename: str) -> list[Component]:
    path = mirror.file(f"{path_of(mirror.uri)}/dists/{codename}/main/debian-installer/binary-amd64/Packages.xz")
    if path is None:
        raise Lacking("the archive has no index of its installer's components")
    return parsed(lzma.decompress(path.read_bytes()).decode())


def parsed(text: str) -> list[Component]:
    found = []
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", paragraph, re.MULTILINE))
        if "Package" in fields:
            provides = frozenset(names(fields.get("Provides", "")))
            found.append(Component(fields["Package"], fields, provides, names(fields.get("Depends", ""))))
    return found


def names(text: str) -> list[str]:
    return [part.split("|")[0].split("(")[0].strip() for part in text.split(",") if part.strip()]


def is_link(initrd: Path, name: str) -> bool:
    with gzip.open(initrd) as archive:
        run = subprocess.run(["cpio", "-itv", "--quiet", name], input=archive.read(), check=True, capture_output=True)
    return run.stdout.startswith(b"l")


def of_initrd(path: Path, name: str) -> bytes:
    with gzip.open(path) as archive:
        run: Any = subprocess.run(
            ["cpio", "-i", "--quiet", "--to-stdout", name], input=archive.read(), check=True, capture_output=True
        )
    return bytes(run.stdout)
