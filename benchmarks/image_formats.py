# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine's disk costs, by the format of its image, the kind of disk and the file system: time and room.

usage: tests/tools/world.py --no-daemons -- .venv-bench/bin/python benchmarks/image_formats.py       (as root)
prints the tables of docs/image_formats.md. Each file system is a new one in a file. A disk is made as nebula_deploy
makes it, from a cold image, and is on the disk when the clock stops. Room is what the file system has less afterwards.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from images import DISK_MIB, FORMATS, MIB, WRITTEN_MIB, cold, write_content
from measure import Row, run, tell
from setting import CHECKOUT, world

sys.path.insert(0, str(CHECKOUT / "collections"))

from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm
from ansible_collections.nebula.provision.plugins.module_utils.storage import importer, machine_disks

VOLUME_MIB = 16384
MKFS = {
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-m", "reflink=1"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
# Where one file can share another's blocks.
SHARES = ("xfs", "btrfs")


@dataclass(frozen=True)
class Kind:
    """driver: of the machine's own disk."""

    name: str
    clone: bool = True
    driver: str = ""


PERSISTENT = Kind("persistent: the image itself", clone=False)
OVERLAY = Kind("non-persistent: an overlay", driver="qcow2")
COPY = Kind("non-persistent: a copy (`DRIVER = raw`)", driver="raw")
CLONE = Kind("non-persistent: a reflink (`DRIVER = raw`)", driver="raw")


@dataclass(frozen=True)
class Cost:
    """seconds: to make it. room: MiB."""

    seconds: float
    room: float


@contextlib.contextmanager
def mounted(file_system: str) -> Iterator[Path]:
    """A new one, in a file; its loop device ends with the mount, and both with the world."""
    volume, place = world() / "volume", world() / "mounted"
    with volume.open("wb") as file:
        file.truncate(VOLUME_MIB * MIB)
    run([*MKFS[file_system], volume])
    place.mkdir()
    run(["mount", "-o", "loop", volume, place])
    try:
        yield place
    finally:
        run(["umount", place])
        place.rmdir()
        volume.unlink()


def free(place: Path) -> int:
    run(["sync", "-f", place])
    found = os.statvfs(place)
    return found.f_bfree * found.f_frsize


def image(place: Path, format: str) -> Path:
    """A disk of 10 GB with 1 GiB of a system in it."""
    raw = place / "image.raw"
    if not raw.exists():
        write_content(raw, WRITTEN_MIB)
        os.truncate(raw, DISK_MIB * MIB)
    if format == "raw":
        return raw
    made = place / f"image.{format}"
    if not made.exists():
        run(["qemu-img", "convert", "-f", "raw", "-O", format, raw, made])
    return made


def measured(place: Path, format: str, kinds: Sequence[Kind], rounds: int) -> dict[Kind, Cost]:
    """The medians of each. They take turns, so that a busy moment of the machine meets them alike."""
    source = image(place, format)
    found: dict[Kind, list[Cost]] = {kind: [] for kind in kinds}
    for _round in range(rounds):
        for kind in kinds:
            found[kind].append(once(place, source, format, kind))
    return {
        kind: Cost(*(statistics.median(values) for values in zip(*map(astuple, costs), strict=True)))
        for kind, costs in found.items()
    }


def once(place: Path, source: Path, format: str, kind: Kind) -> Cost:
    disk = Disk(
        disk_id=0,
        target="vda",
        image="i",
        source=str(source),
        format=format,
        clone=kind.clone,
        driver=kind.driver or format,
        save=kind is PERSISTENT,
    )
    machine = Vm(vm_id=0, uuid="u", name="m", hypervisor="kvm", cpu=1, memory=64, disks=(disk,))
    directory = place / "machine"
    directory.mkdir()
    cold(source)
    before = free(place)
    start = time.perf_counter()
    machine_disks.prepare(machine, str(directory))
    seconds = time.perf_counter() - start
    room = (before - free(place)) / MIB
    shutil.rmtree(directory)
    return Cost(seconds, room)


def empty(place: Path, format: str, fs: str) -> tuple[float, float]:
    """Seconds to make an empty DATABLOCK, and its room."""
    path = place / "empty"
    before = free(place)
    start = time.perf_counter()
    importer.make_empty(str(path), DISK_MIB, format, fs)
    seconds = time.perf_counter() - start
    room = (before - free(place)) / MIB
    path.unlink()
    return seconds, room


def kinds_on(file_system: str, format: str) -> Sequence[Kind]:
    return (PERSISTENT, OVERLAY, CLONE if file_system in SHARES and format == "raw" else COPY)


def every(rounds: int) -> Iterator[tuple[str, str, dict[Kind, Cost]]]:
    for file_system, program in MKFS.items():
        if shutil.which(program[0]) is None:
            tell(f"{file_system}: {program[0]} is not there, so it is left out")
            continue
        with mounted(file_system) as place:
            for format in FORMATS:
                costs = measured(place, format, kinds_on(file_system, format), rounds)
                for kind, cost in costs.items():
                    made = f"{cost.seconds * 1000:.0f} ms, {cost.room:.1f} MiB"
                    tell(f"{file_system}, {format} image, {kind.name}: {made}")
                yield file_system, format, costs


def rows(rounds: int) -> Iterator[Row]:
    """How long making takes, beside a persistent one."""
    for file_system, format, costs in every(rounds):
        peer = costs.pop(PERSISTENT)
        for kind, cost in costs.items():
            name = kind.name.replace("`", "")
            yield Row.fact(f"{format} image on {file_system}, {name}", cost.seconds * 1000, peer.seconds * 1000, "ms")


def line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def in_words(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.5 else f"{seconds * 1000:.0f} ms"


def room(mib: float) -> str:
    return f"{mib:.0f} MB" if mib >= 10 else f"{max(0.0, mib):.1f} MB"


def main() -> None:
    rounds = 5
    print(line("file system", "image", "disk of the machine", "made in", "room"))
    print(line(*["---"] * 3, *["---:"] * 2))
    for file_system, format, costs in every(rounds):
        for kind, cost in costs.items():
            print(line(file_system, format, kind.name, in_words(cost.seconds), room(cost.room)), flush=True)
    print()
    print(line("empty DATABLOCK of 10 GB", "made in", "room"))
    print(line("---", "---:", "---:"))
    with mounted("ext4") as place:
        for format in FORMATS:
            for fs in ("", "ext4", "xfs"):
                found = [empty(place, format, fs) for _round in range(rounds)]
                seconds, taken = (statistics.median(values) for values in zip(*found, strict=True))
                print(line(f"{format}, {fs or 'no file system'}", in_words(seconds), room(taken)), flush=True)


if __name__ == "__main__":
    main()
