# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A check of a Debian image of 2 GB, beside a guestfish that does nothing but start and open it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measure import MeasurementFailed, Row, run, take_turns
from setting import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "collections"))

from ansible_collections.nebula.provision.plugins.module_utils.errors import NebulaError
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import guestfish
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import check_image
from ansible_collections.nebula.provision.tests.integration.guests import fitness

SIZE = "2G"
TIMES = 1.5


def rows(rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="nebula-bench-") as directory:
        image = Path(directory, "debian.qcow2")
        subprocess.run(["cp", "--reflink=auto", str(fitness.image() / "plain.qcow2"), str(image)], check=True)
        subprocess.run(["qemu-img", "resize", "-q", "-f", "qcow2", str(image), SIZE], check=True)
        # Where KVM does not work, neither is to pay for finding that out.
        try:
            with guestfish.session(str(image), "qcow2", directory, "the image", keep=False):
                environment = {"LIBGUESTFS_BACKEND": "direct", **guestfish.emulation}
        except NebulaError as error:
            raise MeasurementFailed(str(error)) from error
        seconds = take_turns(
            rounds, {"check": lambda: checked(image), "guestfish": lambda: bare(image, environment, directory)}
        )
    yield Row.at_most("check of a 2 GB image, beside guestfish's start", *seconds.values(), "s", TIMES)


def checked(image: Path) -> float:
    began = time.perf_counter()
    item, view = check_image.check(None, {"path": str(image)}, check_image.OFFLINE, {}, False)
    seconds = time.perf_counter() - began
    if item.error is not None or view["counts"]["pass"] < 10:
        raise MeasurementFailed(f"the image was not checked: {item.error or view['counts']}")
    return seconds


def bare(image: Path, environment: dict[str, str], directory: str) -> float:
    argv = ["guestfish", "--ro", "--format=qcow2", "-a", str(image), "run"]
    return run(argv, {**os.environ, **environment, "LIBGUESTFS_TMPDIR": directory}).seconds
