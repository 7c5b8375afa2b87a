# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of nodes, mutated: wrong types, keys that nobody knows, ids and names of others, numbers and texts beyond all
measure, nesting. The same seed gives the same sample."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

OTHERS = ("node1", "node3", "../node1", "")
NUMBERS = (-1, 0, 1, 2, 7, 10**9, 1 << 31, 1 << 53, 1 << 63, 10**30, -(10**30), 0.5, 1e300)
TEXTS = (
    "",
    "NONSENSE",
    "DONE",
    "RUNNING",
    "\x1b[2J",
    "\u202e",
    "\0",
    "{{ 1 }}",
    "../../etc/passwd",
    "x" * 70_000,
    "\ud800",
)
VALUES: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"a": 1}, [{"vm_id": 0}], *NUMBERS, *TEXTS, *OTHERS)
KEYS = ("host", "observed", "vms", "vm_id", "mood", "reached", "plan_number", "catalog", "\x1b", "state")
DEPTH = 3000


def mutations(message: Any, count: int, seed: int) -> Iterator[Any]:
    """So many messages that are like this one but for one to three places."""
    chance = random.Random(seed)
    for _each in range(count):
        mutated = copy.deepcopy(message)
        for _change in range(chance.randint(1, 3)):
            mutated = _mutated(mutated, chance)
        yield mutated


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container within the value, with each of its keys or indexes."""
    left = [value]
    while left and len(left) < 5000:
        each = left.pop()
        keys = each.keys() if isinstance(each, dict) else range(len(each)) if isinstance(each, list) else ()
        for key in keys:
            yield each, key
            left.append(each[key])


def _mutated(message: Any, chance: random.Random) -> Any:
    places = [*_places(message)]
    if not places or chance.random() < 0.02:
        return _value(chance)
    container, key = chance.choice(places)
    way = chance.randrange(5)
    if way == 0:
        del container[key]
    elif way == 1 and isinstance(container, dict):
        container[chance.choice(KEYS)] = _value(chance)
    elif way == 2 and isinstance(container, list):
        container.extend([container[key]] * chance.choice((1, 3, 1000)))
    else:
        container[key] = _value(chance)
    return message


def _value(chance: random.Random) -> Any:
    if chance.random() < 0.03:
        nested: Any = []
        for _each in range(DEPTH):
            nested = [nested]
        return nested
    return copy.deepcopy(chance.choice(VALUES))
