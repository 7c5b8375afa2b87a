# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what an item of a list of templates says, wherever it says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidValue, NebulaError, NotFound
from ..host.files import read_limited
from ..model.object_names import check_name
from ..model.template import Template
from ..text.template_syntax import as_template

LONGEST_FILE = 1024 * 1024


def template_of(item: Mapping[str, Any]) -> tuple[str, Template]:
    """Return name and content. The name is the item's, else the template's own NAME; the content is `template` (text
    or dict) or that of `template_file`: a file of this host, or what the action plugin found on the control node, as a
    dict of its path with `content`, or with `lost`, why there is none. Raise InvalidValue, TemplateSyntaxError or
    NotFound."""
    name = item.get("name")
    what = f"template {name}" if name else "template"
    given, file = item.get("template"), item.get("template_file")
    if (given is None) == (file is None):
        found = "neither template nor template_file" if file is None else "both a template and a template_file"
        raise InvalidValue(what, f"it has {found}", "Give one of the two")
    template = as_template(given if file is None else _content(file, what), what)
    return check_name("template", name or template.get("NAME")), template


def _content(file: Any, what: str) -> str:
    if isinstance(file, Mapping):
        if "content" in file:
            return str(file["content"])
        if "lost" in file:
            raise NotFound(f"{what}: template_file {file.get('path')}", str(file["lost"]), "Give another path")
    if not isinstance(file, str):
        raise InvalidValue(f"{what}: template_file", f"it is a {type(file).__name__}", "Give the path of a file")
    path = file
    if not path:
        raise InvalidValue(f"{what}: template_file ''", "the path is empty", "Give that of a file, or leave it out")
    try:
        return read_limited(path, LONGEST_FILE).decode()
    except NebulaError as error:
        error.asked = f"{what}: template_file {error.asked.partition(' ')[2]}"
        raise
    except UnicodeDecodeError as error:
        raise InvalidValue(
            f"{what}: template_file {path}", f"it is not UTF-8 (byte {error.start})", "Name a file of OpenNebula's text"
        ) from error
