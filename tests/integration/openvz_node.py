# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node on which vzctl is installed, a stand-in for it or a real one (VZCTL), and nobody has used it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import vzctl_stand_in

from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660
from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.base import Mark, Site
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz import container_config, vzctl
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz.driver import OpenvzDriver
from ansible_collections.nebula.provision.plugins.module_utils.model.context import Context, ContextFile
from ansible_collections.nebula.provision.plugins.module_utils.model.disk import Disk, DiskFiles
from ansible_collections.nebula.provision.plugins.module_utils.model.vm import Vm

CATALOG = "0b4c0e1f-8c55-4b0e-9d6a-2f1f3c7d9a10"
UUID = "5bd0b2a1-7d1c-4a6e-8a44-0a8f6f2f9d01"
MARK = Mark(CATALOG, 7, UUID, 3)
CTID = 100007
BUSYBOX = "/bin/busybox"
APPLETS = (
    "sh", "ls", "cat", "echo", "sleep", "mount", "hostname", "ps", "kill", "poweroff", "grep", "ip", "sed", "awk", "ln",
    "touch", "mkdir", "rm", "chmod", "mv", "cp", "tr", "cut", "head", "tail", "halt", "reboot", "ifconfig", "date",
    "dirname", "basename",
)  # fmt: skip
INIT = '#!/bin/sh\necho "$0" >> "$(dirname "$0")/booted"\n'


def real() -> str:
    return os.environ.get("VZCTL", "")


def root_file_system(path: Path) -> None:
    """Busybox as the init, and bash for the scripts by which vzctl sets a distribution up."""
    libraries = [
        word for word in subprocess.run(["ldd", "/bin/bash"], capture_output=True, text=True, check=True).stdout.split()
        if word.startswith("/")
    ]  # fmt: skip
    texts = {
        "etc/inittab": "::sysinit:/bin/sh -c 'test ! -x /etc/rc.local || /etc/rc.local'\n::shutdown:/bin/echo bye\n",
        "etc/debian_version": "12\n",
        "etc/hostname": "image\n",
        "etc/network/interfaces": "auto lo\niface lo inet loopback\n",
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    }
    with tarfile.open(path, "w:gz", dereference=True) as tar:
        places = {"bin", "sbin", "etc", "etc/network", "proc", "sys", "dev", "tmp", "mnt", "root", "run", "var", "usr"}
        places |= {str(each)[1:] for library in libraries for each in Path(library).parents}
        for place in (".", *sorted(places - {""})):
            entry = tarfile.TarInfo(place)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, text in texts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
        for source, name in (
            (BUSYBOX, "bin/busybox"),
            ("/bin/bash", "bin/bash"),
            *((each, each[1:]) for each in libraries),
        ):
            tar.add(os.path.realpath(source), name)
        links = {
            **{f"bin/{name}": "busybox" for name in APPLETS},
            "sbin/init": "../bin/busybox",
            "sbin/halt": "../bin/busybox",
        }
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)


class Node:
    """root: where its machines are. driver: of vzctl, whichever it is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root / "0" / "7"
        self.directory.mkdir(parents=True)
        self.image = root / "image"
        root_file_system(self.image)
        self.private = self.directory / "images/private"
        self.driver = OpenvzDriver()

    def vm(self, **values: Any) -> Vm:
        disk = Disk(0, "", image="debian-12-busybox", source=str(self.image), format="tar", driver="tar")
        context = Context(1, "", variables={"HOSTNAME": "web.example.org", "KEY": "it's"})
        return Vm(
            7, UUID, "web", "openvz", **{"cpu": 1.0, "memory": 128, "disks": (disk,), "context": context, **values}
        )

    def define(self, vm: Vm | None = None) -> None:
        vm = vm or self.vm()
        script = self.root / "init.sh"
        script.write_text(INIT, encoding="utf-8")
        if vm.context is not None:
            files = [ContextFile(str(script), "init.sh")]
            iso9660.write_iso(str(self.directory / "disk.1"), vm.context.variables, files)
        disks = {0: DiskFiles(str(self.image), "tar"), 1: DiskFiles(str(self.directory / "disk.1"), "raw")}
        site = self.driver.site(Site(str(self.directory), CATALOG, 3, disks, "openvz"))
        self.driver.define(vm, self.driver.render(vm, site), MARK)

    def values(self) -> dict[str, str]:
        text = (vzctl.CONFIGURATIONS / f"{CTID}.conf").read_text(encoding="utf-8")
        return dict(container_config.read(text).values)

    def wait(self, what: str, happened: Any, seconds: float = 20.0) -> None:
        limit = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < limit, f"{what} did not come within {seconds} s"
            time.sleep(0.1)


@contextlib.contextmanager
def installed() -> Iterator[Node]:
    """A node on which vzctl is installed and nobody has used it: /etc and /var/lib are seen through overlays."""
    # In memory: an overlay takes no other overlay to write to.
    scratch = Path("/run/openvz")
    scratch.mkdir()
    mounted: list[str] = []
    before = dict(os.environ)
    root = Path(os.environ["NEBULA_WORLD"]) / "openvz"
    try:
        for place in ("/etc", "/var/lib", "/usr/sbin"):
            upper, work = (scratch / f"{kind}{place.replace('/', '-')}" for kind in ("upper", "work"))
            upper.mkdir()
            work.mkdir()
            options = f"lowerdir={place},upperdir={upper},workdir={work}"
            subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, place], check=True)
            mounted.append(place)
        os.environ["PATH"] = f"{scratch}/bin:{os.environ['PATH']}"
        # Of the package bridge-utils, where vzctl looks for it.
        if not os.path.lexists("/usr/sbin/brctl"):
            os.symlink(BUSYBOX, "/usr/sbin/brctl")
        vzctl_stand_in.furnish(Path("/etc/vz"), root / "vz")
        if real():
            furnish_real(scratch)
        else:
            vzctl_stand_in.install(scratch / "bin")
        root.chmod(0o711)
        node = Node(root)
        try:
            yield node
        finally:
            with contextlib.suppress(NebulaError):
                node.driver.remove(MARK)
            # The bridge by which a real one stands in for venet.
            subprocess.run(["ip", "link", "delete", vzctl.DEVICE], capture_output=True, check=False)
    finally:
        os.environ.clear()
        os.environ.update(before)
        for place in reversed(mounted):
            subprocess.run(["umount", "--lazy", place], check=True)
        shutil.rmtree(scratch)
        shutil.rmtree(root, ignore_errors=True)


def furnish_real(scratch: Path) -> None:
    """What its package and its init script would have done."""
    program = Path(real()).resolve()
    (scratch / "bin").mkdir()
    for name in ("vzctl", "vzlist"):
        (scratch / "bin" / name).symlink_to(program.with_name(name))
    beside = next((each for up in program.parents if (each := up / "etc/vz").is_dir()), Path("/etc/vz"))
    for name in ("dists", "osrelease.conf"):
        if (beside / name).is_dir():
            shutil.copytree(beside / name, Path("/etc/vz") / name, dirs_exist_ok=True)
        elif (beside / name).exists():
            shutil.copy(beside / name, Path("/etc/vz") / name)
    with Path("/etc/vz/vz.conf").open("a", encoding="utf-8") as file:
        file.write("VE_LAYOUT=simfs\nLOCAL_UID=100000\nLOCAL_GID=100000\n")
    for place in ("/var/lib/vzctl/vepid", "/var/lib/vzctl/veip", "/run/netns"):
        Path(place).mkdir(parents=True, exist_ok=True)
    first_version_of_control_groups()


def first_version_of_control_groups() -> None:
    """It knows no other, and gives up where another is mounted anywhere, also below what hides it."""
    place = Path("/sys/fs/cgroup")
    kinds = [line.split(":")[1] for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()]
    while " cgroup2 " in Path("/proc/self/mounts").read_text(encoding="utf-8"):
        subprocess.run(["umount", "--recursive", "--lazy", "/sys"], check=True)
    if not place.is_dir():
        subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    if os.path.ismount(place):
        return
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True)
    for kind in filter(None, kinds):
        if not kind.startswith("name="):
            (place / kind).mkdir()
            subprocess.run(["mount", "-t", "cgroup", "-o", kind, "cgroup", str(place / kind)], check=True)
