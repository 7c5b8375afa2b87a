# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's documentation says what its action plugin does; that one has its tests in action/."""

from __future__ import annotations

import yaml

from ansible_collections.nebula.provision.plugins.action.nebula_builtin import EVERY, MODULES
from ansible_collections.nebula.provision.plugins.modules import nebula_builtin


def test_the_modules_that_can_be_called_are_those_of_the_documentation() -> None:
    options = yaml.safe_load(nebula_builtin.DOCUMENTATION)["options"]
    assert options["module"]["choices"] == sorted(MODULES)
    assert all(option["required"] for option in options.values())


def test_what_is_returned_is_what_is_taken_of_answers() -> None:
    taken = {*EVERY, *(key for _kind, keys in MODULES.values() for key in keys)}
    returned = yaml.safe_load(nebula_builtin.RETURN)
    assert {*returned} <= taken
    assert {key for _kind, keys in MODULES.values() for key in keys} <= {*returned}
