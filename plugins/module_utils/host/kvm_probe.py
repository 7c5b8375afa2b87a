# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out whether KVM really works here, by booting a guest under a time limit as the user that QEMU will run as."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..dataclass import dataclass
from ..errors import MissingDependency
from . import node_file
from .command import find, last_lines, run, words_to_end_with_us

DEVICE = "/dev/kvm"
EMULATOR = "qemu-system-x86_64"
# libvirt's name for domains without KVM.
EMULATION = "qemu"
QEMU_CONF = "/etc/libvirt/qemu.conf"
# As distributions build libvirt.
QEMU_USERS = ("libvirt-qemu", "qemu")
LIMIT = 5.0
# A boot sector (tests/fixtures/accelerator/probe.s): a timer interrupt, long mode with paging, fresh memory, 64 million
# turns of a loop, then out by isa-debug-exit. Half-working KVM gets through the firmware and fails or crawls at these.
_CODE = bytes.fromhex(
    "31c08ed88ed0bc007cfbf4fa0f0116c87c0f20c06683c8010f22c0ea207c080066b810008ed88ec08ed0bf0000010031c0b9000c0000f3ab"
    "c7050000010003100100c7050010010003200100c70500200100830000000f20e083c8200f22e0b8000001000f22d8b9800000c00f320d00"
    "0100000f300f20c00d000000800f22c0ea877c00001800bf00001000b90000020031c0f348abb900000004ffc975fcb015e6f4f4ebfd6690"
    "0000000000000000ffff0000009acf00ffff00000092cf00ffff0000009aaf001f00a87c0000"
)
GUEST = _CODE.ljust(510, b"\0") + b"\x55\xaa"
_EXIT = 0x15 * 2 + 1


@dataclass(frozen=True)
class Boot:
    """Describes one boot of the probe's guest.
    seconds: until the guest ended, or was ended.
    problem: "" if the guest did as it should."""

    seconds: float
    problem: str = ""


def choose(wanted: str, cached: Mapping[str, str]) -> dict[str, str]:
    """Return {accelerator: kvm or qemu, reason, key}.
    wanted: auto probes, unless `cached` holds what a probe found under the same circumstances; kvm and qemu are
    taken without a probe; "" is what was wanted when `cached` was written."""
    if not wanted and cached.get("key", "").startswith("set:"):
        return dict(cached)
    if wanted not in ("", "auto"):
        return {"accelerator": wanted, "reason": f"nebula_accelerator is {wanted}", "key": f"set:{wanted}"}
    key = circumstances()
    if cached.get("key") == key:
        return dict(cached)
    accelerator, reason = probe()
    return {"accelerator": accelerator, "reason": reason, "key": key}


def circumstances() -> str:
    """Return the circumstances on which a probe's result depends. When one of them is different, KVM is probed anew."""
    parts = [node_file.boot_id(), os.uname().release]
    for path in (DEVICE, shutil.which(EMULATOR) or ""):
        try:
            found = os.stat(path)
        except OSError:
            parts.append("none")
            continue
        what = "" if path == DEVICE else f":{found.st_size}:{int(found.st_mtime)}"
        parts.append(f"{found.st_uid}:{found.st_gid}:{stat.S_IMODE(found.st_mode):o}{what}")
    parts.append(qemu_user()[0])
    return " ".join(parts)


def probe(limit: float = LIMIT) -> tuple[str, str]:
    """Return "kvm" or "qemu", and why. It takes as long as the guest needs: 0.3 s where KVM works, `limit` s where it
    hangs."""
    if not os.path.exists(DEVICE):
        return EMULATION, f"there is no {DEVICE}"
    user, account = qemu_user()
    found = boot("kvm", limit, account)
    if not found.problem:
        return "kvm", f"a guest booted with it in {found.seconds:.1f} s as user {user}"
    return EMULATION, f"{found.problem}; {_emulated(limit, account)}"


def _emulated(limit: float, account: pwd.struct_passwd | None) -> str:
    """Return the result of the same guest without KVM, which distinguishes a broken KVM from a broken QEMU."""
    found = boot("tcg", 4 * limit, account)
    if found.problem:
        return f"without KVM it does not run either: {found.problem}"
    return f"the same guest ran emulated in {found.seconds:.1f} s"


def boot(accelerator: str, limit: float, account: pwd.struct_passwd | None = None) -> Boot:
    """Boot the guest with the accelerator "kvm" or "tcg", as `account` if this process may."""
    emulator, identity = find(EMULATOR), _identity(account)
    # QEMU's user has to read it, and /var/tmp or a private TMPDIR may not let it.
    place = tempfile.TemporaryDirectory(prefix="nebula-probe-", dir="/tmp")
    with place as directory, tempfile.TemporaryFile() as output:
        os.chmod(directory, 0o711)
        image = os.path.join(directory, "guest")
        Path(image).write_bytes(GUEST)
        # Nobody else may open it: whoever holds a lock on it keeps QEMU from starting.
        os.chmod(image, 0o400)
        if identity:
            os.chown(image, identity["user"], -1)
        began = time.monotonic()
        process = subprocess.Popen(
            [
                *words_to_end_with_us(),
                emulator, "-accel", accelerator, "-machine", "pc", "-m", "16", "-nodefaults", "-no-user-config",
                "-display", "none", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
                "-drive", f"file={image},format=raw,if=floppy,readonly=on",
            ],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True, **identity,
        )  # fmt: skip
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return Boot(limit, f"{_guest_booted(accelerator)} did not get through within {limit:g} s")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        seconds = time.monotonic() - began
        output.seek(0)
        words = last_lines(output.read(8192).decode("utf-8", "replace"), 2)
    if code == _EXIT:
        return Boot(seconds)
    if "Permission denied" in words:
        return Boot(seconds, f"{_device()} may not be opened by {account.pw_name if account else 'this user'}")
    ended = f"signal {-code}" if code < 0 else f"code {code}"
    return Boot(seconds, f"{_guest_booted(accelerator)} ended QEMU with {ended}" + (f" ({words})" if words else ""))


def is_emulation(chosen: Mapping[str, str]) -> bool:
    return chosen["accelerator"] == EMULATION


def _guest_booted(accelerator: str) -> str:
    return {"kvm": "a guest booted with KVM", "tcg": "an emulated guest"}.get(accelerator, f"a guest on {accelerator}")


def _device() -> str:
    found = os.stat(DEVICE)
    return f"{DEVICE} (mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}:{found.st_gid})"


def qemu_user() -> tuple[str, pwd.struct_passwd | None]:
    """Return the user as whom libvirt runs QEMU on this host, (name, None) where there is no such account (yet)."""
    names = list(QEMU_USERS)
    try:
        text = Path(QEMU_CONF).read_text(encoding="utf-8", errors="replace")
        configured = re.findall(r'^\s*user\s*=\s*"\+?([^"]+)"', text, re.MULTILINE)
        names = configured[-1:] + names
    except OSError:
        pass
    for name in names:
        try:
            return name, pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except KeyError:
            continue
    return "root", None


def _identity(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None or os.geteuid() != 0 or account.pw_uid == 0:
        return {}
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}


def qemu_version() -> str:
    """Return the version of QEMU, as "7.2.22"; "" where QEMU is not installed."""
    try:
        program = find(EMULATOR)
    except MissingDependency:
        return ""
    found = re.search(r"version (\d[\w.]*)", run([program, "--version"], timeout=60).stdout)
    return found.group(1) if found else ""
