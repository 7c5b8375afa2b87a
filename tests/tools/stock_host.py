#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stock host: Debian with systemd, AppArmor and libvirt as its packages leave it, in one emulated machine, reached
over ssh on loopback as a login that is not root. See docs/testing.md.

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
its own. No packet leaves the machine: its network is QEMU's own, restricted to ssh from here.
"""

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.plugins.module_utils.host.node import start_time
from ansible_collections.nebula.provision.tests.integration.guests import demo, sources
from ansible_collections.nebula.provision.tests.integration.guests.cache import cached
from ansible_collections.nebula.provision.tests.integration.guests.qemu import Machine, connected

LOGIN = "admin"
NAME = "stock"
# Of libvirt and QEMU nothing but the packages; of the rest what a person finds on an installed server.
PACKAGES = (
    *("systemd-sysv", "udev", "kmod", "dbus", "libpam-systemd", "procps", "iproute2", "apparmor", "sudo"),
    *("openssh-server", "linux-image-cloud-amd64", "initramfs-tools", "dmidecode", "iptables", "netcat-openbsd"),
    *("libvirt-daemon-system", "libvirt-clients", "dnsmasq-base", "qemu-system-x86", "qemu-utils", "nftables"),
    *("python3", "python3-libvirt", "python3-pycdlib", "python3-apt", "bzip2", "gzip", "xz-utils", "zstd", "fdisk"),
)
SIZE = "4G"
NETWORK = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n"
# They would start minutes after a frozen machine went on with today's date.
MASKED = "apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer man-db.timer"
BEFORE = (
    # No more modules than it takes to find its disk: each costs an emulated boot time.
    'mkdir -p "$1/etc/initramfs-tools/conf.d"',
    'printf "virtio_pci\\nvirtio_blk\\next4\\n" > "$1/etc/initramfs-tools/modules"',
    'echo MODULES=list > "$1/etc/initramfs-tools/conf.d/stock"',
)
AFTER = (
    f'echo {NAME} > "$1/etc/hostname"',
    f'printf "127.0.0.1 localhost\\n127.0.1.1 {NAME}\\n" > "$1/etc/hosts"',
    'echo "/dev/vda / ext4 defaults 0 1" > "$1/etc/fstab"',
    f'printf %s {shlex.quote(NETWORK)} > "$1/etc/systemd/network/eth0.network"',
    f'chroot "$1" useradd --create-home --shell /bin/bash {LOGIN}',
    f'echo "{LOGIN} ALL=(ALL:ALL) NOPASSWD: ALL" > "$1/etc/sudoers.d/{LOGIN}"',
    'chroot "$1" systemctl enable systemd-networkd',
    f'chroot "$1" systemctl mask {MASKED}',
    'rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/usr/share/doc/* "$1"/usr/share/locale/*',
)
EMULATOR = "qemu-system-x86_64"
# `max` shows a processor's virtualisation too, and Linux would make a /dev/kvm that is slower than none.
APPEND = (
    "root=/dev/vda rw console=ttyS0,115200 quiet net.ifnames=0 mitigations=off apparmor=1 security=apparmor "
    "module_blacklist=kvm_amd,kvm_intel"
)
HARDWARE = ("-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "2048")
BOOT_SECONDS = 600


class StockHost:
    """directory: of this use; what is in it is the machine's. owned: the machine ends with this process, however that
    ends. frozen: go on from the frozen memory, else boot."""

    def __init__(self, directory: Path, owned: bool = True, frozen: bool = True) -> None:
        self.directory = directory.resolve()
        self.owned = owned
        self.frozen = frozen
        self.place = image()
        self.port = 0

    def __enter__(self) -> StockHost:
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
        process, machine = launch(self.place, overlay, self.directory, self.port, memory, self.owned)
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
            "HostKeyAlias": NAME,
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "60",
        }
        return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    def ssh(
        self, argv: Sequence[str], check: bool = True, timeout: float = 300, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        command = ["ssh", "-F", "/dev/null", *self.ssh_options(), "-i", str(self.place / "key"), "-p", str(self.port)]
        command += [f"{LOGIN}@127.0.0.1", "--", shlex.join(argv)]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"{shlex.join(argv)} on the stock host: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def sudo(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return self.ssh(["sudo", *argv], **options)

    def wait_for_ssh(self) -> None:
        wait_for(lambda: self.ssh(["true"], check=False).returncode == 0, "ssh to the stock host", BOOT_SECONDS)

    def inventory(self) -> dict[str, Any]:
        """A host's variables: an unprivileged login, and sudo for what needs it."""
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": LOGIN,
            "ansible_become": True,
            # Emulated: a login alone takes seconds.
            "ansible_ssh_timeout": 120,
            "ansible_ssh_private_key_file": str(self.place / "key"),
            "ansible_ssh_common_args": "-F /dev/null " + shlex.join(self.ssh_options()),
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    @classmethod
    def running(cls, directory: Path) -> StockHost:
        """The one that another process started there."""
        host = cls(directory, owned=False)
        host.port = json.loads((host.directory / "host.json").read_text())["port"]
        return host


# --- made once


def image() -> Path:
    """disk.qcow2, memory, vmlinuz, initrd, key, known_hosts."""
    version = subprocess.run([EMULATOR, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    inputs = [PACKAGES, SIZE, BEFORE, AFTER, APPEND, HARDWARE, sources.codename(), version]
    return cached("stock", inputs, make)


def make(place: Path) -> None:
    install(place)
    freeze(place)


def install(place: Path) -> None:
    root, raw, key = place / "root", place / "disk.raw", place / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", NAME, "-f", str(key)], check=True)
    run = ["mmdebstrap", "--mode=root", "--variant=minbase", "--aptopt=APT::Install-Recommends false"]
    run += [f"--include={','.join(PACKAGES)}"]
    run += [f"--essential-hook={hook}" for hook in BEFORE] + [f"--customize-hook={hook}" for hook in AFTER]
    done = subprocess.run(
        [*run, sources.codename(), str(root), "-"], input=sources.archives(), text=True, capture_output=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"mmdebstrap: {done.stderr[-4000:]}")
    home = root / "home" / LOGIN / ".ssh"
    home.mkdir(mode=0o700)
    (home / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
    subprocess.run(["chroot", str(root), "chown", "-R", f"{LOGIN}:{LOGIN}", f"/home/{LOGIN}/.ssh"], check=True)
    host_key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
    (place / "known_hosts").write_text(f"{NAME} {host_key[0]} {host_key[1]}\n")
    (place / "vmlinuz").write_bytes(next((root / "boot").glob("vmlinuz-*")).read_bytes())
    (place / "initrd").write_bytes(next((root / "boot").glob("initrd.img-*")).read_bytes())
    subprocess.run(["mkfs.ext4", "-q", "-L", "root", "-d", str(root), str(raw), SIZE], check=True, capture_output=True)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(place / "disk.qcow2")], check=True)
    raw.unlink()
    subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True)
    os.sync()


def freeze(place: Path) -> None:
    """Boot it until everything has started, and keep its memory beside the disk."""
    host = StockHost.__new__(StockHost)
    host.directory, host.place, host.port = place, place, free_port()
    process, machine = launch(place, place / "disk.qcow2", place, host.port, None, owned=True)
    try:
        host.wait_for_ssh()
        # Its answer says 1 where a unit failed, and that is for the tests to see.
        host.sudo(["systemctl", "is-system-running", "--wait"], check=False, timeout=BOOT_SECONDS)
        # libvirt looks at its emulators once, for seconds.
        host.sudo(["virsh", "list"], timeout=BOOT_SECONDS)
        host.sudo(["sync"])
        machine.command("stop")
        machine.command("migrate", uri=f"exec:cat > {shlex.quote(str(place / 'memory'))}")
        wait_for(lambda: machine.command("query-migrate")["status"] in ("completed", "failed"), "its memory", 300)
        state = machine.command("query-migrate")
        if state["status"] != "completed":
            raise RuntimeError(f"keeping the stock host's memory: {state}")
        machine.command("quit")
        process.wait(60)
    finally:
        process.kill()
        process.wait()
        for name in ("console.log", "emulator.log"):
            with contextlib.suppress(FileNotFoundError):
                (place / name).unlink()


def launch(
    place: Path, disk: Path, directory: Path, port: int, memory: Path | None, owned: bool
) -> tuple[subprocess.Popen[bytes], Machine]:
    # A socket's path is short: the directory of a test may not be.
    with tempfile.TemporaryDirectory(prefix="stock-") as short:
        monitor = Path(short) / "monitor"
        argv = ["setpriv", "--pdeathsig", "KILL"] if owned else []
        argv += [EMULATOR, *HARDWARE, "-nodefaults", "-no-user-config", "-display", "none"]
        argv += ["-kernel", str(place / "vmlinuz"), "-initrd", str(place / "initrd"), "-append", APPEND]
        argv += ["-drive", f"file={disk},if=virtio,format=qcow2", "-device", "virtio-rng-pci"]
        argv += ["-netdev", f"user,id=net0,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-:22"]
        argv += ["-device", "virtio-net-pci,netdev=net0,romfile="]
        argv += ["-serial", f"file:{directory / 'console.log'}", "-qmp", f"unix:{monitor},server=on,wait=off"]
        if memory is not None:
            argv += ["-incoming", f"exec:cat {shlex.quote(str(memory))}"]
        with (directory / "emulator.log").open("ab") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            return process, Machine(process, directory / "console.log", connected(monitor, process))
        except BaseException:
            process.kill()
            process.wait()
            raise


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


def main(verb: str, directory: str, *arguments: str) -> None:
    place = Path(directory)
    if verb == "start":
        host = StockHost(place, owned=False)
        try:
            host.start()
        except BaseException:
            host.stop()
            raise
        # Beside it, what a guest starts from: the host itself can't download any.
        told = {**host.inventory(), "demo_image": str(demo.image())}
        (place / "inventory.json").write_text(json.dumps(told, indent=1))
    elif verb == "stop":
        host = StockHost.__new__(StockHost)
        host.directory = place.resolve()
        host.stop()
    elif verb == "do" and arguments in (("reboot",), ("power_cut",)):
        getattr(StockHost.running(place), arguments[0])()
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
