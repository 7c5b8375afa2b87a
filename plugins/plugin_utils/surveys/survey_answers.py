# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts answers of a survey, which are text and numbers, to values of the types that lists need."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

TYPES = ("str", "int", "float", "bool", "list", "yaml")
_TRUTH = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}


class BadAnswer(Exception):
    """Says that an answer is not of its type: which answer, what it was and what to type."""


# What it is where nothing was answered, by the variables of the answers: a dict that the job template has.
BLANKS = "answer_blanks"


def item_of(answers: Mapping[str, Any], prefix: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return the item of a list that the answers describe: each key that is not blank. keys: the type of each."""
    values = {key: answer_of(answers, prefix + key, kind) for key, kind in keys.items()}
    return {key: value for key, value in values.items() if value is not None}


def answer_of(answers: Mapping[str, Any], variable: str, kind: str, blank: Any = None) -> Any:
    """Return the value of one answer. If it is blank, that is what the job template, or else the caller, has for it."""
    blanks = answers.get(BLANKS)
    if isinstance(blanks, Mapping) and blank is None:
        blank = blanks.get(variable)
    return convert_answer(variable, answers.get(variable), kind, blank)


def convert_answer(variable: str, answer: Any, kind: str, blank: Any = None) -> Any:
    """Return an answer as a value of type kind, `blank` if nothing was answered. Raise BadAnswer for other types."""
    if kind not in TYPES:
        raise BadAnswer(f"{variable}: type {kind} is none of {', '.join(TYPES)}")
    # What is spaces only was left blank by a person, too.
    if answer is None or answer == [] or (isinstance(answer, str) and not answer.strip()):
        return blank
    if kind == "str":
        return str(answer).strip("\r\n") if "\n" in str(answer) else str(answer).strip()
    if kind == "list":
        return [str(each).strip() for each in answer] if isinstance(answer, (list, tuple)) else _split(str(answer))
    return {"int": _whole, "float": _number, "bool": _truth, "yaml": _yaml}[kind](variable, answer)


def _split(text: str) -> list[str]:
    return [entry.strip() for entry in re.split(r"[,\n]", text) if entry.strip()]


def _whole(variable: str, answer: Any) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool):
        return int(answer)
    # Python also takes 1_000 and other scripts' digits, which nobody means by a number here.
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", str(answer).strip()):
        raise BadAnswer(f"{variable}: {_quoted(answer)} is not a whole number. Type digits only, such as 10240")
    return int(str(answer))


def _number(variable: str, answer: Any) -> float:
    written = re.fullmatch(r"[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]{1,3})?", str(answer).strip())
    number = float(str(answer)) if written else math.nan
    if not math.isfinite(number):
        raise BadAnswer(f"{variable}: {_quoted(answer)} is not a number. Type it with a point, such as 0.5")
    return number


def _truth(variable: str, answer: Any) -> bool:
    if isinstance(answer, bool):
        return answer
    if str(answer).strip().lower() not in _TRUTH:
        raise BadAnswer(f"{variable}: {_quoted(answer)} is neither yes nor no. Type one of the two")
    return _TRUTH[str(answer).strip().lower()]


def _yaml(variable: str, answer: Any) -> Any:
    if not isinstance(answer, str):
        return answer
    try:
        return yaml.safe_load(answer)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        raise BadAnswer(f"{variable}: the answer is no YAML{place}. Indent by spaces, as 'key: value'") from error


def _quoted(answer: Any) -> str:
    text = str(answer)
    return repr(text if len(text) <= 40 else text[:40] + "…")
