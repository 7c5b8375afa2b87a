# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pings of a neighbour while a machine moves: what the tests of moves in different networks have in common."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterable

# Seconds, and from ping to ping.
MOST_SILENCE, PING_EVERY = 2, 0.2


class Pings:
    """Pings an address from the front-end, all the time."""

    def __init__(self, address: str) -> None:
        command = ["ping", "-D", "-i", str(PING_EVERY), address]
        self._begun = self._ended = time.time()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.text = ""

    def __enter__(self) -> Pings:
        return self

    def __exit__(self, *_problem: object) -> None:
        self._ended = time.time()
        self._process.send_signal(signal.SIGINT)
        self.text = self._process.communicate(timeout=30)[0]

    def lost_in_a_row(self) -> int:
        """Also at the end."""
        transmitted = re.search(r"(\d+) packets transmitted", self.text)
        assert transmitted, self.text
        answered = map(int, re.findall(r"bytes from .*seq=(\d+)", self.text))
        return lost_in_a_row((*answered, int(transmitted[1]) + 1))

    def longest_pause(self) -> float:
        """Seconds between two answers that follow one another, also where the later one is late, or never comes."""
        times = [float(each) for each in re.findall(r"^\[(\d+\.\d+)\] \d+ bytes from", self.text, re.MULTILINE)]
        assert len(times) > 5, self.text
        return max(after - before for before, after in zip((self._begun, *times), (*times, self._ended)))


def lost_in_a_row(answered: Iterable[int]) -> int:
    """How many pings that follow one another had no answer at all. A busy machine answers some of them late."""
    numbers = sorted({*answered})
    assert len(numbers) > 5, numbers
    return max(after - before - 1 for before, after in zip(numbers, numbers[1:]))
