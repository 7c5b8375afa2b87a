# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the context program in an image by libguestfs: in a small machine of its own, whose kernel mounts the
image.

What a hostile file system attacks is that kernel. The image's own shell runs the program in there, without a
network."""

from __future__ import annotations

import os

from ...errors import CommandFailed, MissingDependency, NebulaError, NotFound, TimedOut, Unsupported, harmless
from ...storage.final_names import OVERLAY
from ..customize import context_program
from ..customize.context_program import PROGRAM, Outcome
from . import guestfish
from .guestfish import KVM_TIMEOUT, TIMEOUT, Session

# At the top of the image, as no directory is sure to be there.
_UPLOADED = "/.nebula-context"
_MARK = "--- nebula-context ---"
# --root /. is the root too, but keeps the program from calling any of the image's that act on a running system.
_READ = "[ ! -f /etc/os-release ] || head -c 4096 /etc/os-release 2>/dev/null"
_RUN = f"{_READ}; echo; echo '{_MARK}'; exec /bin/sh {_UPLOADED} --root /. install"
_SCRIPT = f"""-rm-f {_UPLOADED}
upload {PROGRAM} {_UPLOADED}
chmod 0755 {_UPLOADED}
sh "{_RUN}"
rm {_UPLOADED}
umount-all
shutdown
"""
_NO_SYSTEM = "no operating system was found"


def install(directory: str, what: str) -> Outcome:
    """Install the context program in the overlay of this directory, which holds the program's file too."""
    guestfish.require(what)
    try:
        printed = _guestfish(directory, _SCRIPT, "-i")
    except CommandFailed as error:
        raise _explained(error, directory, what) from error
    return _outcome(printed)


def run_program(talk: Session, directory: str) -> Outcome:
    """Run the context program where the root is mounted already; the program's file is in this directory."""
    talk.ask("rm-f", _UPLOADED)
    talk.ask("upload", os.path.join(directory, PROGRAM), _UPLOADED)
    talk.ask("chmod", "0755", _UPLOADED)
    try:
        return _outcome(talk.ask("sh", _RUN))
    finally:
        talk.ask("rm-f", _UPLOADED)


def _outcome(printed: str) -> Outcome:
    os_release, _mark, answer = printed.partition(_MARK)
    return context_program.outcome(answer, os_release)


def _guestfish(directory: str, script: str, *options: str) -> str:
    """Return what guestfish prints. Where KVM turns out not to work, this and all later appliances are emulated."""
    if guestfish.may_have_kvm():
        try:
            return guestfish.run_script(script, OVERLAY, "qcow2", directory, KVM_TIMEOUT, *options)
        except (CommandFailed, TimedOut) as error:
            if not guestfish.is_broken(error):
                raise
        guestfish.emulate()
    return guestfish.run_script(script, OVERLAY, "qcow2", directory, TIMEOUT, *options)


def _explained(error: CommandFailed, directory: str, what: str) -> NebulaError:
    if _NO_SYSTEM in error.found:
        asked = f"{what}: installing the context program"
        return NotFound(
            asked, f"no operating system was found in it{_what_is_there(directory)}", "Name an image of one"
        )
    return error_of_program(error, what)


def error_of_program(error: CommandFailed, what: str) -> NebulaError:
    """Return the error that says why the program could not be run in the image."""
    asked = f"{what}: installing the context program"
    if "Exec format error" in error.found or "cannot execute binary file" in error.found:
        return Unsupported(
            asked,
            f"its programs are for another processor than this host's ({os.uname().machine})",
            "Do it on a host of that kind, or say trusted: true and via: mount",
        )
    appliance = guestfish.error_of_appliance(error, what)
    if isinstance(appliance, MissingDependency) or guestfish.is_broken(error):
        appliance.asked = asked
        return appliance
    return CommandFailed(
        asked,
        error.found,
        "If the image boots, put the program into the running machine: make it a host of role guest_context",
    )


def _what_is_there(directory: str) -> str:
    """Return the file systems that are there instead, as a part of the error."""
    try:
        lines = _guestfish(directory, "run\nlist-filesystems\n").split("\n")
    except (CommandFailed, TimedOut):
        return ""
    found = ", ".join(line.strip() for line in lines if line.strip())
    return f", but {harmless(found, 500)}" if found else ", nor any file system"
