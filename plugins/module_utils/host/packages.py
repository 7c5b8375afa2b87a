# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out which packages of Debian and its kin a host has. dpkg answers at once, whatever the package lists are."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import NebulaError
from . import command

# Seconds for dpkg-query, which reads one file.
SECONDS = 60.0


def installed(names: Sequence[str]) -> list[str]:
    """Return those of the packages that are installed, as dpkg knows it. Raise NebulaError if the host has no
    dpkg-query, or if it does not answer."""
    if not names:
        return []
    argv = [command.find("dpkg-query"), "--show", "--showformat=${db:Status-Status} ${Package}\n", *names]
    # It exits with 1 if it does not know a package.
    listed = command.run(argv, timeout=SECONDS, check=False).stdout.splitlines()
    found = {line.partition(" ")[2] for line in listed if line.startswith("installed ")}
    return [name for name in names if name in found]


def missing(names: Sequence[str]) -> str:
    """Return which of the packages are not installed, as a sentence; "" if all are."""
    try:
        found = installed(names)
    except NebulaError as error:
        return f"packages: {error}"
    lacking = ", ".join(name for name in names if name not in found)
    return f"packages: {lacking}" if lacking else ""
