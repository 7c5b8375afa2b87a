# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The context program put into an image by libguestfs: in a small machine of its own, whose kernel mounts it.

What a hostile file system attacks is that kernel. The image's own shell runs the program in there, without a network.
"""

from __future__ import annotations

import os
import re

from ..errors import CommandFailed, MissingDependency, NotFound, TimedOut, Unsupported, harmless
from ..host import command
from . import guest_program
from .guest_program import PROGRAM, Outcome
from .image_edits import OVERLAY

# Seconds for all of it; emulated, an appliance is up after ten. With KVM, which may be there and hang, it takes three.
TIMEOUT = 600.0
KVM_TIMEOUT = 120.0
_SETTINGS = "LIBGUESTFS_BACKEND_SETTINGS"
_KVM = "/dev/kvm"
# At the top of the image, as no directory is sure to be there.
_UPLOADED = "/.nebula-context"
_MARK = "--- nebula-context ---"
# --root /. is the root too, but keeps the program from calling any of the image's that act on a running system.
_SCRIPT = f"""-rm-f {_UPLOADED}
upload {PROGRAM} {_UPLOADED}
chmod 0755 {_UPLOADED}
sh "head -c 4096 /etc/os-release 2>/dev/null; echo; echo '{_MARK}'; exec /bin/sh {_UPLOADED} --root /. install"
rm {_UPLOADED}
umount-all
shutdown
"""
_NO_SYSTEM = "no operating system was found"
_NO_KERNEL = re.compile("supermin.*(?:kernel|/boot|/lib/modules)", re.DOTALL)
# guestfish says no more of its QEMU.
_BROKEN = ("appliance closed the connection", "guestfs_launch failed", "killed by signal", "appliance crashed")

# What is set for each session from the first on that showed that KVM does not work here.
_emulation: dict[str, str] = {}


def install(directory: str, what: str) -> Outcome:
    """Do it in the overlay of this directory, which holds the program too."""
    guest_program.require("guestfish", "guestfish", "libguestfs", f"{what}: looking into it")
    try:
        printed = _guestfish(directory, _SCRIPT, "-i")
    except CommandFailed as error:
        raise _explained(error, directory, what) from error
    os_release, _mark, answer = printed.partition(_MARK)
    return guest_program.outcome(answer, os_release)


def _guestfish(directory: str, script: str, *options: str) -> str:
    """What guestfish prints. Where KVM turns out not to work, emulated, from then on."""
    if _emulation or os.environ.get(_SETTINGS) or not os.path.exists(_KVM):
        return _session(directory, script, options, TIMEOUT)
    try:
        return _session(directory, script, options, KVM_TIMEOUT)
    except (CommandFailed, TimedOut) as error:
        if isinstance(error, CommandFailed) and not any(text in error.found for text in _BROKEN):
            raise
    _emulation[_SETTINGS] = "force_tcg"
    return _session(directory, script, options, TIMEOUT)


def _session(directory: str, script: str, options: tuple[str, ...], timeout: float) -> str:
    done = command.run(
        # Ended with us, so that a kill leaves no appliance behind.
        ["setpriv", "--pdeathsig", "KILL", "guestfish", "--rw", "--format=qcow2", "-a", OVERLAY, *options],
        timeout=timeout,
        input=script,
        cwd=directory,
        env={"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_TMPDIR": directory, **_emulation},
        check=False,
    )
    if done.returncode != 0:
        # In full: what went wrong stands before its general advice.
        raise CommandFailed("guestfish", _essence(done.stderr) or f"it ended with code {done.returncode}")
    return done.stdout


def _essence(stderr: str) -> str:
    """The errors that guestfish tells, without its advice."""
    lines = [re.sub(r"^(\*stdin\*:\d+: )?libguestfs: error: ", "", line) for line in stderr.splitlines()]
    advice = ("This usually means", "Do:", "  export", "and run the command", "or run", "into a bug report")
    return harmless("\n".join(line for line in lines if line.strip() and not line.startswith(advice)), 1000)


def _explained(error: CommandFailed, directory: str, what: str) -> Exception:
    asked = f"{what}: installing the context program"
    if _NO_SYSTEM in error.found:
        return NotFound(asked, f"no operating system was found in it{_found(directory)}", "Name an image of one")
    if "Exec format error" in error.found or "cannot execute binary file" in error.found:
        return Unsupported(
            asked,
            f"its programs are for another processor than this host's ({os.uname().machine})",
            "Do it on a host of that kind, or say trusted: true and via: mount",
        )
    if _NO_KERNEL.search(error.found):
        return MissingDependency(
            asked,
            f"libguestfs finds no kernel for its appliance: {error.found}",
            "Install a kernel package, as linux-image-amd64 (Debian) or kernel (Fedora); as another user than root, "
            "see that /boot/vmlinuz-* can be read",
        )
    remedy = "If the image boots, put the program into the running machine: make it a host of role guest_context"
    if any(text in error.found for text in _BROKEN):
        remedy = "Run libguestfs-test-tool on this host: it says what its appliance lacks"
    return CommandFailed(asked, error.found, remedy)


def _found(directory: str) -> str:
    """What there is instead, for the error."""
    try:
        lines = _guestfish(directory, "run\nlist-filesystems\n").split("\n")
    except (CommandFailed, TimedOut):
        return ""
    found = ", ".join(line.strip() for line in lines if line.strip())
    return f", but {harmless(found, 500)}" if found else ", nor any file system"
