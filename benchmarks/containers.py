# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one container more costs, by role vm and by `virsh define` and `virsh start`; what the roots of many cost,
beside `tar -x` and the cheapest copies; and containers that are up and verified beside machines of KVM that are.

One more is what everything in this world computed for it, libvirt and the container's own start included.

The bare program's containers have the same root file systems, which were unpacked before its clock started.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from measure import CPU, Row, run, take_turns, tell
from setting import (
    CHECKOUT,
    HERE,
    THREADS,
    computed_here,
    computed_until_quiet,
    expect_running,
    playbook,
    world,
)

sys.path.insert(0, str(CHECKOUT / "collections"))
sys.path.insert(0, str(CHECKOUT / "tests/tools"))

from ansible_collections.nebula.provision.plugins.module_utils.host import untrusted_trees
from ansible_collections.nebula.provision.plugins.module_utils.model.container_user_ids import id_range
from ansible_collections.nebula.provision.plugins.module_utils.storage import demo_container, roots
from ansible_collections.nebula.provision.tests.integration.guests import demo
from ansible_collections.nebula.provision.tests.integration.lxc_node import without_unified_cgroups

URI = "lxc:///system"
# So many that what a run costs whatever it makes, which varies, is little beside their difference.
FEW, MANY = 5, 40
ROUNDS = 5
VERIFIED, VERIFIED_MACHINES = 10, 2
# Of the image that many containers are made of: files of so many bytes.
ROOTS, FILES, SIZE = 10, 10000, 16384
# The range of ids that the bare program's containers share.
IDS, COUNT = 300000, 65536
DOMAIN = """\
<domain type='lxc'>
  <name>bare-{index}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type>exe</type><init>/sbin/init</init></os>
  <idmap><uid start='0' target='{ids}' count='{count}'/><gid start='0' target='{ids}' count='{count}'/></idmap>
  <features><privnet/></features>
  <devices>
    <emulator>/usr/lib/libvirt/libvirt_lxc</emulator>
    <filesystem type='mount'><source dir='{root}'/><target dir='/'/></filesystem>
    <console type='pty'/>
  </devices>
</domain>
"""
NETWORK: dict[str, Any] = {
    "name": "Bench",
    "bridge": "nbench0",
    "network_address": "10.67.0.0",
    "network_mask": "255.255.255.0",
    "gateway": "10.67.0.1",
    "address_ranges": [{"type": "IP4", "ip": "10.67.0.10", "size": 100}],
}
CONTAINER = """
CPU = 0.01
MEMORY = 64
DISK = [ IMAGE = "root" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""
VERIFIED_CONTAINER = CONTAINER + 'NIC = [ NETWORK = "Bench" ]\n'
VERIFIED_MACHINE = """
CPU = 0.1
MEMORY = 128
DISK = [ IMAGE = "demo", DEV_PREFIX = "vd" ]
NIC = [ NETWORK = "Bench" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""


class Bare:
    """define and start, by as many programs at once as role vm has threads. ended: what it took last to end them."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.place = Path(tempfile.mkdtemp(prefix="bare-lxc-", dir=world()))
        self.place.chmod(0o711)
        self.ended = 0.0

    def make(self, count: int) -> float:
        for index in range(count):
            self._unpack(index)
        before = computed_until_quiet()
        self._all(count, "define {place}/{index}.xml && start bare-{index}")
        made = computed_until_quiet()
        expect_running("bare-", count, URI)
        begun = computed_here()
        self._all(count, "destroy bare-{index} && undefine bare-{index}")
        self.ended = computed_until_quiet() - begun
        return made - before

    def _unpack(self, index: int) -> None:
        """A root in which nothing ever ran: what a container does when it starts first is a part of its cost."""
        root = self.place / str(index)
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        subprocess.run(["tar", "-x", "-f", self.archive, "-C", root], check=True)
        subprocess.run(["chown", "-R", "-h", f"{IDS}:{IDS}", root], check=True)
        text = DOMAIN.format(index=index, root=root, ids=IDS, count=COUNT)
        (self.place / f"{index}.xml").write_text(text, encoding="utf-8")

    def end(self) -> float:
        return self.ended

    def _all(self, count: int, commands: str) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda index: self._one(index, commands), range(count)))

    def _one(self, index: int, commands: str) -> None:
        for words in commands.format(place=self.place, index=index).split(" && "):
            subprocess.run(["virsh", "-q", "-c", URI, *words.split()], check=True, capture_output=True)

    def close(self) -> None:
        shutil.rmtree(self.place)


class Ours:
    """A node by the collection's playbooks. kind: lxc or kvm."""

    def __init__(self, kind: str, image: dict[str, Any], template: str, **variables: Any) -> None:
        self.kind = kind
        self.variables = {
            "nebula_hypervisor": kind,
            "nebula_root": str(world() / f"nebula-{kind}"),
            "nebula_deploy_threads": THREADS,
            "nebula_reserved_memory": 0,
            "nebula_images": [image],
            "nebula_templates": [{"name": "bench", "template": template}],
            **variables,
        }

    def site(self, count: int = 0) -> float:
        wanted = [self._machines(count)] if count else []
        return playbook(CHECKOUT / "site.yml", {**self.variables, "nebula_vms": wanted}).seconds

    def make(self, count: int) -> float:
        return self._computed([self._machines(count)], count)

    def end(self) -> float:
        return self._computed([{"name": "bench-%i", "state": "absent", "hard": True}], 0)

    def _computed(self, wanted: list[dict[str, Any]], count: int) -> float:
        """What role vm computes for these items, after which so many run."""
        before = computed_here()
        playbook(HERE / "machines.yml", {**self.variables, "nebula_vms": wanted, "nebula_destroy_limit": "100%"})
        after = computed_until_quiet()
        self._expect(count)
        return after - before

    def verified(self, count: int) -> float:
        """A whole run that ends with each of them having reported that it is up."""
        seconds = self.site(count)
        self._expect(count)
        self.end()
        return seconds

    def teardown(self) -> None:
        playbook(CHECKOUT / "playbooks/teardown.yml", {**self.variables, "nebula_vms": []})

    def _expect(self, count: int) -> None:
        expect_running("one-", count, URI if self.kind == "lxc" else "qemu:///system")

    def _machines(self, count: int) -> dict[str, Any]:
        return {"name": "bench-%i", "count": count, "template": "bench", "state": "running"}


def rows(rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="containers-", dir=world()) as place, without_unified_cgroups():
        archive = Path(place, "root.tar")
        archive.write_bytes(demo_container.archive(Path("/bin/busybox").read_bytes()))
        yield from _one_more(archive, rounds)
        yield from _roots(Path(place), rounds)
        yield from _verified(archive, rounds)


def _one_more(archive: Path, rounds: int) -> Iterator[Row]:
    image = {"name": "root", "path": str(archive), "format": "tar", "remote_src": True}
    ours, bare = Ours("lxc", image, CONTAINER, nebula_verify=False), Bare(archive)
    tell("preparing the node of containers: site.yml without machines")
    ours.site()
    # The first start of all costs more.
    ours.make(FEW)
    ours.end()
    times = take_turns(
        max(rounds, ROUNDS),
        {
            f"role vm, {FEW} containers": lambda: ours.make(FEW),
            f"role vm, ending {FEW}": ours.end,
            f"virsh, {FEW} containers": lambda: bare.make(FEW),
            f"virsh, ending {FEW}": bare.end,
            f"role vm, {MANY} containers": lambda: ours.make(MANY),
            f"role vm, ending {MANY}": ours.end,
            f"virsh, {MANY} containers": lambda: bare.make(MANY),
            f"virsh, ending {MANY}": bare.end,
        },
    )
    ours.teardown()
    bare.close()

    def one_more(what: str, noun: str = " containers") -> float:
        return (times[f"{what}{MANY}{noun}"] - times[f"{what}{FEW}{noun}"]) / (MANY - FEW)

    by_role, by_virsh = one_more("role vm, "), one_more("virsh, ")
    yield Row.at_most("one container more by role vm, beside virsh define and start", by_role, by_virsh, CPU, 1.2)
    ending = one_more("role vm, ending ", ""), one_more("virsh, ending ", "")
    yield Row.fact("ending one container more, beside virsh destroy and undefine", *ending, CPU)


def _roots(place: Path, rounds: int) -> Iterator[Row]:
    """Of an image as large as a small distribution: one unpacking, and what each container gets of it."""
    archive = place / "large.tar"
    _large(archive)
    ways: set[str] = set()

    def ours() -> float:
        cache, begun = place / "ours", time.perf_counter()
        cache.mkdir(mode=0o711)
        for index in range(ROOTS):
            directory = cache / str(index) / "disk.0"
            directory.parent.mkdir(mode=0o711)
            ids = id_range(index)
            ways.add(
                roots.make(roots.cache_directory(str(cache)), str(archive), "large", str(directory), ids, "large").way
            )
        seconds = time.perf_counter() - begun
        for index in range(ROOTS):
            roots.remove(str(cache / str(index) / "disk.0"))
        untrusted_trees.remove(str(cache))
        return seconds

    def bare() -> float:
        base, begun = place / "bare", time.perf_counter()
        base.mkdir()
        run(["tar", "-x", "--numeric-owner", "-f", archive, "-C", base])
        run(["sync", "-f", base])
        for index in range(ROOTS):
            own = place / f"bare-{index}"
            for name in ("upper", "work", "root"):
                (own / name).mkdir(parents=True)
            options = f"lowerdir={base},upperdir={own}/upper,workdir={own}/work"
            run(["mount", "-t", "overlay", "-o", options, "bare", own / "root"])
        seconds = time.perf_counter() - begun
        for index in range(ROOTS):
            run(["umount", place / f"bare-{index}" / "root"])
        run(["rm", "-r", base, *(place / f"bare-{index}" for index in range(ROOTS))])
        return seconds

    times = take_turns(rounds, {"ours": ours, "bare": bare})
    name = f"roots of {ROOTS} containers of one image ({', '.join(sorted(ways))}), beside tar and as many overlays"
    yield Row.at_most(name, times["ours"], times["bare"], "s", 1.3)


def _large(archive: Path) -> None:
    """Files and directories as a small distribution has them, and as large."""
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for index in range(FILES):
            if index % 20 == 0:
                entry = tarfile.TarInfo(f"./usr/{index}")
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            entry = tarfile.TarInfo(f"./usr/{index - index % 20}/{index}")
            entry.size, entry.mode = SIZE, 0o644
            tar.addfile(entry, io.BytesIO(index.to_bytes(4, "big") * (SIZE // 4)))


def _verified(archive: Path, rounds: int) -> Iterator[Row]:
    root = {"name": "root", "path": str(archive), "format": "tar", "remote_src": True}
    disk = {"name": "demo", "path": str(demo.image()), "remote_src": True}
    shared = {"nebula_verify": True, "nebula_networks": [NETWORK]}
    containers = Ours("lxc", root, VERIFIED_CONTAINER, **shared)
    machines = Ours("kvm", disk, VERIFIED_MACHINE, **shared)
    times: dict[str, float] = {}
    # One after the other: they share the bridge's name and its addresses.
    for ours, count in ((containers, VERIFIED), (machines, VERIFIED_MACHINES)):
        tell(f"preparing the node of {ours.kind}: site.yml without machines")
        ours.site()
        times |= take_turns(rounds, {ours.kind: lambda ours=ours, count=count: ours.verified(count)})
        ours.teardown()
    name = f"{VERIFIED} containers up and verified, beside {VERIFIED_MACHINES} machines of KVM"
    yield Row.at_most(name, times["lxc"], times["kvm"], "s", 1)
