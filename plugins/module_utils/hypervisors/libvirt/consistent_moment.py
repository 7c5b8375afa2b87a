# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Acts on the disks of a running QEMU machine at one moment, in which its guest is as consistent as is wanted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from ...errors import HypervisorError, NebulaError, Unsupported
from ...model.plan import AGENT, CRASH
from . import quiesce

# How often it is begun anew where somebody else thaws the guest, and after how many seconds.
TRIES, PAUSE = 4, 2.0


class ConsistentMoment:
    """Finds such moments of one domain.
    domain: libvirt's object.
    asked: what errors call the work."""

    def __init__(self, libvirt: Any, uri: str, domain: Any, asked: str) -> None:
        self._libvirt = libvirt
        self._uri = uri
        self._domain = domain
        self._asked = asked

    def act(self, consistency: str, act: Callable[[], None], undo: Callable[[], None]) -> bool:
        """Act while the guest is as consistent as is wanted, and try again where somebody else thaws it. Return whether
        its file systems were frozen. undo: undoes what was done at a moment that can't be trusted."""
        for left in range(TRIES, 0, -1):
            done = False
            try:
                with self._moment(consistency) as frozen:
                    act()
                    done = True
                return frozen
            except NebulaError as error:
                if done:
                    undo()
                if not isinstance(error, quiesce.ThawedTooEarly):
                    raise
                if left == 1:
                    raise HypervisorError(error.asked, error.found, error.remedy) from error
                time.sleep(PAUSE)
        return False

    def check_agent(self, consistency: str) -> None:
        """Raise Unsupported where an agent is needed, and none answers."""
        if consistency == AGENT:
            quiesce.ping(self._libvirt, self._domain, self._asked)

    @contextlib.contextmanager
    def _moment(self, consistency: str) -> Iterator[bool]:
        with contextlib.ExitStack() as held:
            frozen = False
            if consistency != CRASH:
                try:
                    held.enter_context(quiesce.freeze(self._libvirt, self._uri, self._domain, self._asked))
                    frozen = True
                except Unsupported:
                    if consistency == AGENT:
                        raise
            yield frozen
