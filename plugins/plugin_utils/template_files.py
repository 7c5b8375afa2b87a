# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads relative paths of `template_file` on the control node. An absolute path is one of the front-end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.nebula.provision.plugins.plugin_utils import control_node_paths

# As the front-end reads at most of a template's file.
LARGEST = 1024 * 1024


def put_template_files(items: Any, variables: Mapping[str, Any], local: bool) -> bool:
    """Put the content of each relative `template_file` into its item, or why there is none, as
    engines/template_items.py takes it; with a local connection its absolute path. Return whether there was any."""
    found = False
    for item in items if isinstance(items, list) else ():
        name = item.get("template_file") if isinstance(item, dict) else None
        # Of two, and of an empty one, it is the module's to say what is wrong.
        if isinstance(name, str) and name and not name.startswith(("/", "~")) and item.get("template") is None:
            item["template_file"] = _found(name, variables, local)
            found = True
    return found


def _found(name: str, variables: Mapping[str, Any], local: bool) -> Any:
    try:
        path = control_node_paths.find(name, variables)
        if local:
            return path
        with Path(path).open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            return {"path": name, "lost": f"it has more than {LARGEST // 1024} KiB"}
        return {"path": name, "content": content.decode()}
    except control_node_paths.FileNotThere as error:
        return {"path": name, "lost": f"it {error}"}
    except UnicodeDecodeError as error:
        return {"path": name, "lost": f"it is not UTF-8 (byte {error.start})"}
    except OSError as error:
        return {"path": name, "lost": f"it can't be read: {error.strerror}"}
