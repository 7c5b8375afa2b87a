# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses an item that brings about what OVN could not be told of, before the catalog keeps it: OVN is told of
everything at once, and one fault would hold up all of it."""

from __future__ import annotations

from typing import Callable, TypeVar

from ..engines.base import Engine
from ..errors import NebulaError, Unsupported
from ..network.northbound.desired_checks import refuse

T = TypeVar("T")
# What check mode does not know of a router or security group that would be created.
UNKNOWN = {"id": None, "uuid": None}


def apply_checked_for_ovn(engine: Engine, work: Callable[[], T], concerned: Callable[[T], bool]) -> T:
    """Do the work of one item, and keep what it made. Raise what the work raises, and what is wrong with it for OVN,
    unless that was wrong before. concerned: returns whether OVN is told of it."""
    found: NebulaError | None = None
    try:
        with engine.attempt():
            done = work()
            found = problem(engine) if concerned(done) else None
            if found is not None:
                raise found
            return done
    except NebulaError:
        if found is None or str(problem(engine)) != str(found):
            raise
    with engine.attempt():
        return work()


def problem(engine: Engine) -> NebulaError | None:
    """Return the first thing in the catalog that OVN could not be told of, as an error; None if there is none."""
    try:
        refuse(engine.networks.logical(unused_groups=True))
    except Unsupported:
        # The engine's own drivers make such networks.
        return None
    except NebulaError as error:
        return error
    return None
