#!/usr/bin/env python3
# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ISOs of the small installer, made once and copied to a directory. Prints changed or unchanged last.
usage: installer_isos.py DIRECTORY"""

from __future__ import annotations

import argparse
import filecmp
import subprocess
from pathlib import Path

from ansible_collections.nebula.provision.tests.integration.guests import installer_iso


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    place = parser.parse_args().directory
    place.mkdir(parents=True, exist_ok=True)
    changed = False
    for kind in installer_iso.KINDS:
        made, copy = installer_iso.build(kind), place / f"{kind}.iso"
        if not copy.exists() or not filecmp.cmp(made, copy, shallow=False):
            subprocess.run(["cp", "--reflink=auto", str(made), str(copy)], check=True)
            changed = True
    print("changed" if changed else "unchanged")


if __name__ == "__main__":
    main()
