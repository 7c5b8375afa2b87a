# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes the programs that this process ran without a sandbox (sandbox.py), for the warnings of its result.

Every module reports them, and few modules run such programs: therefore this is apart from the sandbox."""

from __future__ import annotations

import os

_NEEDS = "the capability SYS_ADMIN, and the programs unshare, setpriv, mount and chroot"
# The reason for each program that root ran without a sandbox.
_without: dict[str, str] = {}


def note(program: str, why: str) -> None:
    """Remember that the program ran without a sandbox, if it had privileges to lose."""
    if os.geteuid() == 0:
        _without[os.path.basename(program)] = why


def warnings() -> list[str]:
    """Return one warning for each program that was noted in this process."""
    return [
        f"{program} ran without a sandbox of its own, which this host can't make: {why}. The headers of disks "
        f"were looked at before, and no file but those of the catalog was named to it. A sandbox needs {_NEEDS}"
        for program, why in sorted(_without.items())
    ]
