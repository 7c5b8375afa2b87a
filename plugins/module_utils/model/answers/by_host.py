# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the answers of several nodes in one option, each under the name by which its node was asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Callable, TypeVar

from ...errors import InvalidValue
from ..dataclass_json import from_plain
from . import answer_bounds

T = TypeVar("T")


def as_option(host: str, key: str, answer: Any) -> dict[str, Any]:
    """Return a node's answer as a module of the front-end takes and reads it: of any form that Ansible can hand on.
    key: the name under which the node returned it.
    answer: the node's registered result, which has no such key where it did not answer."""
    if not isinstance(answer, Mapping) or key not in answer:
        return {"host": host, key: []}
    try:
        answer_bounds.check_size(answer[key], f"host {host}: what it answered as {key}")
    except InvalidValue as error:
        return {"host": host, "refused": str(error)}
    return {"host": host, key: answer[key]}


def read(
    answers: Iterable[Mapping[str, Any]], key: str, one: Callable[[str, list[Any], str], tuple[T, ...]]
) -> tuple[dict[str, tuple[T, ...]], dict[str, str]]:
    """Return by host what its node told, and by host why that was refused, which concerns no other host.
    answers: as as_option() makes them. An answer without `host` is an entry of a list itself, of a node that nobody
    names: "".
    one: reads the list of the host that it is called with, and names it in errors by its last argument."""
    found: dict[str, tuple[T, ...]] = {}
    refused: dict[str, str] = {}
    bare = []
    for answer in answers:
        if "host" not in answer:
            bare.append(answer)
            continue
        host = answer["host"]
        if not isinstance(host, str) or not host:
            raise InvalidValue(
                f"option {key}", f"its host is {host!r}", "Give the registered results by the hosts' names"
            )
        what = f"host {host}: what it answered as {key}"
        try:
            if host in found or host in refused:
                found.pop(host, None)
                raise answer_bounds.refusal(what, "two answers are said to be its own")
            if "refused" in answer:
                refused[host] = str(answer["refused"])
                continue
            found[host] = one(host, _as_list(answer.get(key), what), what)
        except InvalidValue as error:
            refused[host] = str(error)
    if bare:
        found[""] = one("", _as_list(bare, f"option {key}"), f"option {key}")
    return found, refused


def entries(kind: type[T], given: list[Any], what: str, most: int) -> tuple[T, ...]:
    """Return the entries as dataclasses of this kind; raise InvalidValue if one is none, or if there are too many."""
    answer_bounds.check_count(given, most, what, "it has {} entries")
    try:
        return tuple([from_plain(kind, each) for each in given])
    except InvalidValue as error:
        raise answer_bounds.refusal(what, f"{error.asked}: {error.found}") from None


def _as_list(given: Any, what: str) -> list[Any]:
    answer_bounds.check_size(given, what)
    if not isinstance(given, (list, tuple)):
        raise answer_bounds.refusal(what, f"it is a {type(given).__name__}, and not a list")
    return [*given]
