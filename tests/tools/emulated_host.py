# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of its own in one emulated machine, reached over ssh on loopback as a login that is not root. See
docs/testing.md; stock_host.py and xen_host.py say what is in it.

    with StockHost(tmp_path) as host:
        host.ssh(["id"])                 # as the login; host.sudo([...]) as root
        host.inventory()                 # variables of a host for Ansible
        host.reboot()                    # from within, as a person does
        host.power_cut()                 # the emulator is killed, then started anew over the same disk

    export PYTHONPATH=collections
    stock_host.py start DIRECTORY        # the machine stays; DIRECTORY/inventory.json is what inventory() returns
    stock_host.py do DIRECTORY reboot
    stock_host.py stop DIRECTORY

It is made once: installed, booted, and frozen with its memory. Each use goes on from there, in seconds, with a disk of
its own. No packet leaves the machine: its network is QEMU's own, restricted to ssh from here."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ansible_collections.nebula.provision.plugins.module_utils.host.command import words_to_end_with_us
from ansible_collections.nebula.provision.plugins.module_utils.host.processes import start_time
from ansible_collections.nebula.provision.tests.integration.guests import demo, sources
from ansible_collections.nebula.provision.tests.integration.guests.cache import cached
from ansible_collections.nebula.provision.tests.integration.guests.qemu import Machine, connected

EMULATOR = "qemu-system-x86_64"
BOOT_SECONDS = 600
# What a person finds on an installed server.
COMMON = (
    *("systemd-sysv", "udev", "kmod", "dbus", "libpam-systemd", "procps", "iproute2", "sudo", "openssh-server"),
    *("initramfs-tools", "iptables", "nftables", "qemu-utils", "python3", "python3-pycdlib", "python3-apt"),
    *("bzip2", "gzip", "xz-utils", "zstd", "fdisk"),
)
NETWORK = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n"
# They would start minutes after a frozen machine went on with today's date.
MASKED = "apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer man-db.timer"
BEFORE = (
    # No more modules than it takes to find its disk: each costs an emulated boot time.
    'mkdir -p "$1/etc/initramfs-tools/conf.d"',
    'printf "virtio_pci\\nvirtio_blk\\next4\\n" > "$1/etc/initramfs-tools/modules"',
    'echo MODULES=list > "$1/etc/initramfs-tools/conf.d/stock"',
)

Host = TypeVar("Host", bound="EmulatedHost")


class EmulatedHost:
    """directory: of this use; what is in it is the machine's. owned: the machine ends with this process, however that
    ends. frozen: go on from the frozen memory, else boot."""

    name: ClassVar[str]
    login: ClassVar[str] = "admin"
    packages: ClassVar[tuple[str, ...]]
    # Commands of mmdebstrap, with the root as $1, at the end.
    after: ClassVar[tuple[str, ...]] = ()
    size: ClassVar[str] = "4G"
    hardware: ClassVar[tuple[str, ...]]
    append: ClassVar[str]

    # Ends of netdevs that `hardware` has devices for.
    links: tuple[str, ...] = ()

    def __init__(self, directory: Path, owned: bool = True, frozen: bool = True) -> None:
        self.directory = directory.resolve()
        self.owned = owned
        self.frozen = frozen
        self.place = self.image()
        self.port = 0

    def __enter__(self: Host) -> Host:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- the machine ----------------------------------------------------------------------------------------------
    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        overlay = self.directory / "disk.qcow2"
        begun = overlay.exists()
        if not begun:
            subprocess.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(self.place / "disk.qcow2")]
                + [str(overlay)],
                check=True,
            )
        self.port = self.port or free_port()
        memory = self.place / "memory" if self.frozen and not begun else None
        process, machine = self.launch(overlay, memory)
        record = {"pid": process.pid, "start": start_time(process.pid), "port": self.port}
        (self.directory / "host.json").write_text(json.dumps(record))
        if memory is not None:
            wait_for(lambda: machine.command("query-status")["status"] != "inmigrate", "its memory", 120)
            machine.command("cont")
        self.wait_for_ssh()
        if memory is not None:
            # It believes that no time has passed.
            self.sudo(["date", "--set", f"@{time.time():.0f}"])

    def stop(self) -> None:
        self.kill()
        for name in ("disk.qcow2", "host.json", "inventory.json", "console.log", "emulator.log"):
            with contextlib.suppress(FileNotFoundError):
                (self.directory / name).unlink()

    def kill(self) -> None:
        """The emulator, and no other process that has its number now."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            record = json.loads((self.directory / "host.json").read_text())
            handle = os.pidfd_open(record["pid"])
            try:
                if start_time(record["pid"]) == record["start"]:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    # Its first thread is gone before the last one that has the disk open.
                    if not select.select([handle], [], [], 60)[0]:
                        raise TimeoutError("the emulator's end: not within 60 s")
            finally:
                os.close(handle)

    def power_cut(self) -> None:
        """What the machine had not been told to be on disk is lost, as it is when the plug is pulled."""
        self.kill()
        self.start()

    def reboot(self) -> None:
        before = self.boot_id()
        # The connection may break before the answer is here.
        self.sudo(["systemctl", "reboot"], check=False)
        wait_for(lambda: self.boot_id(check=False) not in ("", before), "the host after its reboot", BOOT_SECONDS)

    def boot_id(self, check: bool = True) -> str:
        return self.ssh(["cat", "/proc/sys/kernel/random/boot_id"], check=check).stdout.strip()

    def console(self) -> str:
        return (self.directory / "console.log").read_text(errors="replace")

    # -- in it ----------------------------------------------------------------------------------------------------
    def ssh_options(self) -> list[str]:
        options = {
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.place / "known_hosts"),
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": self.name,
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "60",
        }
        return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    def _command(self, argv: Sequence[str]) -> list[str]:
        command = ["ssh", "-F", "/dev/null", *self.ssh_options(), "-i", str(self.place / "key"), "-p", str(self.port)]
        return [*command, f"{self.login}@127.0.0.1", "--", shlex.join(argv)]

    def ssh(
        self, argv: Sequence[str], check: bool = True, timeout: float = 300, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        command = self._command(argv)
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"{shlex.join(argv)} on {self.name}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def put(self, data: bytes, argv: Sequence[str]) -> None:
        """What the command, as root, is to read."""
        subprocess.run(self._command(["sudo", *argv]), input=data, capture_output=True, timeout=300, check=True)

    def sudo(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return self.ssh(["sudo", *argv], **options)

    def wait_for_ssh(self) -> None:
        wait_for(lambda: self.ssh(["true"], check=False).returncode == 0, f"ssh to {self.name}", BOOT_SECONDS)

    def inventory(self) -> dict[str, Any]:
        """A host's variables: an unprivileged login, and sudo for what needs it."""
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": self.login,
            "ansible_become": True,
            # Emulated: a login alone takes seconds.
            "ansible_ssh_timeout": 120,
            "ansible_ssh_private_key_file": str(self.place / "key"),
            "ansible_ssh_common_args": "-F /dev/null " + shlex.join(self.ssh_options()),
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    @classmethod
    def running(cls: type[Host], directory: Path) -> Host:
        """The one that another process started there."""
        host = cls(directory, owned=False)
        host.port = json.loads((host.directory / "host.json").read_text())["port"]
        return host

    # -- what is in it --------------------------------------------------------------------------------------------
    @classmethod
    def boots(cls, place: Path) -> list[str]:
        """What the emulator boots, of the files that customise() left."""
        return ["-kernel", str(place / "vmlinuz"), "-initrd", str(place / "initrd"), "-append", cls.append]

    @classmethod
    def take(cls, root: Path, place: Path) -> None:
        """What is started from outside of its disk."""
        (place / "vmlinuz").write_bytes(next((root / "boot").glob("vmlinuz-*")).read_bytes())
        (place / "initrd").write_bytes(next((root / "boot").glob("initrd.img-*")).read_bytes())

    def warm_up(self) -> None:
        """What its first user would wait for, before it is frozen."""

    @classmethod
    def guest(cls) -> dict[str, Path]:
        """What a guest starts from: the host itself can't download any."""
        return {"image": demo.image()}

    # -- made once ------------------------------------------------------------------------------------------------
    @classmethod
    def image(cls) -> Path:
        """disk.qcow2, memory, what it boots, key, known_hosts."""
        told = subprocess.run([EMULATOR, "--version"], check=True, capture_output=True, text=True).stdout
        inputs = [cls._packages(), cls.size, BEFORE, cls._after(), cls.boots(Path()), cls.hardware, sources.codename()]
        return cached(cls.name, [*inputs, told.splitlines()[0]], cls._make)

    @classmethod
    def _packages(cls) -> tuple[str, ...]:
        return (*COMMON, *cls.packages)

    @classmethod
    def _after(cls) -> tuple[str, ...]:
        return (
            f'echo {cls.name} > "$1/etc/hostname"',
            f'printf "127.0.0.1 localhost\\n127.0.1.1 {cls.name}\\n" > "$1/etc/hosts"',
            'echo "/dev/vda / ext4 defaults 0 1" > "$1/etc/fstab"',
            f'printf %s {shlex.quote(NETWORK)} > "$1/etc/systemd/network/eth0.network"',
            f'chroot "$1" useradd --create-home --shell /bin/bash {cls.login}',
            f'echo "{cls.login} ALL=(ALL:ALL) NOPASSWD: ALL" > "$1/etc/sudoers.d/{cls.login}"',
            'chroot "$1" systemctl enable systemd-networkd',
            f'chroot "$1" systemctl mask {MASKED}',
            *cls.after,
            'rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/usr/share/doc/* "$1"/usr/share/locale/*',
        )

    @classmethod
    def _make(cls, place: Path) -> None:
        cls._install(place)
        cls._freeze(place)

    @classmethod
    def _install(cls, place: Path) -> None:
        root, raw, key = place / "root", place / "disk.raw", place / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", cls.name, "-f", str(key)], check=True)
        # In a mount namespace of its own: where it is killed, its mounts go with it.
        run = ["unshare", "--mount", "mmdebstrap", "--mode=root", "--variant=minbase"]
        run += ["--aptopt=APT::Install-Recommends false", f"--include={','.join(cls._packages())}"]
        run += [f"--essential-hook={hook}" for hook in BEFORE] + [f"--customize-hook={hook}" for hook in cls._after()]
        done = subprocess.run(
            [*run, sources.codename(), str(root), "-"], input=sources.archives(), text=True, capture_output=True
        )
        if done.returncode != 0:
            raise RuntimeError(f"mmdebstrap: {done.stderr[-4000:]}")
        home = root / "home" / cls.login / ".ssh"
        home.mkdir(mode=0o700)
        (home / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
        owner = f"{cls.login}:{cls.login}"
        subprocess.run(["chroot", str(root), "chown", "-R", owner, f"/home/{cls.login}/.ssh"], check=True)
        host_key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
        (place / "known_hosts").write_text(f"{cls.name} {host_key[0]} {host_key[1]}\n")
        cls.take(root, place)
        make = ["mkfs.ext4", "-q", "-L", "root", "-d", str(root), str(raw), cls.size]
        subprocess.run(make, check=True, capture_output=True)
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(place / "disk.qcow2")]
        subprocess.run(convert, check=True)
        raw.unlink()
        subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
        os.sync()

    @classmethod
    def _freeze(cls, place: Path) -> None:
        """Boot it until everything has started, and keep its memory beside the disk."""
        host = cls.__new__(cls)
        host.directory, host.place, host.port, host.owned = place, place, free_port(), True
        process, machine = host.launch(place / "disk.qcow2", None)
        try:
            host.wait_for_ssh()
            # Its answer says 1 where a unit failed, and that is for the tests to see.
            host.sudo(["systemctl", "is-system-running", "--wait"], check=False, timeout=BOOT_SECONDS)
            host.warm_up()
            host.sudo(["sync"])
            machine.command("stop")
            machine.command("migrate", uri=f"exec:cat > {shlex.quote(str(place / 'memory'))}")
            wait_for(lambda: machine.command("query-migrate")["status"] in ("completed", "failed"), "its memory", 300)
            state = machine.command("query-migrate")
            if state["status"] != "completed":
                raise RuntimeError(f"keeping the memory of {cls.name}: {state}")
            machine.command("quit")
            process.wait(60)
        finally:
            process.kill()
            process.wait()
            for name in ("console.log", "emulator.log"):
                with contextlib.suppress(FileNotFoundError):
                    (place / name).unlink()

    def launch(self, disk: Path, memory: Path | None) -> tuple[subprocess.Popen[bytes], Machine]:
        # A socket's path is short: the directory of a test may not be.
        with tempfile.TemporaryDirectory(prefix="host-") as short:
            monitor = Path(short) / "monitor"
            argv = words_to_end_with_us() if self.owned else []
            argv += [EMULATOR, *self.hardware, "-nodefaults", "-no-user-config", "-display", "none"]
            argv += self.boots(self.place)
            argv += ["-drive", f"file={disk},if=virtio,format=qcow2", "-device", "virtio-rng-pci"]
            argv += ["-netdev", f"user,id=net0,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{self.port}-:22"]
            argv += ["-device", "virtio-net-pci,netdev=net0,romfile="]
            argv += [word for link in self.links for word in ("-netdev", link)]
            argv += ["-serial", f"file:{self.directory / 'console.log'}", "-qmp", f"unix:{monitor},server=on,wait=off"]
            if memory is not None:
                argv += ["-incoming", f"exec:cat {shlex.quote(str(memory))}"]
            with (self.directory / "emulator.log").open("ab") as log:
                process = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            try:
                return process, Machine(process, self.directory / "console.log", connected(monitor, process))
            except BaseException:
                process.kill()
                process.wait()
                raise


@contextlib.contextmanager
def linked(kind: type[Host], directory: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts from one frozen memory whose devices of netdev `link` are joined by a wire. The power of the second one
    may be cut: the first one waits for it, but not the other way round."""
    with contextlib.ExitStack() as stack:
        # A socket's path is short: the directory of a test may not be.
        wire = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="link-"))) / "link"
        hosts = []
        for number, side in enumerate(("on", "off")):
            host = kind(directory / str(number))
            host.links = (f"stream,id=link,server={side},addr.type=unix,addr.path={wire}",)
            hosts.append(stack.enter_context(host))
        first, second = hosts
        yield first, second


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str, timeout: float) -> None:
    limit = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(0.2)


def main(kind: type[EmulatedHost], verb: str, directory: str, *arguments: str) -> None:
    place = Path(directory)
    if verb == "start":
        host = kind(place, owned=False)
        try:
            host.start()
            told = {**host.inventory(), **{f"demo_{name}": str(path) for name, path in kind.guest().items()}}
            (place / "inventory.json").write_text(json.dumps(told, indent=1))
        except BaseException:
            host.stop()
            raise
    elif verb == "stop":
        host = kind.__new__(kind)
        host.directory = place.resolve()
        host.stop()
    elif verb == "do" and arguments in (("reboot",), ("power_cut",)):
        getattr(kind.running(place), arguments[0])()
    else:
        sys.exit(__doc__)
