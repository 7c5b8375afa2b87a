# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of hostile inputs have in common: the saved corpus, how far to search beyond it, and the bounds.

    tests/fixtures/hostile/<kind>/*      one file for each input that broke something once, or was made to
    NEBULA_FUZZ=5000                     so many examples for each search, other ones in each run

A failing example that a search finds becomes a file of the corpus."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

CORPUS = Path(__file__).parents[1] / "fixtures" / "hostile"
EXAMPLES = int(os.environ.get("NEBULA_FUZZ") or 0)
# What no file of a checkout holds: ansible-test refuses it, and git may change it.
_WITHOUT_FILE = {
    "json": {"bom": "\ufeff{}"},
    "template": {"bom_twice": "\ufeff\ufeffA = 1\n", "carriage_returns": "A = 1\rB = 2\r"},
}
# Characters of one input.
LENGTH = 64 * 1024
# Seconds of processor time that one input may take.
SECONDS = 1.0


def fuzzed(examples: int) -> Callable[[Any], Any]:
    """The same examples in each run, but where more are asked for."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def corpus(kind: str) -> dict[str, str]:
    """The texts of a kind by the names of their files. A file *.json of kind "word" holds many."""
    found: dict[str, str] = dict(_WITHOUT_FILE.get(kind, {}))
    for path in sorted((CORPUS / kind).iterdir()):
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        if kind == "word":
            found.update({f"{path.stem}-{index}": word for index, word in enumerate(json.loads(text))})
        else:
            found[path.name] = text
    if not found:
        raise AssertionError(f"there is no corpus of kind {kind}")
    return found


def long(text: str) -> str:
    """The text again and again, as long as inputs of these tests get."""
    return (text * (LENGTH // max(len(text), 1) + 1))[:LENGTH]


@contextlib.contextmanager
def bounded(what: str, seconds: float = SECONDS) -> Iterator[None]:
    began = time.thread_time()
    yield
    took = time.thread_time() - began
    assert took < seconds, f"{what[:200]}: {took:.2f} s"
