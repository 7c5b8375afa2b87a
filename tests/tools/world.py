#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command on a node of its own: namespaces with their own libvirtd, which end with everything in them.

    world.py [--no-daemons] [--] COMMAND [ARGUMENT…]        (as root)

    tests/tools/world.py .venv/bin/pytest tests/integration/test_kvm.py
    tests/tools/world.py bash

The command sees the machine's files, and besides:
- a network namespace with nothing but `lo`: traffic reaches nobody, bridges and nftables rules are the world's own;
- a PID namespace whose init reaps at once (libvirt waits for that whenever it ends a QEMU);
- /run, /var/lib/libvirt, /var/log/libvirt, /var/cache/libvirt, /etc/systemd/network empty, /etc/libvirt with the
  machine's *.conf files only, cgroups and a /dev/kvm of its own, with the owner and mode that udev gives it;
- libvirtd and virtlogd running in it (not with --no-daemons);
- NEBULA_WORLD: a directory on disk, 0711, for whatever is too big for /run; TMPDIR is in it. Removed at the end.

The exit status is the command's, 128 + N after signal N. However it ends, by itself, by Ctrl-C, a signal, its caller's
death, every process of the world dies with it: domains, daemons, mounts, links. What a world that was itself killed
left on disk, the next one removes."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from namespaces import (
    LIBVIRTS,
    OWN_VIEW,
    cgroups_of_its_own,
    configuration,
    cover,
    directory_of_its_own,
    empty_copy,
    enter,
    in_namespaces,
    run_to_its_end,
    see,
    see_devices_and_run,
    start_daemons,
    unshare,
)

HOSTNAME = "world"
# What udev is told about interfaces.
LINKS = "/etc/systemd/network"


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--no-daemons", action="store_true", help="start neither virtlogd nor libvirtd")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("no command is given")
    if os.geteuid() != 0:
        parser.error("a world needs root: it mounts, and makes namespaces")
    with directory_of_its_own() as directory, cgroups_of_its_own(directory) as cgroups:
        return in_namespaces(lambda: live(command, directory, cgroups, daemons=not options.no_daemons))


def live(command: list[str], directory: Path, cgroups: list[Path], daemons: bool) -> int:
    enter(cgroups)
    unshare(OWN_VIEW)
    see(HOSTNAME)
    for path in (*LIBVIRTS, LINKS):
        if Path(path).is_dir():
            cover(path, empty_copy(Path(path), directory / path.strip("/").replace("/", "-")))
    if Path("/etc/libvirt").is_dir():
        cover("/etc/libvirt", configuration(Path("/etc/libvirt"), directory / "etc-libvirt"))
    see_devices_and_run()
    if daemons:
        start_daemons(directory)
    return run_to_its_end(command, directory)


if __name__ == "__main__":
    sys.exit(main())
