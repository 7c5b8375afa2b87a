# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declares what module nebula_packages takes and does on the host: it looks. Its action plugin has apt install."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import NebulaError, Unsupported
from ..host import packages
from ..model import defaults
from ..sync import Result

ARGUMENTS: dict[str, Any] = {
    "argument_spec": {
        "names": {"type": "list", "elements": "str", "required": True},
        "others": {"type": "list", "elements": "str", "default": []},
        "cache_seconds": {"type": "int", "default": defaults.PACKAGE_CACHE_SECONDS},
    }
}


def run(params: Mapping[str, Any], _check_mode: bool) -> Result:
    asked = list(dict.fromkeys([*params["names"], *params["others"]]))
    try:
        found = packages.installed(asked)
    except NebulaError as error:
        raise Unsupported(
            f"packages {', '.join(params['names'])}",
            f"they are only installed on Debian and its kin, and this host has no dpkg-query that answers ({error})",
            "Install what they bring, then set nebula_manage_packages: false",
        ) from error
    missing = [name for name in params["names"] if name not in found]
    return Result(payload={"installed": found, "missing": missing})
