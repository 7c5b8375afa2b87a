# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives new names to machines that the catalog has under another name than the list. An item says its former name."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ...engines.base import Engine
from ...engines.ports import VmRecord
from ...errors import Ambiguous, Conflict, InvalidValue, NebulaError, WrongState
from ...model.object_names import check_name
from ...model.template import Template

KEY = "renamed_from"


def former_of(item: Mapping[str, Any], name: str, where: str, index: str) -> str:
    """Return the name that the item's machine had, "" if the item says none. index: its sign in a name."""
    former = item.get(KEY)
    if former is None:
        return ""
    check_name("VM", former)
    if index in name or index in former:
        raise InvalidValue(
            f"{where}: {KEY} {former!r}",
            f"machines that are counted ({index}) are called by their index, and the next run would make another of it",
            f"Give the machine an entry of its own, without {index} in either name, and lower count if it was the last",
        )
    if former == name:
        raise InvalidValue(f"{where}: {KEY} {former!r}", "that is the name it is to have", f"Leave {KEY} out")
    return str(former)


def former_names(items: Sequence[Any]) -> set[str]:
    """Return the former names that items say, whatever else is wrong with an item. An item that ends its machine is
    left out: it gives no name."""
    staying = [item for item in items if isinstance(item, Mapping) and item.get("state") != "absent"]
    return {item[KEY] for item in staying if isinstance(item.get(KEY), str)}


def refuse_clash(where: str, name: str, former: str, wanted: Mapping[str, str], formers: Mapping[str, str]) -> None:
    """Raise Ambiguous for an item of a list that wants a name to be gone and to be there, or gone in two ways. The
    other item is refused as well: it would make or end a machine in place of this item's machine.
    wanted: names of machines, with the name of the item that has each
    formers: former names, with the items that say them, as text"""
    claimed = sorted(old for old, item in wanted.items() if item == name and old in formers)
    if claimed:
        raise Ambiguous(where, f"{formers[claimed[0]]} says {KEY}: {claimed[0]}", "Leave one of the two out")
    if former in wanted:
        raise Ambiguous(
            f"{where}: {KEY} {former!r}",
            f"the list has a machine {former} too",
            f"Run once without that one. Then leave {KEY} out before another machine gets the old name",
        )
    if former and formers[former] != where:
        raise Ambiguous(f"{where}: {KEY} {former!r}", f"{formers[former]} say the same", "One machine gets one name")


def rename(engine: Engine, name: str, former: str, hosts: Sequence[str] | None) -> VmRecord | None:
    """Give the machine its new name. Return it as it was; None if it has the name, or there is no such machine yet."""
    found = {record.name: record for record in engine.vms.pool(names=[name, former])}
    old, new = found.get(former), found.get(name)
    if old is None or old.id is None:
        return None
    asked = f"VM {name}: {KEY} {former!r}"
    if new is not None:
        raise Conflict(
            asked,
            f"both are there: {former} (id {old.id}) and {name} (id {new.id})",
            f"Leave {KEY} out, and give {former} an entry of its own; or end one of the two (state: absent)",
        )
    if hosts is not None and old.host not in hosts:
        raise WrongState(asked, f"it is on host {old.host}, which is not part of this run", "Run for that host too")
    engine.vms.rename(old.id, name)
    return old


def by_former_images(engine: Engine, record: VmRecord, template: Template) -> Template:
    """Return the template to compare the machine with: images that were renamed since have in it the names by which
    the machine was given them."""
    if record.request is None or record.request == template:
        return template
    given = record.request.vectors("DISK")
    if len(given) != len(record.disks):
        return template
    had = {disk["image_id"]: old["IMAGE"] for old, disk in zip(given, record.disks) if old.get("IMAGE")}
    vectors = [dict(vector) for vector in template.vectors("DISK")]
    for vector in vectors:
        name = vector.get("IMAGE")
        if name and name not in had.values():
            with contextlib.suppress(NebulaError):
                vector["IMAGE"] = had.get(engine.images.info(name).id, name)
    if vectors == [dict(vector) for vector in template.vectors("DISK")]:
        return template
    return template.with_vectors("DISK", vectors)


def warning_of_kept_machine(record: VmRecord) -> str:
    return (
        f"VM {record.name} (id {record.id}) is not ended: an item says {KEY}: {record.name}, and the machine did not "
        "get the new name"
    )


def notes_of(record: VmRecord, before: VmRecord) -> list[str]:
    """Return a sentence if the machine's guest does not go by its new name yet."""
    if not record.former or record.former == before.former:
        return []
    text = (
        f"VM {record.name} (id {record.id}): its guest goes by the name {record.former} until it is started anew "
        f"(state: rebooted, or off and on), and then by {record.hostname}"
    )
    return [text]
