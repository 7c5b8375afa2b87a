# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the codes of vzctl mean."""

from __future__ import annotations

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import (
    HypervisorError,
    InUse,
    MissingDependency,
    NoSpace,
    NotFound,
    TimedOut,
    WrongState,
)
from ansible_collections.nebula.provision.plugins.module_utils.hypervisors.openvz.exit_codes import CODES, error_of_code

# Those that are known to come (facts of vzctl 4.11), with what each is about.
KNOWN = {
    3: "system call", 5: "kernel", 6: "resources", 7: "environment", 8: "command", 9: "another vzctl", 10: "vz.conf",
    14: "no configuration", 16: "saved", 17: "restored", 20: "option", 21: "value", 27: "parameters",
    28: "PHYSPAGES and SWAPPAGES", 29: "OS template", 31: "does not run", 32: "runs already", 33: "did not stop",
    34: "address", 40: "not mounted", 41: "is mounted", 43: "no private area", 44: "there already",
    46: "too little room", 47: "damaged", 74: "password", 78: "another container's", 79: "script",
    85: "configuration is bad", 91: "cache",
    99: "ploop", 104: "network device", 130: "veth", 131: "name", 139: "saved",
}  # fmt: skip


@pytest.mark.parametrize("code", sorted(KNOWN))
def test_each_code_has_its_sentence_and_its_remedy(code: int) -> None:
    error = error_of_code("starting virtual machine 7", code, "CT 100007: something")
    assert KNOWN[code] in error.found and f"code {code}" in error.found and "CT 100007: something" in error.found
    assert error.asked == "starting virtual machine 7" and error.remedy


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_sentence_and_a_remedy_are_whole(code: int) -> None:
    meaning = CODES[code]
    assert meaning.found[0].islower() or meaning.found.startswith(("/", "VE_", "TEMPLATE", "DISK", "LOCKDIR"))
    assert not meaning.found.endswith(".") and meaning.remedy[0].isupper() and not meaning.remedy.endswith(".")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (5, MissingDependency),
        (9, InUse),
        (14, NotFound),
        (31, WrongState),
        (33, TimedOut),
        (46, NoSpace),
        (16, HypervisorError),
    ],
)
def test_the_cause_is_the_class(code: int, kind: type) -> None:
    assert type(error_of_code("x", code)) is kind


def test_a_code_without_a_name_is_told_all_the_same() -> None:
    error = error_of_code("x", 255, "")
    assert error.found == "it failed for a reason that has no name (vzctl ended with code 255)"
    assert "vzctl was ended by signal 6" in error_of_code("x", -6).found
