# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies the embedded catalog, and restores a copy: what engines/catalog_copies.py asks of an engine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ....model.catalog_backup import CatalogCopy, RestoreResult
from ....model.plan import Observed
from ..engine import EmbeddedEngine
from . import raise_numbers, read_copy, restore


class EmbeddedCopies:
    @staticmethod
    def take(engine: EmbeddedEngine, path: str) -> CatalogCopy:
        return read_copy.take(engine.store, path)

    @staticmethod
    def look_at(path: str) -> CatalogCopy:
        return read_copy.look(path)

    @staticmethod
    def restore(
        params: Mapping[str, Any], check_mode: bool, path: str, observed: Sequence[Observed], force: bool
    ) -> tuple[RestoreResult, bool, str]:
        root, now = params["root"], int(time.time())
        catalog = read_copy.look(path).catalog if path else restore.common(observed)
        restore.refuse_others(catalog, observed)
        with contextlib.closing(restore.Watch(root, not check_mode)) as watch:
            origin = read_copy.origin_of(path)
            current = restore.replaceable(root, read_copy.look(path) if path else None, origin, catalog, force)
            with restore.candidate(root if os.path.isdir(root) else "", path, catalog) as store:
                restored = raise_numbers.raise_above(store, observed, current, origin, params["unknown"] == "keep", now)
                changed = current is None or read_copy.differs(store, root)
                aside = (
                    restore.put(store, root, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)), watch)
                    if changed and not check_mode
                    else ""
                )
        return restored, changed, aside
