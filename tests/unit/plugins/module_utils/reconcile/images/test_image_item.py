# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An item of a list of images is read into typed values, or refused with its image, its key and a remedy."""

from __future__ import annotations

import base64
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize.recipes import Addition, Recipe
from ansible_collections.nebula.provision.plugins.module_utils.model.specifications.image import KEYS
from ansible_collections.nebula.provision.plugins.module_utils.model.states import ImageType
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_item import (
    Spec,
    refuse_unused_passphrase,
    spec_of,
)
from ansible_collections.nebula.provision.plugins.module_utils.storage.checksum import Checksum

STATES, TYPES = KEYS["state"].choices, KEYS["type"].choices
SECRET = "7b3a5d1c-0f3e-4a52-9a43-1f6a4a0c1d11"
DIGEST = "0" * 64
PASSPHRASE = "smoked ham"


def spec(**values: Any) -> Spec:
    return spec_of({"name": "demo", **values})


def refusal(**values: Any) -> str:
    with pytest.raises(InvalidValue) as caught:
        spec_of({"name": "demo", **values})
    return str(caught.value)


# -- values -----------------------------------------------------------------------------------------------------------


def test_a_name_alone_leaves_all_else_unset() -> None:
    assert spec() == Spec("demo")
    assert spec(**{key: None for key in KEYS if key != "name"}) == Spec("demo")
    assert spec().state == "present" and spec().has_content is False


@pytest.mark.parametrize(
    ("keys", "field", "value"),
    [
        ({"state": "absent"}, "state", "absent"),
        ({"type": "datablock"}, "type", ImageType.DATABLOCK),
        ({"type": "OS"}, "type", ImageType.OS),
        ({"persistent": "yes"}, "persistent", True),
        ({"persistent": False}, "persistent", False),
        ({"size": "64"}, "size", 64),
        ({"size": 1}, "size", 1),
        ({"size": (1 << 43) - 1}, "size", (1 << 43) - 1),
        ({"format": "QCOW2"}, "format", "qcow2"),
        ({"format": ""}, "format", ""),
        ({"fs": "ext4", "size": 4}, "fs", "ext4"),
        ({"compress": "on"}, "compress", True),
        ({"sparse": 1}, "sparse", True),
        ({"snapshot_flatten": "true"}, "flatten", True),
        ({"luks_secret": SECRET.upper()}, "luks_secret", SECRET),
        ({"luks_secret": ""}, "luks_secret", ""),
        ({"luks_passphrase": PASSPHRASE}, "passphrase", PASSPHRASE),
        ({"datastore": 100}, "datastore", "100"),
        ({"firmware": "uefi_secure"}, "firmware", "UEFI_SECURE"),
        ({"firmware": ""}, "firmware", ""),
        ({"bus": "SATA"}, "bus", "sata"),
        ({"dev_prefix": "vd"}, "dev_prefix", "vd"),
        ({"target": "vdb"}, "target", "vdb"),
        ({"target": "hdc:cdrom"}, "target", "hdc:cdrom"),
        ({"target": ""}, "target", ""),
        ({"description": ""}, "description", ""),
        ({"description": 2.5}, "description", "2.5"),
        ({"renamed_from": "old"}, "renamed_from", "old"),
        ({"clone_of": "base"}, "clone_of", "base"),
        ({"from": "base"}, "base", "base"),
        ({"path": "/x", "checksum": f"SHA256:{DIGEST}"}, "checksum", Checksum("sha256", DIGEST)),
        ({"attributes": {}}, "attributes", {}),
        (
            {"attributes": {"os": "Debian", "Flag": True, "off": False, "n": 3, "gone": None}},
            "attributes",
            {"OS": "Debian", "FLAG": "YES", "OFF": "NO", "N": "3", "GONE": None},
        ),
    ],
)
def test_each_value_has_its_type(keys: dict[str, Any], field: str, value: Any) -> None:
    found = getattr(spec(**keys), field)
    assert found == value and type(found) is type(value)


def test_every_key_of_an_item_is_read() -> None:
    """A key that is not read would be asked for and do nothing: each that is given a list of lists is refused."""
    for key in set(KEYS) - {"name"}:
        with pytest.raises(InvalidValue, match=rf"image demo: .*{'from' if key == 'from' else key}"):
            spec(**{key: [[]]}, **({"from": "base"} if key in ("packages", "files", "commands") else {}))


def test_a_path_is_of_the_control_node_unless_it_is_remote_or_a_url() -> None:
    assert spec(path="/srv/x.qcow2").from_control_node
    assert not spec(path="/srv/x.qcow2", remote_src=True).from_control_node
    assert not spec(path="https://example.org/x.qcow2").from_control_node
    assert not spec(size=4).from_control_node


def test_a_path_of_a_home_directory_is_expanded() -> None:
    assert spec(path="~/x.qcow2").path == os.path.expanduser("~/x.qcow2")


@pytest.mark.parametrize("keys", [{"path": "/x"}, {"clone_of": "base"}, {"from": "base"}, {"size": 4}])
def test_what_an_image_is_made_of_is_its_content(keys: dict[str, Any]) -> None:
    assert spec(**keys).has_content


def test_neither_a_name_nor_a_state_is_content() -> None:
    assert not spec(renamed_from="old", state="enabled", description="d").has_content


def test_a_spec_shows_neither_its_passphrase_nor_its_secret() -> None:
    shown = repr(spec(luks_secret=SECRET, luks_passphrase=PASSPHRASE, size=4))
    assert shown == "Spec('demo')"


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"name": None}, ["image: the name is empty", "Give it a name"]),
        ({"name": "a/b"}, ["image 'a/b'", "holds a /"]),
        ({"state": "presnt"}, ["state 'presnt': there is no such state", "Did you mean 'present'?", *STATES]),
        ({"type": "ISO"}, ["type 'ISO': there is no such type", "Known are", *TYPES]),
        ({"type": "DATABLOK"}, ["Did you mean 'DATABLOCK'?"]),
        ({"path": "ftp://me:pw@example.org/x"}, ["only http and https are fetched", "Give such a URL, or a path"]),
        ({"path": "/x", "clone_of": "y"}, ["path and clone_of: an image is made of one thing", "path, clone_of, from"]),
        ({"clone_of": "y", "from": "z"}, ["clone_of and from: an image is made of one thing"]),
        ({"path": "/x", "fs": "ext4"}, ["fs ext4: only an empty image gets a file system", "Leave fs out"]),
        ({"clone_of": "x", "fs": "xfs"}, ["fs xfs: only an empty image"]),
        ({"from": "x", "fs": "xfs"}, ["fs xfs: only an empty image"]),
        ({"fs": "ext5", "size": 9}, ["fs 'ext5': there is no such fs", "Did you mean"]),
        ({"checksum": f"sha256:{DIGEST}"}, ["checksum: there is no file to compare with it", "Give its path"]),
        ({"path": "/x", "checksum": DIGEST}, ["it names no algorithm", "sha256:DIGEST"]),
        ({"target": "../x"}, ["target '../x': it is not the name of a disk", "vda, sdb, hdc"]),
        ({"target": "vda:floppy"}, ["target 'vda:floppy'"]),
        ({"size": 0}, ["size 0: it is not a whole number of MB, 1 to 8796093022207"]),
        ({"size": 1 << 43}, ["it is not a whole number of MB"]),
        ({"size": "4G"}, ["size '4G'"]),
        ({"size": 2.5}, ["size 2.5"]),
        ({"size": True}, ["size True"]),
        ({"persistent": "maybe"}, ["persistent 'maybe': it is neither true nor false", "Give true or false"]),
        ({"luks_secret": "secret"}, ["luks_secret 'secret': it is not a UUID", "virsh secret-list"]),
        ({"path": ["/x"]}, ["path: it is a list", "Give text, in quotes"]),
        ({"description": True}, ["description: it is a bool"]),
        ({"attributes": ["A"]}, ["attributes: it is a list", "Give a dict"]),
        ({"attributes": {"A B": 1}}, ["attribute name 'A B'", "A_B"]),
        ({"format": "vmdk"}, ["format 'vmdk': there is no such format", "Known are raw, qcow2"]),
        ({"format": "raw", "compress": True}, ["compress: a raw file can't be compressed", "Give format: qcow2"]),
        ({"format": "raw", "luks_secret": SECRET}, ["luks_secret: only a qcow2 is encrypted", "Give format: qcow2"]),
        ({"compress": True, "luks_secret": SECRET}, ["what is encrypted can't be compressed", "Leave one of the two"]),
        ({"renamed_from": "demo"}, ["renamed_from: it is its own name", "had before"]),
        ({"renamed_from": "a/b"}, ["image 'a/b'", "holds a /"]),
        ({"clone_of": "demo"}, ["it is to be made of itself", "Name another"]),
        ({"from": "demo"}, ["it is to be made of itself", "Name another"]),
        ({"type": "CDROM", "compress": True}, ["compress: not of type CDROM", "Only for OS and DATABLOCK"]),
        ({"type": "KERNEL", "sparse": True}, ["sparse: not of type KERNEL"]),
        ({"type": "CONTEXT", "luks_secret": SECRET}, ["luks_secret: not of type CONTEXT"]),
        ({"type": "CDROM", "from": "base"}, ["from: not of type CDROM"]),
        ({"commands": ["true"]}, ["commands: it says not to which image they are added", "Give from"]),
        ({"packages": ["a"], "files": [{}]}, ["packages, files: it says not to which image"]),
    ],
)
def test_what_can_not_be_meant_is_refused(keys: dict[str, Any], words: list[str]) -> None:
    said = refusal(**keys)
    assert [word for word in words if word not in said] == [], said
    assert said.startswith("image")


def test_a_url_that_is_refused_is_shown_without_its_password() -> None:
    assert "pw" not in refusal(path="ftp://me:pw@example.org/x")


@pytest.mark.parametrize("value", ["", 5, ["x"], "a\0b", True])
def test_a_passphrase_that_is_refused_is_not_shown(value: Any) -> None:
    said = refusal(luks_secret=SECRET, luks_passphrase=value)
    assert said == "image demo: luks_passphrase: it is empty, or not text. Give text, in quotes"


def test_a_passphrase_needs_something_that_it_opens() -> None:
    for made in (spec(luks_passphrase=PASSPHRASE), spec(luks_passphrase=PASSPHRASE, luks_secret="")):
        with pytest.raises(InvalidValue, match="luks_secret is not given, so nothing would be encrypted") as caught:
            refuse_unused_passphrase("image demo", made, "")
        assert PASSPHRASE not in str(caught.value) and "Give luks_secret, the UUID" in str(caught.value)
        # The image is encrypted already.
        refuse_unused_passphrase("image demo", made, SECRET)
    refuse_unused_passphrase("image demo", spec(luks_passphrase=PASSPHRASE, luks_secret=SECRET), "")
    refuse_unused_passphrase("image demo", spec(), "")


_ODD = (
    None, True, -1, 0, 7, 1 << 70, 0.5, float("nan"), "", " ", "\0", "é", "yes", "vda", "/x", "raw", "1" * 5000, [],
    ["x"], [[]], [{}], [{"path": "/x"}], {}, {"a": {}}, {5: "x"}, b"x", *STATES, SECRET,
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*KEYS]), st.sampled_from(_ODD)), max_size=4).map(dict))
def test_whatever_an_item_says_it_is_a_spec_or_refused(item: dict[str, Any]) -> None:
    try:
        found = spec_of({"name": "demo", **item})
    except InvalidValue as error:
        assert "image" in error.asked and error.found
    else:
        # What was read once reads the same again.
        assert found == spec_of({"name": "demo", **item})
        assert found.state in STATES


# -- what is added to an image ----------------------------------------------------------------------------------------


def recipe(**values: Any) -> Recipe:
    found = spec(**{"from": "base"}, **values).recipe
    assert found is not None
    return found


def test_an_image_from_another_has_a_recipe_even_if_it_adds_nothing() -> None:
    assert recipe() == Recipe()
    assert spec(clone_of="base").recipe is None
    # Lists of nothing say nothing.
    assert spec(size=4, packages=[], files=None, commands=()).recipe is None


def test_a_recipe_has_its_packages_files_and_commands_in_order() -> None:
    content = base64.b64encode(b"\0binary").decode()
    found = recipe(
        packages=["nginx", "libc6:amd64", "/srv/own.deb", {"name": "sent.rpm", "content_base64": content}],
        files=[
            {"path": "/etc/motd", "content": "grüezi"},
            {"path": "/etc/x", "content_base64": content, "mode": "0600", "owner": "root:adm"},
            {"path": "/etc/y", "src": "/srv/y", "mode": 0o755, "owner": 1000},
            {"path": "/etc/z", "src": "/srv/z", "mode": None, "owner": None},
        ],
        commands=["systemctl enable nginx", "true"],
    )
    assert found == Recipe(
        packages=("nginx", "libc6:amd64", "/srv/own.deb"),
        sent=(Addition(path="sent.rpm", content=b"\0binary"),),
        files=(
            Addition(path="/etc/motd", content="grüezi".encode(), mode=0o644, owner="0:0"),
            Addition(path="/etc/x", content=b"\0binary", mode=0o600, owner="root:adm"),
            Addition(path="/etc/y", src="/srv/y", mode=0o755, owner="1000"),
            Addition(path="/etc/z", src="/srv/z", mode=0o644, owner="0:0"),
        ),
        commands=("systemctl enable nginx", "true"),
    )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"packages": "nginx"}, ["packages: it is a str", "Give a list"]),
        ({"packages": [5]}, ["packages: one of them is no text"]),
        ({"packages": ["a b"]}, ["packages: 'a b'", "no name of a package"]),
        ({"packages": ["-y"]}, ["packages: '-y'"]),
        ({"packages": ["/srv/x.zip"]}, ["packages: /srv/x.zip", "no .deb, .rpm or .apk"]),
        ({"packages": [{"name": "x.deb"}]}, ["packages: one of them is a dict", "Give names, or paths"]),
        ({"packages": [{"name": "../x.deb", "content_base64": ""}]}, ["packages: one of them is a dict"]),
        ({"packages": [{"name": "x.zip", "content_base64": ""}]}, ["no .deb, .rpm or .apk"]),
        ({"packages": [{"name": "x.deb", "content_base64": "§"}]}, ["packages: x.deb: content_base64", "not base64"]),
        ({"commands": ["true", " "]}, ["commands: one of them is no text", "Give each as text"]),
        ({"commands": ["a\0b"]}, ["commands: it holds a NUL character"]),
        ({"files": ["/etc/motd"]}, ["files[0]: it is a str", "Give a dict with path, content,"]),
        ({"files": [{"path": "/a", "conten": ""}]}, ["files[0]: key 'conten'", "Did you mean 'content'?", "Known are"]),
        ({"files": [{"path": "etc/motd", "content": ""}]}, ["path 'etc/motd': it is no full path", "As /etc/motd"]),
        ({"files": [{"path": "/", "content": ""}]}, ["path '/': it is no full path"]),
        ({"files": [{"path": "/etc/../x", "content": ""}]}, ["path '/etc/../x'"]),
        ({"files": [{"path": "/etc/x/", "content": ""}]}, ["path '/etc/x/'"]),
        ({"files": [{"path": "/a"}]}, ["its content is not given, or twice", "Give content or src"]),
        ({"files": [{"path": "/a", "content": "", "src": "/b"}]}, ["its content is not given, or twice"]),
        ({"files": [{"path": "/a", "src": "b"}]}, ["src b: it is not absolute", "full path on the front-end"]),
        ({"files": [{"path": "/a", "content_base64": "%"}]}, ["content_base64: it is not base64"]),
        ({"files": [{"path": "/a", "content": "", "mode": "rw"}]}, ["mode 'rw': it is no mode", "'0644', in quotes"]),
        ({"files": [{"path": "/a", "content": "", "mode": 0o10000}]}, ["it is no mode of a file"]),
        ({"files": [{"path": "/a", "content": "", "mode": True}]}, ["mode True"]),
        ({"files": [{"path": "/a", "content": "", "mode": float("inf")}]}, ["mode inf: it is no mode of a file"]),
        ({"files": [{"path": "/a", "content": "", "mode": 1.5}]}, ["mode 1.5: it is no mode", "'0644', in quotes"]),
        ({"files": [{"path": "/a", "content": "", "owner": "a:b:c"}]}, ["owner 'a:b:c'", "As root, or root:adm"]),
        ({"files": [{"path": "/a", "content": "", "owner": "-R"}]}, ["owner '-R'"]),
        ({"files": [{"path": "/a", "content": ""}, {}]}, ["files[1]: path ''"]),
    ],
)
def test_additions_that_can_not_be_are_refused(keys: dict[str, Any], words: list[str]) -> None:
    said = refusal(**{"from": "base"}, **keys)
    assert [word for word in words if word not in said] == [], said
    assert said.startswith("image demo: ")


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 0o7777))
def test_a_file_arrives_with_its_bytes_and_mode(content: bytes, mode: int) -> None:
    for written in (mode, f"{mode:04o}"):
        entry = {"path": "/x", "content_base64": base64.b64encode(content).decode(), "mode": written}
        assert recipe(files=[entry]).files == (Addition(path="/x", content=content, mode=mode),)
