# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users read of each installation at which step it is, and a run goes on with what it can do something about."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.ports import VmRecord
from ansible_collections.nebula.provision.plugins.module_utils.errors import Conflict
from ansible_collections.nebula.provision.plugins.module_utils.install import next_step
from ansible_collections.nebula.provision.plugins.module_utils.install.install_item import Iso, Spec
from ansible_collections.nebula.provision.plugins.module_utils.install.installation import (
    WORDS,
    Outcome,
    Settings,
    Work,
    goes_on,
    row,
)
from ansible_collections.nebula.provision.plugins.module_utils.install.next_step import Machine
from ansible_collections.nebula.provision.plugins.module_utils.model import installation_marks
from ansible_collections.nebula.provision.plugins.module_utils.model.image import Image
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageState, ImageType

STEPS = (
    next_step.MAKE, next_step.START, next_step.WAIT, next_step.END, next_step.UNREACHED, next_step.UNSURE,
    next_step.FOREIGN, next_step.BROKEN, next_step.FINISH, next_step.CONVERT, next_step.VERIFY, next_step.DONE,
)  # fmt: skip
MACHINE = Machine(3, "RUNNING", "RUNNING", "RUNNING")
HALF = Image(7, "debian", type=ImageType.DATABLOCK, state=ImageState.ERROR, unfinished=installation_marks.INSTALLING)
WHOLE = Image(7, "debian", state=ImageState.READY)
RECORD = VmRecord(3, "install-debian", "u", "RUNNING", "RUNNING", "node1", "kvm", 1, 1.0, 1, 2048)


def work(step: str = "", state: str = "present", **fields: Any) -> Work:
    return Work("debian", spec=Spec("debian", state, Iso("debian.iso")), step=step, **fields)


def test_each_step_has_its_words() -> None:
    assert set(WORDS) == set(STEPS)
    for step in STEPS:
        if step != next_step.DONE:
            assert row(work(step, machine=MACHINE))["step"] == WORDS[step]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (work(), "refused"),
        (Work("debian"), "refused"),
        (work(next_step.UNSURE), "left without its machine, and nobody knows whether it is installed"),
        (work(next_step.UNSURE, machine=MACHINE), "off, and nobody knows whether it is installed"),
        (work(next_step.DONE, image=WHOLE), "ready, not verified"),
        (
            work(next_step.DONE, image=Image(7, "debian", attributes={installation_marks.VERIFIED: "YES"})),
            "ready, verified",
        ),
        (work(next_step.MAKE, state="absent"), "given up"),
        (work(next_step.MAKE, state="absent", image=WHOLE), "given up"),
        (work(next_step.WAIT, state="absent", machine=MACHINE), "to be given up"),
        (work(next_step.MAKE, state="absent", image=HALF), "to be given up"),
        (work(next_step.DONE, state="absent", image=WHOLE), "ready, and left as it is"),
        (work(next_step.VERIFY, state="absent", image=WHOLE), "ready, and left as it is"),
    ],
)
def test_a_row_says_at_which_step_it_is(made: Work, words: str) -> None:
    assert row(made)["step"] == words


def test_a_row_has_what_there_is() -> None:
    error = Conflict("install debian", "it differs")
    made = work(next_step.WAIT, image=HALF, record=RECORD, machine=MACHINE, how="its guest", seconds=61, error=error)
    assert row(made) == {
        "name": "debian", "step": "installing", "due": "wait", "image": 7, "type": "DATABLOCK", "state": "ERROR",
        "machine": "install-debian", "machine_id": 3, "host": "node1", "how": "its guest", "seconds": 61,
        "error": "install debian: it differs",
    }  # fmt: skip
    assert row(work(next_step.MAKE)) == {
        "name": "debian", "step": "to be installed", "due": "make", "image": None, "type": "", "state": "",
        "machine": "", "machine_id": None, "host": "", "how": "", "seconds": None, "error": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("made", "on"),
    [
        (work(next_step.WAIT), True),
        (work(next_step.VERIFY), True),
        (work(next_step.DONE), False),
        # What a killed run left of it goes.
        (work(next_step.DONE, changed=True), True),
        (work(next_step.WAIT, error=Conflict("a", "b"), changed=True), False),
        (Work("debian", step=next_step.WAIT), False),
        (work(next_step.WAIT, state="absent"), False),
        (work(next_step.WAIT, state="absent", changed=True), True),
    ],
)
def test_a_run_goes_on_with_what_is_due(made: Work, on: bool) -> None:
    assert goes_on(made, Settings()) is on


@pytest.mark.parametrize(
    ("until", "on"),
    [
        ("installed", {next_step.CONVERT: False, next_step.VERIFY: False, next_step.DONE: False, next_step.WAIT: True}),
        (
            "converted",
            {next_step.CONVERT: True, next_step.VERIFY: False, next_step.DONE: False, next_step.FINISH: True},
        ),
        ("verified", {next_step.CONVERT: True, next_step.VERIFY: True, next_step.DONE: False, next_step.MAKE: True}),
    ],
)
def test_a_run_may_end_before_the_image_is_made_or_tried(until: str, on: dict[str, bool]) -> None:
    assert {step: goes_on(work(step), Settings(until=until)) for step in on} == on


def test_an_error_fails_the_task_where_it_is_to_be_told() -> None:
    error = Conflict("install debian", "it differs")
    outcome = Outcome([work(next_step.WAIT, error=error), work(next_step.MAKE, changed=True)])
    told, kept = outcome.items(), outcome.items(complain=False)
    assert [item.error for item in told] == [error, None] and [item.error for item in kept] == [None, None]
    assert [item.is_changed for item in told] == [item.is_changed for item in kept] == [False, True]
    assert told[1].after == {"step": "to be installed"}
