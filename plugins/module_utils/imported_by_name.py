# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports files of ours by their names. Ansible ships what import statements name, with each module that comes upon
them. What few modules need is named here, and imported where a module says that it uses it (engines/shipped/)."""

from __future__ import annotations

import importlib
from typing import Any


def file_named(name: str) -> Any:
    """Return a file below module_utils, as `context.files_on_frontend`."""
    return importlib.import_module(f"{__package__}.{name}")
