# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches a file that FILES of a context names by its URL."""

from __future__ import annotations

import contextlib

from . import files_on_frontend
from .files_attribute import too_large


def download_context_file(url: str, limits: files_on_frontend.Limits) -> bytes:
    """Return the content of the URL. Raise InvalidValue if it is larger than all files of a context may be."""
    from ..host.download import Download

    wanted = Download(
        url,
        validate_certs=limits.validate_certs,
        stall=limits.stall,
        min_speed=limits.min_speed,
        to_http="Give the file's own https URL, or put it on the front-end and give its path",
    )
    largest = files_on_frontend.LARGEST
    blocks, size = [], 0
    with contextlib.closing(wanted):
        wanted.open()
        if wanted.size is not None and wanted.size > largest:
            raise too_large(url, largest)
        with contextlib.closing(wanted.blocks()) as coming:
            for block in coming:
                blocks.append(block)
                size += len(block)
                if size > largest:
                    raise too_large(url, largest)
    return b"".join(blocks)
