# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads beancounters of OpenVZ: what a container may take of its host's kernel, as "barrier:limit"."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import InvalidValue

# By the unit that a bare number counts: pages of memory, bytes, or things.
PAGES = (
    "LOCKEDPAGES", "PRIVVMPAGES", "SHMPAGES", "PHYSPAGES", "SWAPPAGES", "VMGUARPAGES", "OOMGUARPAGES",
)  # fmt: skip
BYTES = ("KMEMSIZE", "TCPSNDBUF", "TCPRCVBUF", "OTHERSOCKBUF", "DGRAMRCVBUF", "DCACHESIZE")
COUNTS = (
    "NUMPROC", "AVNUMPROC", "NUMTCPSOCK", "NUMOTHERSOCK", "NUMFLOCK", "NUMPTY", "NUMSIGINFO", "NUMFILE", "NUMIPTENT",
)  # fmt: skip
# All of these are wanted, or none but the two of VSwap.
REQUIRED = tuple(name for name in (*PAGES, *BYTES, *COUNTS) if name not in ("SWAPPAGES", "AVNUMPROC"))
NAMES = (*PAGES, *BYTES, *COUNTS)
PAGE = 4096
MIB = 1024 * 1024
UNLIMITED = "unlimited"
# What the kernel calls unlimited, as files of conf have it; more than that no kernel holds.
_MOST = (1 << 63) - 1
# These limit the memory of a container: the first is VSwap's, the second that of older kernels.
LIMITING = ("PHYSPAGES", "PRIVVMPAGES")
_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": PAGE}
_AMOUNT = re.compile(r"(\d{1,19})([BKMGTP]?)", re.ASCII | re.IGNORECASE)


def barrier_and_limit(name: str, text: str, where: str) -> tuple[int | None, int | None]:
    """Return barrier and limit, None for an unlimited one: of pages in bytes, whichever unit the text has (a bare
    number counts pages, one with a letter bytes). Raise InvalidValue for what vzctl would skip with a warning."""
    parts = text.strip().split(":")
    if len(parts) > 2:
        raise _unreadable(name, text, where)
    read = [_amount(name, part, text, where) for part in parts]
    return read[0], read[-1]


def check_beancounter(name: str, text: str, where: str) -> None:
    """Raise InvalidValue for what vzctl would skip, and, as vzcfgvalidate has it, for a barrier above its limit."""
    barrier, limit = barrier_and_limit(name, text, where)
    if limit is not None and (barrier is None or barrier > limit):
        raise InvalidValue(
            f"{where}: {name} = {text!r}",
            "its barrier is above its limit",
            f'The lower one comes first: "{":".join(text.strip().split(":")[::-1])}"',
        )


def _amount(name: str, part: str, text: str, where: str) -> int | None:
    if part.lower() in (UNLIMITED, "infinite"):
        return None
    found = _AMOUNT.fullmatch(part)
    if found is None or (found[2] and name in COUNTS):
        raise _unreadable(name, text, where)
    if int(found[1]) >= _MOST:
        if int(found[1]) > _MOST or found[2]:
            raise InvalidValue(
                f"{where}: {name} = {text!r}", f"no kernel counts to {part}", f"Write {UNLIMITED}, or what it may have"
            )
        return None
    return int(found[1]) * (PAGE if name in PAGES and not found[2] else _UNITS[found[2].upper()])


def _unreadable(name: str, text: str, where: str) -> InvalidValue:
    examples = '"65536:69632", "0:512M" or "0:unlimited"' if name not in COUNTS else '"240:240" or "unlimited"'
    remedy = f'Write "barrier:limit" or one number, as in {examples}'
    return InvalidValue(f"{where}: {name} = {text!r}", "it is no limit that vzctl reads", remedy)


def check(vector: Mapping[str, str], where: str) -> None:
    """Raise InvalidValue for the first name that is no beancounter, or the first amount that nothing reads."""
    for name, text in vector.items():
        if name not in NAMES:
            raise InvalidValue(f"{where}/{name} = {text}", "there is no such beancounter", f"Known: {', '.join(NAMES)}")
        check_beancounter(name, text, where)


def memory_mib(vector: Mapping[str, str], where: str) -> int:
    """Return the MiB that a container with these may take of its host; raise InvalidValue where none says it."""
    limits = [barrier_and_limit(name, vector[name], where)[1] for name in LIMITING if vector.get(name)]
    finite = [limit for limit in limits if limit]
    if not finite:
        raise InvalidValue(
            where,
            "nothing in it says how much memory there is: "
            + ("all of its limits are unlimited" if limits else "it has neither PHYSPAGES nor PRIVVMPAGES"),
            'Give one of them a limit: PRIVVMPAGES = "65536:69632" is 272 MiB, in pages of 4 KiB',
        )
    return max(-(-min(finite) // MIB), 1)
