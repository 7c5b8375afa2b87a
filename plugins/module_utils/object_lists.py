# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs modules whose objects are a list: each declares its row (ObjectList) in its file of calls/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from .arguments import ENGINE, items_of
from .dataclass import dataclass
from .engines.base import Engine
from .engines.registry import open_engine
from .model.object_names import doubt_of_name
from .model.specification import Key, argument_spec
from .runner import closing
from .sync import Item, Result

# Objects of one kind whose names are told each by itself.
NAMED = 3
# Brings the catalog to what the items want: one Item for each, and warnings.
ApplyAll = Callable[[Engine, Sequence[Mapping[str, Any]]], tuple[list[Item], list[str]]]


def one_by_one(apply: Callable[[Engine, Mapping[str, Any]], Item]) -> ApplyAll:
    """Return what applies the items in their order, each by itself."""
    return lambda engine, items: ([apply(engine, item) for item in items], [])


def show_as_foreseen(items: Sequence[Item], unknown: Mapping[str, Any]) -> None:
    """Have the items show what check mode knows. unknown: see ObjectList."""
    for item in items:
        if item.after is not None and item.before is None:
            item.after = {**item.after, **unknown}
        elif item.after is not None and item.before is not None and item.before["name"] != item.after["name"]:
            # Later tasks of the run take it as renamed.
            item.after = {**item.after, "renamed_from": item.before["name"]}


def doubts_of_names(kind: str, items: Sequence[Item]) -> list[str]:
    """Return warnings about objects of that kind whose names are new, and which a real OpenNebula would not take."""
    new = [item.name for item in items if _has_new_name(item)]
    texts = [text for name in dict.fromkeys(new) if (text := doubt_of_name(kind, name))]
    rest = len(texts) - NAMED
    return texts if rest <= 1 else [*texts[:NAMED], f"{rest} more {kind}s have names that could not go there either"]


def _has_new_name(item: Item) -> bool:
    if item.error is not None or item.after is None:
        return False
    return item.before is None or item.before.get("name", "") != item.after.get("name", "")


@dataclass(frozen=True)
class ObjectList:
    """Describes objects that a module takes as a list, or one of them by options of its own.
    kind: what errors and warnings call one of them, as "security group".
    plural: the option that takes the list, and the name of the list in results.
    keys: what an item may state.
    unknown: what results of check mode show of an object that would be created, in place of what is rolled back.
    is_packed: the list is taken as JSON, since items may hold secrets.
    names_catalog: results name the catalog."""

    kind: str
    plural: str
    keys: Mapping[str, Key]
    unknown: Mapping[str, Any]
    is_packed: bool = False
    names_catalog: bool = True

    def arguments(self, **more: Any) -> dict[str, Any]:
        """Return the arguments of AnsibleModule. more: options beside those of an item and the list."""
        listed = {"type": "json", "no_log": True} if self.is_packed else {"type": "list", "elements": "raw"}
        return {
            "argument_spec": {**argument_spec(self.keys), self.plural: listed, **more, **ENGINE},
            "required_one_of": [("name", self.plural)],
            "mutually_exclusive": [("name", self.plural)],
        }

    def items(
        self, params: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> tuple[list[dict[str, Any]], list[Item]]:
        """Return the items of the list, and those that are refused, each with its error."""
        return items_of(params, self.plural, self.keys, self.kind, defaults, once=True)

    def run(self, params: Mapping[str, Any], check_mode: bool, apply_all: ApplyAll) -> Result:
        """Return the result of the list, which is applied within one transaction of the catalog."""
        items, refused = self.items(params)
        with closing(open_engine(params, check_mode, create=True)) as engine:
            with engine.session():
                done, warnings = apply_all(engine, items)
            return self.result(params, check_mode, engine, refused, done, warnings)

    def result(
        self,
        params: Mapping[str, Any],
        check_mode: bool,
        engine: Engine,
        refused: Sequence[Item],
        done: Sequence[Item],
        warnings: Sequence[str],
    ) -> Result:
        """Return the result that shows what was done with the items, and the objects that are there now."""
        if check_mode:
            show_as_foreseen(done, self.unknown)
        views = [item.after if item.view is None else item.view for item in done if item.after is not None]
        payload: dict[str, Any] = {self.plural: views}
        if self.names_catalog:
            payload["catalog"] = engine.catalog()
        if params[self.plural] is None and views:
            payload[self.kind.replace(" ", "_")] = views[0]
        return Result([*refused, *done], payload, [*warnings, *doubts_of_names(self.kind, done)])
