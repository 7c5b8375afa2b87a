#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a live migration, each in the dom0 where it happens, as root:

    PYTHONPATH=COLLECTIONS xen_migration.py DEMO DIRECTORY KIND STEP [LOGIN]
start: make the machine and wait for its guest. expect: define it. migrate: to where LOGIN leads. live: it runs here,
and its guest, which was not booted anew, shuts down when it is asked to. stays: so it does where it could not go away.
remove: end it.
DIRECTORY is one that both hosts see."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from xen_operations import BRIDGE, KINDS, SECONDS, Guest

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError


def bridge() -> None:
    if not Path("/sys/class/net", BRIDGE).exists():
        subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)


class Traveller(Guest):
    def start(self) -> None:
        bridge()
        self.deploy()

    def expect(self) -> None:
        bridge()
        self.define()

    def migrate(self, login: str) -> None:
        self.driver.migrate(self.mark, login)
        assert self.listed() is None
        assert self.driver.survey(self.mark.catalog).vms == (), "it is defined here still"

    def live(self) -> None:
        self.runs()
        self.shutdown()
        self.was_booted_once()

    def stays(self) -> None:
        self.runs()
        self.driver.shutdown(self.mark, SECONDS)
        assert self.listed() is None
        # Nobody waits for its end any more who would write down how that was.
        (seen,) = self.driver.survey(self.mark.catalog).vms
        assert (seen.state, seen.ended) == ("POWEROFF", "unknown"), seen
        self.was_booted_once()

    def was_booted_once(self) -> None:
        assert self.boots() == 1, f"booted {self.boots()} times; its console:\n{self.said()[-3000:]}"

    def runs(self) -> None:
        (seen,) = self.driver.survey(self.mark.catalog).vms
        assert seen.state == "RUNNING", seen

    def remove(self) -> None:
        self.driver.remove(self.mark)


def main(demo: str, directory: str, kind: str, step: str, *arguments: str) -> None:
    place = Path(directory)
    place.mkdir(exist_ok=True)
    guest = Traveller(kind, Path(demo), place, KINDS.index(kind) + 1)
    began, error = time.monotonic(), ""
    try:
        getattr(guest, step)(*arguments)
    except (NebulaError, AssertionError, TimeoutError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"kind": kind, "operation": step, "seconds": seconds, "error": error}))


if __name__ == "__main__":
    main(*sys.argv[1:])
