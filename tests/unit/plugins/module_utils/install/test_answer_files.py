# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.context import nocloud_and_configdrive
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.install import answer_files, installer_iso
from ansible_collections.nebula.provision.plugins.module_utils.install.answer_files import KINDS

ROLE = Path(__file__).resolve().parents[5] / "roles" / "install_os"


def test_every_kind_has_its_template_and_is_documented():
    readme = (ROLE / "README.md").read_text(encoding="utf-8")
    for kind in KINDS.values():
        assert (ROLE / "templates" / kind.template).is_file()
        assert f"`{kind.name}`" in readme
        for variable in kind.variables:
            assert f"`{variable}`" in readme, f"README does not tell of {variable}"


@pytest.mark.parametrize("kind", KINDS.values(), ids=str)
def test_every_way_has_what_it_needs(kind):
    for way in kind.ways:
        assert way in answer_files.WAYS
        if answer_files.FROM_KERNEL in kind.boots:
            assert kind.kernels and kind.commands[way]
            assert f"console={answer_files.SERIAL}" in kind.commands[way]
    assert not (answer_files.ISO in kind.ways and not kind.label)
    for pattern in kind.failures:
        re.compile(pattern)


def test_a_label_on_a_command_line():
    line = answer_files.command_line(KINDS["kickstart"], "iso", "AlmaLinux 9 x86_64")
    assert "inst.stage2=hd:LABEL=AlmaLinux\\x209\\x20x86_64 " in line
    assert "inst.ks=hd:LABEL=OEMDRV:/ks.cfg" in line


def test_slips_are_named_and_values_are_not():
    with pytest.raises(InvalidValue, match="Did you mean 'preseed'"):
        answer_files.kind_of("presed", "install x: answers")
    with pytest.raises(InvalidValue, match="Did you mean 'password_hash'") as error:
        answer_files.variables_of(KINDS["preseed"], {"kind": "preseed", "pasword_hash": "s3cr3t"}, "install x: answers")
    assert "s3cr3t" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hostname", "a\nd-i partman/early_command string rm"),
        ("packages", ["vim\nx"]),
        ("packages", {"a": 1}),
        ("user", ["a"]),
        ("password_hash", True),
        ("unsigned_mirror", "yes"),
    ],
)
def test_a_value_is_no_line_of_its_own(key, value):
    with pytest.raises(InvalidValue, match=f"answers: {key}"):
        answer_files.variables_of(KINDS["preseed"], {"kind": "preseed", key: value}, "install x: answers")


def test_somebody_has_to_be_able_to_log_in():
    for kind in KINDS.values():
        values = answer_files.variables_of(kind, {"kind": kind.name}, "x")
        with pytest.raises(InvalidValue, match="nobody could log in"):
            answer_files.check_accounts(kind, values, "x")
        answer_files.check_accounts(kind, {**values, kind.accounts[0]: "secret"}, "x")


@pytest.mark.parametrize(
    ("name", "host"),
    [("debian12", "debian12"), ("Debian 12 (test)", "debian-12-test"), ("--", "localhost"), ("x" * 80, "x" * 63)],
)
def test_host_names(name, host):
    assert answer_files.host_name(name) == host


def test_no_label_of_ours_is_cut():
    """Joliet keeps 16 characters of an ISO's label, FAT 11 of a floppy's, and whoever looks for one wants it whole."""
    labels = [kind.label for kind in KINDS.values()] + [
        format_.label for format_ in nocloud_and_configdrive.FORMATS.values()
    ]
    assert len(labels) > 5 and all(len(label) <= 16 for label in labels)
    disk = installer_iso.floppy({"autounattend.xml": b"x"})
    assert disk[43:54].rstrip() == b"ANSWERS"
