# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the catalog and the datastore to a list of images, whose files the control node may send first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...arguments import parse_json
from ...engines.registry import engine_of, open_engine
from ...host.progress import Reporter
from ...host.restricted_directories import Rules
from ...object_lists import ObjectList
from ...runner import closing
from ...storage import datastore_layout, uploads
from ...sync import Result
from ..frontend_directories import remove_directories
from .image_list_decision import Settings, apply, missing_content


def reconcile(listed: ObjectList, params: Mapping[str, Any], check_mode: bool) -> Result:
    """Bring catalog and datastore to the list, and return what was done; or do a step of an upload."""
    directory = datastore_layout.image_directory(params["root"])
    step = parse_json(params["_upload"] or "{}", "_upload")
    if "chunk" in step:
        return Result(payload={"received": uploads.append(directory, step["identity"], step["offset"], step["chunk"])})
    if isinstance(params["files"], str):
        params = {**params, "files": parse_json(params["files"], "files")}
    items, refused = listed.items(params)
    if not check_mode:
        datastore_layout.prepare_root(params["root"])
    with closing(open_engine(params, check_mode, create=True)) as engine:
        # The action plugin first asks which files are missing, and then sends only these.
        missing = missing_content(engine, items) if "ask" in step else []
        if missing:
            names = [spec.name for spec in missing]
            known = {name: uploads.bytes_received(directory, identity) for name, identity in step["ask"].items()}
            return Result(payload={"missing": names, "received": known})
        settings = Settings(
            check_mode=check_mode,
            uploads={name: uploads.path_of(directory, one) for name, one in step.get("use", {}).items()},
            lost=step.get("lost", {}),
            wait_timeout=params["wait_timeout"],
            stall=params["timeout"],
            min_speed=params["min_speed"],
            max_size=params["max_size"],
            validate_certs=params["validate_certs"],
            say=Reporter(params["_progress_file"]).say,
            rules=Rules(params["restricted_dirs"], params["safe_dirs"], params["root"]),
            declared=params["declared"],
        )
        done, warnings = apply(engine, items, settings)
        if not check_mode and not engine_of(params).begun(params):
            # The catalog was removed meanwhile, and this run may have made its directories again.
            remove_directories(params)
        result = listed.result(params, check_mode, engine, refused, done, warnings)
    gone = [item.before for item in done if item.before is not None and item.after is None and item.error is None]
    result.payload["removed"] = [{"name": each["name"], "state": "absent"} for each in gone]
    return result
