# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes of the questions of a job template the survey that AWX shows, and the variables that its answers become.

A question is a dict. Its variable says what it answers: nebula_backup_keep, or nebula_images[].path for a key of the
only item of a list. Its other keys are ask (the question), type, default, required, blank, choices, min, max, help."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from .survey_answers import BLANKS, BadAnswer, convert_answer

Question = Mapping[str, Any]

# Type of a question: the type by which AWX shows it, and what becomes of the answer.
TYPES = {
    "text": ("text", "str"),
    "textarea": ("textarea", "str"),
    "yaml": ("textarea", "yaml"),
    "list": ("textarea", "list"),
    "integer": ("integer", "int"),
    "float": ("float", "float"),
    "choice": ("multiplechoice", "str"),
    "choices": ("multiselect", "list"),
    "yes_no": ("multiplechoice", "bool"),
}
KEYS = {"variable", "ask", "type", "default", "required", "blank", "choices", "min", "max", "help"}
_LIMITS = {"text": (0, 1024), "textarea": (0, 65536), "integer": (0, 2**31 - 1), "float": (0, 2**31 - 1)}
_ITEM = re.compile(r"(nebula_[a-z0-9_]+)\[\]\.([a-z0-9_]+)")
# vm and do are what playbook machine is asked by.
_PLAIN = re.compile(r"(?:nebula_[a-z0-9_]+|vm|do)")


def survey(name: str, questions: Sequence[Question]) -> dict[str, Any]:
    """Return the survey as AWX keeps it: name, description and spec. It is empty if there are no questions."""
    if not questions:
        return {}
    return {"name": name, "description": "", "spec": [_survey_question(question) for question in questions]}


def _survey_question(question: Question) -> dict[str, Any]:
    kind = TYPES[_type(question)][0]
    least, most = _LIMITS.get(kind, (None, None))
    return {
        "type": kind,
        "question_name": question["ask"],
        "question_description": question.get("help", ""),
        "variable": answer_to(question["variable"]),
        "required": bool(question.get("required", False)),
        "default": _default_shown(question),
        "min": question.get("min", least),
        "max": question.get("max", most),
        # AWX gives and takes them as a list.
        "choices": _choices(question),
        "new_question": False,
    }


def _default_shown(question: Question) -> Any:
    """Return the default as AWX takes it: a number, or a text, which has a line for each of several entries."""
    default = question.get("default", "")
    if _type(question) == "yaml" and not isinstance(default, str):
        return yaml.safe_dump(default, default_flow_style=False).strip()
    if isinstance(default, list):
        return "\n".join(map(str, default))
    return default if TYPES[_type(question)][0] in ("integer", "float") else str(default)


def variables(questions: Iterable[Question], fixed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the variables that the answers become: templates that Ansible fills in when the job runs, and in BLANKS
    the values of blank answers. fixed: values of keys that are not asked, by variables as questions have them."""
    items: dict[str, dict[str, str]] = {}
    blanks: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for question in questions:
        item, kind = _ITEM.fullmatch(question["variable"]), TYPES[_type(question)][1]
        blank = _value_if_blank(question, kind)
        if blank is not None:
            blanks[answer_to(question["variable"])] = blank
        if item:
            items.setdefault(item.group(1), {})[item.group(2)] = kind
        else:
            found[question["variable"]] = _lookup(f"'{answer_to(question['variable'])}', type='{kind}'")
    constant: dict[str, dict[str, Any]] = {}
    for variable, value in (fixed or {}).items():
        name, key = variable.split("[].", 1)
        constant.setdefault(name, {})[key] = value
    for name, keys in items.items():
        listed = ", ".join(f"'{key}': '{kind}'" for key, kind in keys.items())
        more = f" | combine({constant[name]!r})" if name in constant else ""
        found[name] = [_lookup(f"'{answer_to(name)}_', keys={{{listed}}}", more)]
    # As data, since a text in a template would need the quoting of each version of Jinja.
    return found | ({BLANKS: blanks} if blanks else {})


def _lookup(options: str, more: str = "") -> str:
    return "{{ lookup('nebula.provision.answer', " + options + ")" + more + " }}"


def _value_if_blank(question: Question, kind: str) -> Any:
    """Return the value of an answer that is left blank: the question's `blank`, or else its default, which a person may
    have deleted from the survey's field."""
    if question.get("blank") is not None:
        return question["blank"]
    return convert_answer(str(question["variable"]), question.get("default"), kind)


def answer_to(variable: str) -> str:
    """Return the name of the survey's variable: answer_images_path for nebula_images[].path. No role reads a variable
    of that name, since an answer does not have its final type yet."""
    return "answer_" + variable.removeprefix("nebula_").replace("[].", "_")


def without_repeats(questions: Iterable[Question]) -> list[Question]:
    """Return the questions of several job templates as those of one workflow: each is asked once."""
    once: dict[str, Question] = {}
    for question in questions:
        once.setdefault(str(question["variable"]), question)
    return list(once.values())


def problems(place: str, questions: Any) -> list[str]:
    """Return what is wrong with the questions, a sentence each. AWX accepts some of these mistakes, and fails later."""
    if not isinstance(questions, list) or not all(isinstance(question, Mapping) for question in questions):
        return [f"{place}: give a list of dicts"]
    found = []
    seen: dict[str, str] = {}
    for number, question in enumerate(questions):
        variable = str(question.get("variable"))
        answer = answer_to(variable)
        wrong = _problem(question)
        if not wrong and answer in seen:
            wrong = f"{variable} is asked twice{_same_answer(seen[answer], variable)}. Take one of the two out"
        seen[answer] = variable
        if wrong:
            found.append(f"{place}[{number}]: {wrong}")
    whole = {name for name in seen.values() if "[]." not in name}
    parted = {name.partition("[].")[0] for name in seen.values() if "[]." in name}
    return found + [f"{place}: {name}: ask for the whole list, or for keys of its item" for name in whole & parted]


def problems_of_fixed(fixed: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the values of keys that are not asked. They become part of a template."""
    return [
        f"fixed: {variable}: name a key of an item, as nebula_vms[].host, and give a plain word or number"
        for variable, value in fixed.items()
        if not _ITEM.fullmatch(str(variable)) or not re.fullmatch(r"[\w./:%-]*", str(value))
    ]


def _same_answer(first: str, second: str) -> str:
    return "" if first == second else f", as {first} has the same answer"


def _problem(question: Question) -> str:
    variable, kind = str(question.get("variable", "")), _type(question)
    unknown = sorted(set(map(str, question)) - KEYS)
    if unknown:
        return f"{', '.join(unknown)}: no key of a question. These are: {', '.join(sorted(KEYS))}"
    if not _ITEM.fullmatch(variable) and not _PLAIN.fullmatch(variable):
        return f"variable {variable!r}: name what it answers, as nebula_backup_keep or nebula_images[].path"
    ask = question.get("ask")
    if not isinstance(ask, str) or not ask.strip():
        return f"{variable}: there is no question. Write it under ask, as a text"
    if kind == "password":
        return (
            f"{variable}: a survey keeps what is typed, and shows it to others. Give secrets by a credential, and use "
            "them by lookup('nebula.provision.secret', NAME)"
        )
    if kind not in TYPES:
        return f"{variable}: type {kind!r} is none of {', '.join(TYPES)}"
    for check in (_problem_of_keys, _problem_of_choices, _problem_of_default, _problem_of_blank):
        wrong = check(question, kind)
        if wrong:
            return f"{variable}: {wrong}"
    return ""


def _problem_of_keys(question: Question, kind: str) -> str:
    if not isinstance(question.get("help", ""), str):
        return "help: give a text"
    if not isinstance(question.get("required", False), bool):
        return f"required {question['required']!r}: give true or false, without quotes"
    bounds = {key: question[key] for key in ("min", "max") if key in question}
    for key, bound in bounds.items():
        if isinstance(bound, bool) or not isinstance(bound, int):
            return f"{key} {bound!r}: give a whole number"
        if TYPES[kind][0] not in _LIMITS:
            return f"{key}: type {kind} has no bounds"
    if len(bounds) == 2 and bounds["min"] > bounds["max"]:
        return f"min {bounds['min']} is more than max {bounds['max']}"
    return ""


def _problem_of_choices(question: Question, kind: str) -> str:
    if kind not in ("choice", "choices"):
        return "only types choice and choices have choices" if question.get("choices") else ""
    choices = question.get("choices")
    if not isinstance(choices, list) or not choices:
        return f"type {kind} wants a list of choices"
    return "a choice is there twice" if len(set(map(str, choices))) < len(choices) else ""


def _problem_of_default(question: Question, kind: str) -> str:
    default = question.get("default", "")
    if default in ("", []):
        item = _ITEM.fullmatch(str(question["variable"]))
        needed = not question.get("required") and question.get("blank") is None and not item
        wanted = TYPES[kind][1] not in ("str", "list")
        return "say under blank what it is where nothing is answered" if needed and wanted else ""
    if kind in ("integer", "float"):
        wanted_type = int if kind == "integer" else (int, float)
        if isinstance(default, bool) or not isinstance(default, wanted_type):
            return f"default {default!r} is no {kind}"
        least, most = question.get("min", _LIMITS[kind][0]), question.get("max", _LIMITS[kind][1])
        return "" if least <= default <= most else f"default {default} is not between {least} and {most}"
    several = isinstance(default, list) and kind in ("list", "choices")
    if kind in ("choice", "choices", "yes_no"):
        listed = _choices(question)
        for each in default if several else [default]:
            if isinstance(each, bool) or str(each) not in listed:
                return f"default {each!r} is none of {', '.join(listed)}"
    elif kind != "yaml" and not isinstance(default, str) and not several:
        return f"default {default!r} is no text. Put it in quotes"
    return ""


def _problem_of_blank(question: Question, kind: str) -> str:
    """Return what is wrong with the value of a blank answer, or "". It has to be convertible as an answer is, and AWX
    has to be able to keep it as JSON."""
    try:
        blank = _value_if_blank(question, TYPES[kind][1])
        json.dumps(blank, allow_nan=False)
        if question.get("blank") is not None and TYPES[kind][1] in ("int", "float", "bool"):
            convert_answer("blank", blank, TYPES[kind][1])
    except (BadAnswer, TypeError, ValueError) as error:
        return f"what it is where nothing is answered can't be kept: {error}"
    return ""


def _choices(question: Question) -> list[str]:
    if _type(question) == "yes_no":
        return ["yes", "no"]
    return [str(choice) for choice in question.get("choices") or []]


def _type(question: Question) -> str:
    return str(question.get("type", "text"))
