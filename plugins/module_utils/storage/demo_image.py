# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds the demo image: Debian's cloud kernel and busybox on one bootable disk, from packages; nothing is mounted.

Packages are downloaded and unpacked, never installed. The disk holds one FAT partition with syslinux, kernel and
initrd (mtools writes it through an offset); the initrd is the whole system, written here as a cpio archive. Beside
the image lies <image>.json: what it was made from, and its SHA-256."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..dataclass import dataclass
from ..errors import CommandFailed, MissingDependency, NotFound, Unsupported
from ..host import command, files
from . import demo_guest, disk_creation

# Raised when the way of building changes what comes out.
BUILDER = 3
SECTOR = 512
PARTITION_START = 2048
FAT16_LBA = 0x0E
MBR_CODE = ("/usr/lib/syslinux/mbr/mbr.bin", "/usr/lib/SYSLINUX/mbr.bin")
KERNEL_PACKAGE = "linux-image-cloud-amd64"
BUSYBOX_PACKAGE = "busybox-static"
# Seconds: a mirror may be slow, everything else here takes seconds.
DOWNLOAD_LIMIT = 600
STEP_LIMIT = 120
# program → Debian package; the role installs these.
TOOLS: Mapping[str, str] = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "mformat": "mtools",
    "mcopy": "mtools",
    "syslinux": "syslinux",
    "qemu-img": "qemu-utils",
}


@dataclass(frozen=True)
class Entry:
    """Is a member of the initrd. data is the content of a file, the target of a link, nothing of a directory."""

    mode: int
    data: bytes = b""


def directory(mode: int = 0o755) -> Entry:
    return Entry(0o040000 | mode)


def file(data: bytes, mode: int = 0o644) -> Entry:
    return Entry(0o100000 | mode, data)


def link(target: str) -> Entry:
    return Entry(0o120777, target.encode())


# --- what an image is made from, and whether it is that


def inputs(arch: str) -> dict[str, Any]:
    """Return what decides how an image turns out, less the packages' versions: a newer kernel in the mirror is no
    reason to replace an image that machines were made from."""
    text = json.dumps(
        [
            BUILDER,
            demo_guest.KERNEL_MODULES,
            demo_guest.KERNEL_COMMAND_LINE,
            demo_guest.BOOT,
            demo_guest.INITTAB,
            demo_guest.PROFILE,
            demo_guest.SHELL,
            demo_guest.POWER_BUTTON,
        ]
    )
    return {
        "arch": arch,
        "guest": hashlib.sha256(text.encode()).hexdigest(),
        "packages": [KERNEL_PACKAGE, BUSYBOX_PACKAGE],
    }


def record_path(dest: Path) -> Path:
    return dest.with_name(dest.name + ".json")


def read_record(dest: Path) -> dict[str, Any] | None:
    """Return what `dest` was made from; None without an image, without a record, or if its content is another."""
    try:
        record = json.loads(record_path(dest).read_text(encoding="utf-8"))
        if isinstance(record, dict) and record.get("sha256") == sha256_of(dest):
            return record
    except (OSError, ValueError):
        pass
    return None


def sha256_of(path: Path) -> str:
    with path.open("rb") as source:
        return files.content_digest(source)


# --- packages


def missing_tools() -> list[str]:
    """Return the Debian packages of the programs that are not installed here."""
    missing = {package for program, package in TOOLS.items() if not is_installed(program)}
    if not any(Path(path).exists() for path in MBR_CODE):
        missing.add("syslinux-common")
    return sorted(missing)


def is_installed(program: str) -> bool:
    try:
        return bool(command.find(program))
    except MissingDependency:
        return False


def kernel_package(arch: str) -> str:
    """Return the package that holds the kernel, on which Debian's cloud kernel package depends."""
    if arch != "amd64":
        raise Unsupported(f"demo image: arch {arch}", "only amd64 boots from a BIOS disk", "Leave arch at amd64")
    text = command.run(
        ["apt-cache", "--no-recommends", "depends", KERNEL_PACKAGE], timeout=STEP_LIMIT, check=False
    ).stdout
    match = re.search(r"^\s*Depends: (linux-image-\S+)$", text, re.MULTILINE)
    if match is None:
        raise NotFound(
            f"demo image: package {KERNEL_PACKAGE}",
            "apt knows no such package on this front-end",
            "Check apt's sources, or give an image of your own by path or URL",
        )
    return match.group(1)


def fetch(arch: str, cache: Path, root: Path) -> dict[str, str]:
    """Unpack kernel and busybox below root; return each package's version. apt's lists may be missing, or too old."""
    try:
        return unpack([kernel_package(arch), BUSYBOX_PACKAGE], cache, root)
    except (NotFound, CommandFailed):
        # It may fail for an archive that is not needed here: the second try tells.
        command.run(["apt-get", "-q", "update"], timeout=DOWNLOAD_LIMIT, check=False)
    shutil.rmtree(root, ignore_errors=True)
    return unpack([kernel_package(arch), BUSYBOX_PACKAGE], cache, root)


def unpack(packages: Sequence[str], cache: Path, root: Path) -> dict[str, str]:
    """Download what the cache lacks and unpack it below root. Return the version of each package."""
    root.mkdir()
    # Asked where no archive lies: apt names none that it finds complete in the working directory.
    download = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages]
    found = command.run([*download, "--print-uris"], timeout=STEP_LIMIT, check=False, cwd=str(root.parent))
    archives = dict(re.findall(r"^'[^']+' (([^_ ]+)_\S+) \d+", found.stdout, re.MULTILINE))
    by_package = {package: cache / name for name, package in archives.items()}
    for package in packages:
        if package not in by_package:
            raise NotFound(
                f"demo image: package {package}",
                command.last_lines(found.stderr, 1) or "apt can't find it",
                "Check apt's sources, or give an image of your own by path or URL",
            )
    # What the cache has already is compared with the mirror's hash by apt itself.
    command.run(download, timeout=DOWNLOAD_LIMIT, cwd=str(cache))
    versions = {}
    for package, archive in by_package.items():
        command.run(["dpkg-deb", "-x", str(archive), str(root)], timeout=STEP_LIMIT)
        versions[package] = command.run(["dpkg-deb", "-f", str(archive), "Version"], timeout=STEP_LIMIT).stdout.strip()
    return versions


# --- the initrd


def dependencies(module: bytes) -> list[str]:
    """Return the modules that a .ko names as needed before it (its .modinfo section: NUL-separated key=value)."""
    match = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name for name in match.group(1).decode().split(",") if name] if match else []


def module_order(wanted: Iterable[tuple[str, str]], sources: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Return (module, options) in insmod's order. A module that the kernel has built in is left out."""
    options = dict(wanted)
    order: dict[str, str] = {}

    def add(name: str) -> None:
        if name in order or name not in sources:
            return
        for needed in dependencies(sources[name].read_bytes()):
            add(needed.replace("-", "_"))
        order[name] = options.get(name, "")

    for name in options:
        add(name)
    return list(order.items())


def guest_tree(root: Path, modules: Sequence[tuple[str, str]] = demo_guest.KERNEL_MODULES) -> dict[str, Entry]:
    sources = {path.stem.replace("-", "_"): path for path in root.glob("lib/modules/*/kernel/**/*.ko")}
    order = module_order(modules, sources)
    tree = {
        "bin": directory(),
        "etc": directory(),
        "etc/acpi": directory(),
        "etc/acpi/PWRF": directory(),
        "etc/nebula": directory(),
        "lib": directory(),
        "lib/modules": directory(),
        "root": directory(0o700),
        "tmp": directory(0o1777),
        "run": directory(),
        "usr": directory(),
        "sbin": link("bin"),
        "usr/bin": link("../bin"),
        "usr/sbin": link("../bin"),
        "bin/busybox": file((root / "bin/busybox").read_bytes(), 0o755),
        "bin/sh": link("busybox"),
        "init": link("bin/busybox"),
        "etc/inittab": file(demo_guest.INITTAB.encode()),
        "etc/profile": file(demo_guest.PROFILE.encode()),
        "etc/passwd": file(b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n"),
        "etc/group": file(b"root:x:0:\nnogroup:x:65534:\n"),
        "etc/acpi/PWRF/00000080": file(demo_guest.POWER_BUTTON.encode(), 0o755),
        "etc/nebula/boot": file(demo_guest.BOOT.encode(), 0o755),
        "etc/nebula/shell": file(demo_guest.SHELL.encode(), 0o755),
        "lib/modules/order": file("".join(f"{name} {options}\n" for name, options in order).encode()),
    }
    for name, _options in order:
        tree[f"lib/modules/{name}.ko"] = file(sources[name].read_bytes())
    return tree


def cpio(tree: Mapping[str, Entry]) -> bytes:
    """Return a cpio archive in the newc form, as the kernel unpacks it: the same bytes for the same tree."""
    parts: list[bytes] = []

    def member(number: int, name: str, entry: Entry) -> None:
        path = name.encode() + b"\0"
        links = 2 if entry.mode & 0o170000 == 0o040000 else 1
        fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(path), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields) + path
        parts.append(header + b"\0" * (-len(header) % 4))
        parts.append(entry.data + b"\0" * (-len(entry.data) % 4))

    # A directory sorts before what is in it.
    for number, name in enumerate(sorted(tree), start=1):
        member(number, name, tree[name])
    member(0, "TRAILER!!!", Entry(0))
    return b"".join(parts)


# --- the disk


def partition_table(sectors: int) -> bytes:
    """Return the first sector of a disk with one active FAT partition; the boot code is put before it."""
    chs = b"\xfe\xff\xff"  # "see the LBA fields"
    entry = struct.pack("<B3sB3sII", 0x80, chs, FAT16_LBA, chs, PARTITION_START, sectors - PARTITION_START)
    return b"\0" * 446 + entry + b"\0" * 48 + b"\x55\xaa"


def boot_disk(dest: Path, kernel: Path, initrd: bytes, command_line: str, scratch: Path) -> None:
    """Write a qcow2 disk that boots `kernel` with `initrd` from a BIOS. scratch: a directory of the caller's."""
    code = next((Path(path) for path in MBR_CODE if Path(path).exists()), None)
    if code is None:
        raise MissingDependency("demo image: the boot code mbr.bin", "it is not there", "Install syslinux-common")
    (scratch / "initrd.gz").write_bytes(gzip.compress(initrd, 6, mtime=0))
    config = scratch / "syslinux.cfg"
    config.write_text(
        f"DEFAULT linux\nPROMPT 0\nLABEL linux\n  LINUX vmlinuz\n  INITRD initrd.gz\n  APPEND {command_line}\n",
        encoding="utf-8",
    )
    content = kernel.stat().st_size + (scratch / "initrd.gz").stat().st_size
    # Two MiB for file system and boot loader, in whole MiB.
    sectors = PARTITION_START + ((content + (2 << 20)) // (1 << 20) + 1) * 2048
    raw = scratch / "disk.raw"
    table = partition_table(sectors)
    boot_code = code.read_bytes()[:440]
    with raw.open("wb") as disk:
        disk.write(boot_code + table[len(boot_code) :])
        disk.truncate(sectors * SECTOR)

    offset = PARTITION_START * SECTOR
    drive = f"{raw}@@{offset}"
    # mtools asks on the terminal when something is odd, and reads ~/.mtoolsrc: neither is wanted here.
    quiet = {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull, "SOURCE_DATE_EPOCH": "0"}
    geometry = ["-h", "255", "-s", "63", "-H", str(PARTITION_START), "-T", str(sectors - PARTITION_START)]

    def write(*argv: str) -> None:
        command.run(argv, timeout=STEP_LIMIT, env=quiet)

    # In clusters of 32 KiB the boot loader reads a sixth of the time that it does in those of one sector.
    write("mformat", "-i", drive, *geometry, "-c", "64", "-N", "4e454255", "-v", "NEBULA", "::")
    for source, name in ((kernel, "vmlinuz"), (scratch / "initrd.gz", "initrd.gz"), (config, "syslinux.cfg")):
        write("mcopy", "-i", drive, "-D", "o", str(source), f"::{name}")
    write("syslinux", "--install", "--offset", str(offset), str(raw))
    # Not compressed: kernel and initrd are already, and each small read of a boot loader would unpack a cluster anew.
    disk_creation.copy(str(raw), "raw", str(dest), "qcow2")


def build(dest: Path, cache: Path, arch: str = "amd64") -> dict[str, Any]:
    """Make the image at `dest` and its record beside it. Return the record. Packages are kept in `cache`."""
    _require_debian(dest)
    missing = missing_tools()
    if missing:
        raise MissingDependency(
            f"demo image {dest}", "programs are missing to build it", "Install " + ", ".join(missing)
        )
    for place, mode in ((cache, 0o755), (dest.parent, 0o711)):
        # One that is there may be anything, /tmp for one, and keeps its mode.
        if not place.is_dir():
            files.make_directory(str(place), mode)
    # What apt has compared there is what is unpacked.
    files.refuse_exchangeable(str(cache))
    with tempfile.TemporaryDirectory(prefix=".demo-image-", dir=str(dest.parent)) as name:
        scratch = Path(name)
        root = scratch / "root"
        versions = fetch(arch, cache, root)
        kernel = max(root.glob("boot/vmlinuz-*"), default=None)
        if kernel is None:
            raise NotFound(f"demo image {dest}: a kernel", f"{', '.join(versions)} hold none below /boot")
        finished = scratch / "finished.qcow2"
        boot_disk(finished, kernel, cpio(guest_tree(root)), demo_guest.KERNEL_COMMAND_LINE, scratch)
        record = dict(inputs(arch), versions=versions, sha256=sha256_of(finished), size=finished.stat().st_size)
        # The record first: where the run ends between the two, it does not fit the image, which is then built again.
        files.write_atomically(str(record_path(dest)), json.dumps(record, indent=2, sort_keys=True) + "\n", 0o644)
        finished.chmod(0o644)
        finished.replace(dest)
        files.sync_directory(str(dest.parent))
    return record


def _require_debian(dest: Path, release: Path = Path("/etc/os-release")) -> None:
    """Raise Unsupported on a front-end whose packages are not Debian's for amd64."""
    try:
        lines = release.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    known = {key: value.strip("\"'") for key, _equals, value in (line.partition("=") for line in lines)}
    if known.get("ID") != "debian" or os.uname().machine != "x86_64":
        raise Unsupported(
            f"demo image {dest}",
            f"it is built from Debian's packages for amd64, and this front-end is {known.get('ID') or 'unknown'} on "
            f"{os.uname().machine}",
            "Take it out of nebula_images, and name an image of your own",
        )


# --- gone again


def leftovers(dest: Path, cache: Path) -> list[Path]:
    """Return all files that building `dest` with this cache may have left behind."""
    archives = [path for name in ("linux-image-*.deb", f"{BUSYBOX_PACKAGE}_*.deb") for path in sorted(cache.glob(name))]
    return [path for path in (dest, record_path(dest), *archives) if path.exists()]


def remove(paths: Iterable[Path], cache: Path) -> None:
    """Remove these files, and the cache's directory where nothing else is in it."""
    for path in paths:
        files.remove_file(str(path))
    with contextlib.suppress(OSError):
        cache.rmdir()
