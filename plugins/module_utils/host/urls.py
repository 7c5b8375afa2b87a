# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads URLs of files as they are given, before anything is asked of a server."""

from __future__ import annotations

import re

from ..model import defaults

SCHEMES = ("http", "https")
# The lowest speed of a download that is accepted, in bytes a second.
MIN_SPEED = defaults.DOWNLOAD_MIN_KIB_PER_SECOND * 1024


def is_url(text: str) -> bool:
    return text.strip().partition("://")[0].lower() in SCHEMES and "://" in text


def without_secrets(url: str) -> str:
    """Return the URL as it may be shown: without user, password, query (it may be a signature) and fragment.

    Of a URL that can't be read for certain, return the scheme only: in http://me:pass/word@host nothing tells what
    the host is."""
    scheme, _mark, rest = url.strip().partition("://")
    place, query, _rest = rest.partition("#")[0].partition("?")
    authority, slash, path = place.partition("/")
    host = authority.rpartition("@")[2]
    misplaced = "@" not in authority and ":" in authority and "@" in rest
    if misplaced or not rest.isprintable() or not re.fullmatch(r"([^\s:@\[\]]*|\[[0-9A-Fa-f:.%]*\])(:\d*)?", host):
        return f"{scheme}://..."
    return f"{scheme}://{host}{slash}{path.rstrip()}{'?...' if query else ''}"
