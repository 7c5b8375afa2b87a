# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the engines whose catalogs are copied and restored here. It is no part of registry.py: one module needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..errors import Unsupported
from ..model.catalog_backup import CatalogCopy, RestoreResult
from ..model.plan import Observed
from .embedded.copies.embedded_copies import EmbeddedCopies


class CatalogCopies(Protocol):
    """Says what an engine does whose catalog is kept by nobody else."""

    @staticmethod
    def take(engine: Any, path: str) -> CatalogCopy:
        """Write a sound copy of the catalog to the new file `path`, whoever else works on the catalog meanwhile."""

    @staticmethod
    def look_at(path: str) -> CatalogCopy:
        """Return what the copy at `path` is. Raise CatalogError for a file that this engine can't restore."""

    @staticmethod
    def restore(
        params: Mapping[str, Any], check_mode: bool, path: str, observed: Sequence[Observed], force: bool
    ) -> tuple[RestoreResult, bool, str]:
        """Make the copy at `path` the catalog; "" stands for an empty one under the UUID that the nodes carry. It is
        raised above all that the nodes have seen, so that they follow it. Return what became of it, whether anything
        is different now, and where what was in its place was put ("" if nothing was). force: also over a newer or
        another catalog, and without the answer of nodes."""


COPIES: dict[str, CatalogCopies] = {"embedded": EmbeddedCopies()}


def copies_of(params: Mapping[str, Any]) -> CatalogCopies:
    """Return how the catalog of the module's engine is copied. Raise Unsupported if another program keeps it."""
    copies = COPIES.get(params.get("engine") or "embedded")
    if copies is None:
        raise Unsupported("a backup of the catalog", "another program keeps it", "Use the backup of that program")
    return copies
