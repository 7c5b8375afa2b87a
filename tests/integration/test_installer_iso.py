# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installer that roles are tried on is one: it boots, installs, and leaves alone what is not blank."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.tests.integration.guests import installer_iso, qemu

LIMIT = 180
FIRMWARE = Path("/usr/share/OVMF")


@contextlib.contextmanager
def machine(
    place: Path, disk: Path, iso: Path | None = None, *, firmware: str = "BIOS", options: tuple[str, ...] = ()
) -> Iterator[qemu.Machine]:
    """One that boots from its disk, and where that has nothing to boot, from the ISO."""
    console, monitor = place / "console.log", place / "monitor"
    console.unlink(missing_ok=True)
    argv = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "q35", "-m", "256", "-no-reboot"]
    argv += ["-nodefaults", "-no-user-config", "-vga", "std", "-display", "none", "-device", "virtio-scsi-pci,id=scsi"]
    argv += ["-serial", f"file:{console}", "-qmp", f"unix:{monitor},server=on,wait=off", *options]
    if firmware == "UEFI":
        variables = place / "variables.fd"
        if not variables.exists():
            subprocess.run(["cp", str(FIRMWARE / "OVMF_VARS_4M.fd"), str(variables)], check=True)
        code = FIRMWARE / "OVMF_CODE_4M.fd"
        argv += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
        argv += ["-drive", f"if=pflash,format=raw,file={variables}"]
    argv += ["-drive", f"file={disk},if=none,id=root,format=qcow2,cache=unsafe"]
    argv += ["-device", "virtio-blk-pci,drive=root,bootindex=1"]
    if iso is not None:
        argv += ["-drive", f"file={iso},if=none,id=cd,format=raw,media=cdrom,readonly=on"]
        argv += ["-device", "scsi-cd,bus=scsi.0,drive=cd,bootindex=2"]
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield qemu.Machine(process, console, stack.enter_context(qemu.connected(monitor, process)))


def blank_disk(place: Path, size: str = "300M") -> Path:
    disk = place / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), size], check=True)
    return disk


@pytest.mark.parametrize("firmware", ["BIOS", "UEFI"])
def test_installs_and_boots(tmp_path, firmware):
    disk = blank_disk(tmp_path)
    with machine(tmp_path, disk, installer_iso.build(), firmware=firmware) as installing:
        installing.wait_for("boot loader is installed", LIMIT)
        assert installing.process.wait(30) == 0
        said = installing.text()
    assert f"installing on /dev/vda, 300 MiB, by {firmware}" in said
    assert installer_iso.FINISHED in said
    assert "unpacked 50%" in said

    # The ISO is still there: a disk that boots is never installed on again.
    with machine(tmp_path, disk, installer_iso.build(), firmware=firmware) as installed:
        said = installed.wait_for("installed login:", LIMIT)
        assert "nebula-install" not in said
        installed.power_button(30)


def test_comes_back_to_the_installer_and_does_nothing(tmp_path):
    disk = blank_disk(tmp_path)
    # Not blank, and not bootable: what an installation leaves that was ended half-way.
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 4k 4k", str(disk)], check=True, capture_output=True)
    before = content(disk)
    with machine(tmp_path, disk, installer_iso.build()) as refusing:
        said = refusing.wait_for(installer_iso.REFUSED, LIMIT)
        assert "not blank: vda" in said
        assert refusing.process.poll() is None
    assert content(disk) == before


def test_fails_where_the_disk_is_too_small(tmp_path):
    disk = blank_disk(tmp_path, "64M")
    before = content(disk)
    with machine(tmp_path, disk, installer_iso.build()) as failing:
        # To the end of that line.
        said = failing.wait_for("MiB, and ", LIMIT)
        assert f"{installer_iso.FAILED}: /dev/vda is too small: it has 64 MiB" in said
        assert failing.process.poll() is None
    assert content(disk) == before


def test_takes_answers_and_its_end_from_whoever_boots_its_kernel(tmp_path):
    """By kernel and initrd out of the ISO, with a file more in the initrd, as Debian's installer takes its answers."""
    for name in (installer_iso.KERNEL, installer_iso.INITRD):
        extract = ["xorriso", "-osirrox", "on", "-indev", str(installer_iso.build()), "-extract", f"/{name}"]
        subprocess.run([*extract, str(tmp_path / Path(name).name)], check=True, capture_output=True)
    (tmp_path / "preseed.cfg").write_text("# nothing\n")
    archive = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], input=b"preseed.cfg\n", cwd=tmp_path, check=True, capture_output=True
    ).stdout
    initrd = tmp_path / "initrd.gz"
    initrd.chmod(0o644)
    initrd.write_bytes(initrd.read_bytes() + b"\0" * (-initrd.stat().st_size % 4) + archive)
    append = f"{installer_iso.CONSOLES} nebula_install.end=stay"
    options = ("-kernel", str(tmp_path / "vmlinuz"), "-initrd", str(initrd), "-append", append)
    disk = blank_disk(tmp_path)
    with machine(tmp_path, disk, installer_iso.build("reboot"), options=options) as installing:
        said = installing.wait_for(installer_iso.FINISHED, LIMIT)
        assert "answers: preseed.cfg in the initrd, 10 bytes" in said
        assert "started, end=stay" in said
        assert installing.process.poll() is None


def content(disk: Path) -> str:
    told = subprocess.run(
        ["qemu-img", "map", "-f", "qcow2", "--output=json", str(disk)], check=True, capture_output=True, text=True
    )
    return told.stdout
