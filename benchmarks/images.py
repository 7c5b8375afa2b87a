# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images: uploading one, making an OS image of an installed DATABLOCK, and machines from it.

Whatever is read is cold (not in the page cache, which is checked), and what is written is on the disk before the clock
stops, ours and the peers' alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from measure import MeasurementFailed, Row, run, take_turns, tell
from payload import Payload, payloads, result
from setting import HALT, Ours, playbook, world

MIB = 1 << 20
UPLOAD_MIB, SSH_MIB = 2048, 512
UPLOAD_TARGET = 0.8
DISK_MIB, WRITTEN_MIB = 10240, 1024
CONVERSION_LIMIT = 1.0
DEPLOY_TARGET = 1.2
# A start is short beside what disturbs it.
STARTS_EACH_ROUND = 2
FORMATS = ("raw", "qcow2")
COLLECTION = "nebula.provision."
MODULES = ("nebula_deploy", "nebula_image", "nebula_template", "nebula_vm", "nebula_vm_record")
TEMPLATE = """
CPU = 0.01
MEMORY = 128
OS = [ MACHINE = "pc" ]
DISK = [ IMAGE = "%s", DEV_PREFIX = "vd" ]
CONTEXT = [ NETWORK = "YES", SET_HOSTNAME = "$NAME" ]
"""


def cold(path: Path) -> None:
    """Out of the page cache with it; MeasurementFailed if it stays."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
    if in_cache(path) > MIB:
        raise MeasurementFailed(f"{path}: {in_cache(path)} bytes of it stay in the page cache")


def in_cache(path: Path) -> int:
    """Bytes of it that are in the page cache."""
    command = ["fincore", "--bytes", "--noheadings", "--output", "RES", path]
    return int(run(command).output.split()[0])


def write_content(path: Path, mib: int) -> None:
    """That does not compress, and is the same in each run; every fourth MiB is a hole, as in disks that are used."""
    source = random.Random(1)
    with path.open("wb") as file:
        file.write(HALT.ljust(510, b"\0") + b"\x55\xaa")
        for number in range(mib):
            if number % 4 < 3:
                file.seek(max(512, number * MIB))
                file.write(source.randbytes(MIB))
        file.truncate(mib * MIB)


class Node:
    """The world as front-end and node that site.yml prepared, by single modules as Ansible sends them."""

    def __init__(self) -> None:
        self.ours = Ours()
        tell("preparing the node: site.yml without machines")
        self.ours.site()
        self.root = self.ours.variables["nebula_root"]
        self.modules: dict[str, Payload] = {
            name.removeprefix(COLLECTION): payload
            for name, payload in payloads([COLLECTION + name for name in MODULES]).items()
        }

    def run(self, module: str, **arguments: Any) -> tuple[float, dict[str, Any]]:
        """How long it took, and what it returned."""
        done = self.modules[module].run({"root": self.root, **arguments})
        return done.seconds, result(done)

    def bring(self, **vm: Any) -> float:
        """The seconds of what the node does for a machine; deciding and recording is the front-end's."""
        observed = self.run("nebula_deploy", host="world", state="polled")[1]["observed"]
        wanted = {"vms": json.dumps([vm]), "observed": [observed], "hosts": ["world"], "return_plans": True}
        decided = self.run("nebula_vm", **wanted)[1]
        seconds, done = self.run("nebula_deploy", host="world", state="applied", plan=decided["plans"]["world"])
        ids = [each["id"] for each in decided["vms"]]
        self.run("nebula_vm_record", outcomes=json.dumps({"world": done}), ids=ids)
        return seconds


# -- uploading -----------------------------------------------------------------------------------------------------


class Upload:
    """A file of the control node, by a play with a task for it alone; and what people do."""

    def __init__(self, node: Node, mib: int) -> None:
        self.node = node
        self.source = world() / "upload.raw"
        self.target = world() / "copied.raw"
        write_content(self.source, mib)

    def by_module(self, host: Mapping[str, Any]) -> float:
        seconds = self._play(
            {"nebula.provision.nebula_image": {"root": self.node.root, "name": "up", "path": str(self.source)}}, host
        )
        self.node.run("nebula_image", name="up", state="absent")
        return seconds

    def by_copy(self, host: Mapping[str, Any]) -> float:
        seconds = self._play({"ansible.builtin.copy": {"src": str(self.source), "dest": str(self.target)}}, host)
        self.target.unlink()
        return seconds

    def by_hand(self, *hasher: str) -> float:
        cold(self.source)
        start = time.perf_counter()
        run(["cp", "--reflink=never", self.source, self.target])
        run(["sync", self.target, self.target.parent])
        run([*hasher, self.source])
        seconds = time.perf_counter() - start
        self.target.unlink()
        return seconds

    def _play(self, task: Mapping[str, Any], host: Mapping[str, Any]) -> float:
        cold(self.source)
        play = world() / "upload.yml"
        play.write_text(json.dumps([{"hosts": "world", "gather_facts": False, "tasks": [task]}]))
        done = playbook(play, dict(host))
        if done.changed != 1:
            raise MeasurementFailed(f"the task was to change something:\n{done.output}")
        return done.seconds


def uploads(node: Node, rounds: int) -> Iterator[Row]:
    upload = Upload(node, UPLOAD_MIB)
    # What was never read from its disk, or written to it, may be slow there once.
    upload.by_hand("sha256sum")
    times = take_turns(
        rounds,
        {
            "upload": lambda: upload.by_module({}),
            "cp, sync, sha256sum": lambda: upload.by_hand("sha256sum"),
            "cp, sync, openssl dgst": lambda: upload.by_hand("openssl", "dgst", "-sha256"),
        },
    )
    upload = Upload(node, SSH_MIB)
    with ssh() as host:
        # It takes long, and only informs.
        over_ssh = take_turns(
            1,
            {
                "upload over ssh": lambda: upload.by_module(host),
                "ansible.builtin.copy over ssh": lambda: upload.by_copy(host),
            },
        )
    upload.source.unlink()
    name = f"upload of {UPLOAD_MIB // 1024} GiB"
    ours = times["upload"]
    yield Row.at_least(f"{name}, beside cp and sha256sum", ours, times["cp, sync, sha256sum"], "s", UPLOAD_TARGET)
    yield Row.fact(f"{name}, beside cp and openssl's SHA-256", ours, times["cp, sync, openssl dgst"], "s")
    yield Row.fact(f"upload of {SSH_MIB} MiB over ssh, beside ansible.builtin.copy", *over_ssh.values(), "s")


@contextlib.contextmanager
def ssh() -> Iterator[dict[str, Any]]:
    """This world by ssh on its loopback: the variables of such a host."""
    place = world() / "ssh"
    place.mkdir(mode=0o700)
    for key in ("host", "user"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / key])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Below another shell: bash reads the .bashrc of a login over ssh, and root's may hold anything.
    (place / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {place}/host\nAuthorizedKeysFile {place}/user.pub\nPidFile none\n"
        "StrictModes no\nUsePAM no\nSetEnv SHLVL=2\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    daemon = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(place / "config")], stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 20
        while True:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if daemon.poll() is not None or time.monotonic() > limit:
                raise MeasurementFailed("sshd does not listen")
            time.sleep(0.02)
        yield {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(place / "user"),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
        }
    finally:
        daemon.terminate()
        daemon.wait()


# -- an installed disk, and machines from it -----------------------------------------------------------------------


class Installed:
    """A DATABLOCK of 10 GB that something was installed on, and that is changed to and fro."""

    def __init__(self, node: Node, format: str) -> None:
        self.node = node
        self.name = f"installed-{format}"
        made = node.run("nebula_image", name=self.name, type="DATABLOCK", persistent=True, size=DISK_MIB, format=format)
        self.file = Path(made[1]["image"]["source"])
        content = world() / "content.raw"
        write_content(content, WRITTEN_MIB)
        with content.open("r+b") as file:
            file.truncate(DISK_MIB * MIB)
        run(["qemu-img", "convert", "-n", "-f", "raw", "-O", format, content, self.file])
        content.unlink()
        node.run("nebula_template", name=self.name, template=TEMPLATE % self.name)

    def be(self, type: str, persistent: bool) -> float:
        """Cold before; MeasurementFailed if it is not what it was on the disk, or was read."""
        cold(self.file)
        before = self._lies()
        seconds, done = self.node.run("nebula_image", name=self.name, type=type, persistent=persistent)
        image = done["image"]
        if (image["type"], image["persistent"], image["state"]) != (type, persistent, "READY"):
            raise MeasurementFailed(f"image {self.name} was to be {type}, persistent: {persistent}: {image}")
        if self._lies() != before or in_cache(self.file) > WRITTEN_MIB * MIB // 100:
            raise MeasurementFailed(f"{self.file} was read, or written anew")
        return seconds

    def convert(self) -> float:
        seconds = self.be("OS", persistent=False)
        self.be("DATABLOCK", persistent=True)
        return seconds

    def start(self, persistent: bool) -> float:
        """The first machine from it, its file being cold."""
        self.be("OS", persistent)
        cold(self.file)
        seconds = self.node.bring(name=self.name, template=self.name, state="running")
        self.node.bring(name=self.name, state="absent", hard=True)
        return seconds

    def _lies(self) -> tuple[int, int, int]:
        found = self.file.stat()
        return found.st_ino, found.st_blocks, found.st_mtime_ns


def machines(node: Node, rounds: int) -> Iterator[Row]:
    images = {format: Installed(node, format) for format in FORMATS}
    converted = take_turns(
        rounds, {f"conversion, {format}": lambda image=image: image.convert() for format, image in images.items()}
    )
    for format in FORMATS:
        name = f"a DATABLOCK of {DISK_MIB // 1024} GB, {format}, made an OS image"
        yield Row.limit(name, converted[f"conversion, {format}"], CONVERSION_LIMIT, "s")
    # The node's first start of all asks libvirt and QEMU what they can.
    images["raw"].start(persistent=True)
    kinds = {True: "persistent", False: "non-persistent"}
    started = take_turns(
        rounds * STARTS_EACH_ROUND,
        {
            f"{format}, {word}": lambda image=image, persistent=persistent: image.start(persistent)
            for format, image in images.items()
            for persistent, word in kinds.items()
        },
    )
    for format in FORMATS:
        own, peer = started[f"{format}, non-persistent"], started[f"{format}, persistent"]
        name = f"first machine from it, {format}, cold, beside a persistent one"
        yield Row.at_most(name, own, peer, "s", DEPLOY_TARGET)


def rows(rounds: int) -> Iterator[Row]:
    node = Node()
    yield from machines(node, rounds)
    yield from uploads(node, rounds)
