# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes long to make is made once per machine, outside the checkout, under a name that says what from."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "nebula-provision"


def cached(name: str, inputs: Any, make: Callable[[Path], None]) -> Path:
    """A directory that `make` filled, for these inputs (JSON); older ones of the same name are removed."""
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
    place = directory() / f"{name}-{digest}"
    directory().mkdir(parents=True, exist_ok=True)
    with (directory() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            for old in directory().glob(f"{name}-{'[0-9a-f]' * 16}"):
                shutil.rmtree(old)
            scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=directory()))
            try:
                make(scratch)
                scratch.chmod(0o755)
                scratch.rename(place)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return place
