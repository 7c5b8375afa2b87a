#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of real guests, made once and copied to a directory, where roles may change them.
usage: guest_images.py [DIRECTORY]        (without one those of benchmarks are made, if they are not there)"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from xen_host import XenHost

from ansible_collections.nebula.provision.tests.integration.guests import cloud_init, debian, demo, fitness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, nargs="?")
    place = parser.parse_args().directory
    guests = debian.images()
    if place is None:
        fitness.image()
        XenHost.image()
        demo.parts()
        demo.image()
        return
    place.mkdir(parents=True, exist_ok=True)
    files = {f"{name}.qcow2": path for name, path in guests.disks.items()}
    files.update({"vmlinuz": guests.kernel, "initrd": guests.initrd, "cloud.qcow2": cloud_init.image().disk})
    for name, path in files.items():
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", str(path), str(place / name)], check=True)


if __name__ == "__main__":
    main()
