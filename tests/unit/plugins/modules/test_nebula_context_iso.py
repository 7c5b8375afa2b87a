# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import hashlib
import json
import os
import pwd

import pytest

from ansible_collections.nebula.provision.plugins.module_utils import deps
from ansible_collections.nebula.provision.plugins.module_utils.context import iso9660
from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue, MissingDependency
from ansible_collections.nebula.provision.plugins.modules import nebula_context_iso

DEFAULTS = {"dest": None, "context": None, "files": None, "format": "opennebula", "owner": None, "group": None,
            "mode": "0640", "state": "present", "isos": None}  # fmt: skip


def run(check_mode=False, **options):
    for name in ("context", "isos"):
        if options.get(name) is not None:
            options[name] = json.dumps(options[name])
    return nebula_context_iso.call.run({**DEFAULTS, **options}, check_mode)


@pytest.fixture
def dest(tmp_path):
    return str(tmp_path / "context.iso")


def snapshot(tmp_path):
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in tmp_path.rglob("*")
    }


def test_a_life_each_step_predicted(dest, tmp_path):
    """Check mode says before each step what the step then does, and does nothing itself."""
    init = tmp_path / "init.sh"
    init.write_text("true\n")
    steps = [
        ({"context": {"A": "1"}}, True),
        ({"context": {"A": "1"}}, False),
        ({"context": {"a": 1}}, False),
        ({"context": {"A": "2"}}, True),
        ({"context": {"A": "2"}, "mode": "0600"}, True),
        ({"context": {"A": "2"}, "mode": "0600"}, False),
        ({"context": {"A": "2"}, "files": [str(init)]}, True),
        ({"context": {"A": "2"}, "files": [{"src": str(init)}]}, False),
        ({"context": {"A": "2"}, "files": [{"src": str(init), "target": "other"}]}, True),
        ({"state": "absent"}, True),
        ({"state": "absent"}, False),
    ]
    for options, changed in steps:
        before = snapshot(tmp_path)
        predicted = run(True, dest=dest, **options)
        assert snapshot(tmp_path) == before
        result = run(dest=dest, **options)
        assert (snapshot(tmp_path) != before) == changed, options
        assert predicted.changed == result.changed == result.payload["iso"]["changed"] == changed, options
        assert predicted.payload == result.payload
        assert predicted.diff() == result.diff()
        assert result.warnings == result.errors == []
        if options.get("state") != "absent":
            content = (tmp_path / "context.iso").read_bytes()
            assert result.payload["iso"] == {
                "dest": dest, "changed": changed, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(),
            }  # fmt: skip


def test_the_diff_names_and_does_not_tell(dest):
    run(dest=dest, context={"PASSWORD": "hunter2", "GONE": "x"})
    (diff,) = run(dest=dest, context={"PASSWORD": "correct horse", "NEW": "y"}).diff()
    before, after = json.loads(diff["before"]), json.loads(diff["after"])
    assert before["variables"] == {"GONE": "1 bytes", "PASSWORD": "7 bytes"}
    assert after["variables"] == {"NEW": "1 bytes", "PASSWORD": "13 bytes"}
    assert "hunter2" not in str(diff)
    assert "horse" not in str(diff)


def test_values_arrive(dest):
    run(dest=dest, context={"a": " $NAME it's\n", "Flag": True, "N": 5, "START_SCRIPT": "echo $HOME\n", "E": None})
    assert iso9660.read_iso(dest)[0] == {
        "A": " $NAME it's\n",
        "FLAG": "YES",
        "N": "5",
        "E": "",
        "START_SCRIPT": "echo $HOME\n",
        "START_SCRIPT_BASE64": base64.b64encode(b"echo $HOME\n").decode(),
    }


def test_many_and_one_that_fails(tmp_path):
    isos = [
        {"dest": str(tmp_path / "a.iso"), "context": {"N": "a"}},
        {"dest": str(tmp_path / "b.iso"), "context": {"N": "b"}, "files": ["/nowhere/x"]},
        {"dest": str(tmp_path / "c.iso"), "context": {"N": "c"}, "mode": "0600"},
    ]
    result = run(isos=isos, mode="0644")
    assert [item["changed"] for item in result.payload["isos"]] == [True, False, True]
    assert [item.name for item in result.errors] == [str(tmp_path / "b.iso")]
    assert "/nowhere/x" in str(result.errors[0].error)
    assert sorted(os.listdir(tmp_path)) == ["a.iso", "c.iso"]
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a.iso", "c.iso")] == [0o644, 0o600]


def test_owner_and_group(dest):
    me = pwd.getpwuid(os.getuid())
    run(dest=dest, context={}, owner=me.pw_name, group=str(me.pw_gid))
    assert not run(dest=dest, context={}, owner=str(me.pw_uid)).changed
    (item,) = run(dest=dest, context={}, owner="nobody-of-this-name").errors
    assert "user nobody-of-this-name" in str(item.error)


@pytest.mark.parametrize("mode", ["rw", "0999", "", True, 755, 8.0, "10000"])
def test_a_mode_that_is_none(dest, mode):
    (item,) = run(dest=dest, context={}, mode=mode).errors
    assert "in quotes" in str(item.error)
    assert not os.path.exists(dest)


def test_a_number_as_yaml_reads_0600(dest):
    run(dest=dest, context={}, mode=0o600)
    assert os.stat(dest).st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"dest": "relative.iso"}, "not an absolute path"),
        ({"dest": "/tmp"}, "not a regular file"),
        ({"context": ["A"]}, "nested|not a dict|a list"),
        ({"context": {"A-B": "s3cret"}}, "A-B"),
        ({"context": {"1A": "s3cret"}}, "no shell takes"),
        ({"context": {"A": ["s3cret"]}}, "nested"),
        ({"context": {"A": "s3cret\0"}}, "NUL"),
        ({"files": ["init.sh"]}, "not an absolute path"),
        ({"files": [{"source": "/x"}]}, "src and target"),
        ({"files": ["/dev/null"]}, "character device"),
        ({"files": ["/etc/hostname", {"src": "/etc/hosts", "target": "hostname"}]}, "same name"),
    ],
)
def test_bad_input_changes_nothing_and_keeps_secrets(dest, options, problem):
    result = run(**{"dest": dest, "context": {"A": "s3cret"}, **options})
    (item,) = result.errors
    with pytest.raises(type(item.error), match=problem):
        raise item.error
    assert not result.changed
    assert "s3cret" not in str(item.error)
    assert not os.path.exists(dest)


def test_bad_lists():
    for isos, problem in [([{"dest": "/a/b"}, {"dest": "/a//b"}], "two ISOs"), ({"dest": "/a"}, "Give a list")]:
        with pytest.raises(InvalidValue, match=problem):
            run(isos=isos)
    result = run(isos=[{"dest": "/a", "contxt": {}}, "/a"])
    assert "Did you mean 'context'" in str(result.errors[0].error) and "Give a dict" in str(result.errors[1].error)


def test_what_is_no_context_iso_is_neither_replaced_nor_removed(dest, tmp_path):
    (tmp_path / "context.iso").write_text("precious")
    for options in ({"context": {}}, {"state": "absent"}):
        assert run(dest=dest, **options).errors
    assert (tmp_path / "context.iso").read_text() == "precious"


def test_an_iso_of_a_former_release_stays_while_it_says_the_same(dest, tmp_path, monkeypatch):
    """It had no padding; a machine may have it open."""
    with monkeypatch.context() as former:
        former.setattr(iso9660, "PADDING", 0)
        run(dest=dest, context={"A": "1"})
    content = (tmp_path / "context.iso").read_bytes()
    for check_mode in (True, False):
        result = run(check_mode, dest=dest, context={"A": "1"})
        assert not result.changed
        assert result.payload["iso"]["size"] == len(content)
        assert result.payload["iso"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "context.iso").read_bytes() == content
    assert run(dest=dest, context={"A": "2"}).changed
    assert (tmp_path / "context.iso").stat().st_size == len(content) + 150 * 2048


def test_another_programs_context_iso_is_replaced_but_not_removed(dest, tmp_path):
    iso9660.write_iso(dest, {"A": "1"})
    content = (tmp_path / "context.iso").read_bytes().replace(iso9660.MARK.encode(), b"GENISOIMAGE".ljust(16))
    (tmp_path / "context.iso").write_bytes(content)
    assert run(dest=dest, state="absent").errors
    assert run(dest=dest, context={"A": "1"}).changed
    assert iso9660.what_is_at(dest).ours


def test_no_directory(dest, tmp_path):
    (item,) = run(dest=str(tmp_path / "later" / "x.iso"), context={}).errors
    assert "there is no directory" in str(item.error)


def test_check_mode_takes_what_is_missing_as_about_to_come(tmp_path, monkeypatch):
    """On a bare host: no directory, no files, no library yet."""
    path = str(tmp_path / "later" / "x.iso")
    assert run(True, dest=path, context={}).changed
    result = run(True, dest=path, context={}, files=["/nowhere/x"])
    assert result.changed
    assert len(result.warnings) == 1

    def lacking():
        raise ImportError("No module named 'pycdlib'")

    monkeypatch.setitem(deps._IMPORTS, "pycdlib", lacking)
    assert run(True, dest=path, context={}).changed
    (item,) = run(dest=str(tmp_path / "x.iso"), context={}).errors
    assert isinstance(item.error, MissingDependency)
    assert "python3-pycdlib" in str(item.error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["PATH", "uid", "BASH_ENV", "SECONDS"])
def test_names_that_a_shell_reserves_are_refused(dest, name):
    (item,) = run(dest=dest, context={"A": "1", name: "s3cret"}).errors
    assert f"ISO {dest}: context: variable {name.upper()}: " in str(item.error)
    assert "s3cret" not in str(item.error)
    assert not os.path.exists(dest)


def test_formats(dest):
    """Another format makes the ISO anew; the diff says which it was and is, and of its documents nothing."""
    context = {"ETH0_MAC": "02:00:0a:42:00:0a", "ETH0_IP": "10.66.0.10", "PASSWORD": "hunter2"}
    run(dest=dest, context=context)
    before = "opennebula"
    for format in ("configdrive", "nocloud", "opennebula"):
        predicted = run(True, dest=dest, context=context, format=format)
        result = run(dest=dest, context=context, format=format)
        assert predicted.diff() == result.diff()
        (diff,) = result.diff()
        shown = [json.loads(diff[key]) for key in ("before", "after")]
        assert [side["format"] for side in shown] == [before, format]
        assert shown[0]["variables"] == shown[1]["variables"]
        assert shown[0]["files"] == shown[1]["files"] == {}
        assert "hunter2" not in str(diff)
        assert iso9660.what_is_at(dest).format == format
        assert not run(dest=dest, context=context, format=format).changed
        before = format
    run(dest=dest, context=context, format="nocloud")
    assert run(dest=dest, state="absent").changed


def test_a_format_for_each(tmp_path):
    isos = [
        {"dest": str(tmp_path / "a.iso")},
        {"dest": str(tmp_path / "b.iso"), "format": "configdrive"},
        {"dest": str(tmp_path / "c.iso"), "format": "vmware"},
        {"dest": str(tmp_path / "d.iso"), "context": {"ETH0_IP": "s3cret"}},
    ]
    result = run(isos=isos, format="nocloud")
    assert [iso9660.what_is_at(str(tmp_path / f"{name}.iso")).format for name in "ab"] == ["nocloud", "configdrive"]
    assert [str(item.error) for item in result.errors] == [
        f"ISO {tmp_path}/c.iso: format 'vmware': no such format. Known are opennebula, configdrive, nocloud",
        "context variable ETH0_IP: it is not an IPv4 address. Write it as 10.66.0.10",
    ]


@pytest.mark.parametrize("format", ["nocloud", "configdrive"])
def test_an_iso_of_that_label_that_others_made_is_left_alone(dest, tmp_path, format):
    context = {"USER_DATA": "#cloud-config\n"}
    run(dest=dest, context=context, format=format)
    place = tmp_path / "context.iso"
    place.write_bytes(place.read_bytes().replace(iso9660.MARK.encode(), b"SOMEBODY.ELSES  "))
    before = snapshot(tmp_path)
    for wanted in (format, "opennebula"):
        (item,) = run(dest=dest, context=context, format=wanted).errors
        assert "not made by" in str(item.error)
    assert snapshot(tmp_path) == before
