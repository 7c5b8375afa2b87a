# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several modules' work in one call, where nothing of it is to be done: what a second run asks.

Each module of the list is first asked what it would do, as in check mode. Where it would change nothing, it is carried
out: then its answer and what it notes by the way are those of a call of its own. Where it would change something, or
fails, this call ends; the roles then call the modules one by one, and they report and carry out what is to be done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .arguments import parse_json
from .dataclass import dataclass
from .deps import respawn_if_missing
from .errors import InvalidValue, NebulaError
from .host import packages
from .runner import answer_of, as_error, check_root, execute
from .sync import Item, Result

OPTIONS: dict[str, Any] = {
    "calls": {"type": "json", "required": True, "no_log": True},
    "roles": {"type": "list", "elements": "str", "default": []},
    "found": {"type": "list", "elements": "str", "default": []},
    "known": {"type": "dict", "default": {}},
    "packages": {"type": "list", "elements": "str", "default": []},
}


@dataclass(frozen=True)
class Call:
    """What a module takes and does, as a file of calls/ has it. at_once: it is not asked first, because it only reads,
    or because what it decides is what its caller wants. only_asked: it is not carried out, because where nothing is to
    be done it would do nothing at all, and answer the same, unless it says that it makes something anew."""

    arguments: Mapping[str, Any]
    run: Callable[[Mapping[str, Any], bool], Result]
    libraries: Callable[[Mapping[str, Any]], list[str]] = lambda _params: []
    at_once: bool = False
    only_asked: bool = False


# A module's name, and what imports its file of calls/: only those that are asked for are imported.
Calls = Mapping[str, Callable[[], Call]]


@dataclass(frozen=True)
class Asked:
    """A module that is to be called. name: under which its answer is returned. params: as its specification has."""

    name: str
    call: Call
    params: Mapping[str, Any]


def main(module: Any, known: Calls) -> None:
    """Carry out a module that looks, and end. module: the AnsibleModule, its arguments parsed."""
    params = module.params
    try:
        asked = asked_of(params["calls"] or "[]", known)
    except Exception as problem:
        module.exit_json(changed=False, answers={}, differs=str(as_error(problem)))
    respawn_if_missing(module, libraries(asked))
    execute(module, lambda _params, check_mode: look(asked, params["packages"], check_mode, module._diff))


def asked_of(text: str, known: Calls) -> list[Asked]:
    """Read option calls: a list of {name, module, options}. Raises InvalidValue for what a module does not take."""
    found = []
    for entry in parse_json(text, "calls"):
        call = known[entry["module"]]()
        validated = ArgumentSpecValidator(**call.arguments).validate(entry["options"])
        if validated.error_messages:
            raise InvalidValue(
                f"module {entry['module']}", "; ".join(validated.error_messages), "Correct the variables of its role"
            )
        found.append(Asked(entry["name"], call, validated.validated_parameters))
    return found


def libraries(asked: Sequence[Asked]) -> list[str]:
    """Return the names of the Python libraries that these calls need."""
    return list(dict.fromkeys(name for one in asked for name in one.call.libraries(one.params)))


def look(asked: Sequence[Asked], wanted: Sequence[str], check_mode: bool, diff: bool) -> Result:
    """Return the modules' answers, and what differs ("" if nothing does)."""
    answers: dict[str, Any] = {}
    warnings: list[str] = []
    items: list[Item] = []
    differs = _lacking(wanted)
    for one in () if differs else asked:
        answer, warned, is_carried_out = _ask(one, check_mode, diff)
        answers[one.name] = {**answer, "warnings": warned}
        if not one.call.at_once:
            warnings += warned
        if answer.get("failed") or answer["changed"]:
            differs = f"{one.name}: {answer.get('msg') or 'something is to be done'}"
            if is_carried_out and answer["changed"] and not one.call.at_once:
                # Others changed something of it between the question and the call.
                items.append(Item(one.name, changed=True))
            break
    return Result(items, payload={"answers": answers, "differs": differs}, warnings=warnings)


def _ask(one: Asked, check_mode: bool, diff: bool) -> tuple[dict[str, Any], list[str], bool]:
    """Return the module's answer, its warnings, and whether it was carried out."""
    if not one.call.at_once:
        answer, warned, renews = _carry_out(one, True, diff)
        is_all = one.call.only_asked and not renews
        if check_mode or is_all or answer.get("failed") or answer["changed"]:
            return answer, warned, False
    answer, warned, _renews = _carry_out(one, check_mode, diff)
    return answer, warned, not check_mode


def _carry_out(one: Asked, check_mode: bool, diff: bool) -> tuple[dict[str, Any], list[str], bool]:
    try:
        check_root(one.params)
        result = one.call.run(one.params, check_mode)
    except Exception as problem:
        error = as_error(problem)
        return {"failed": True, "changed": False, "msg": str(error), "error": error.as_dict()}, [], False
    return answer_of(result, diff), result.warnings, result.renews


def _lacking(names: Sequence[str]) -> str:
    """Return which of the distribution's packages are not installed, as far as dpkg knows."""
    try:
        found = packages.installed(names)
    except NebulaError as error:
        return f"packages: {error}"
    missing = [name for name in names if name not in found]
    return f"packages: {', '.join(missing)}" if missing else ""
