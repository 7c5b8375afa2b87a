# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.errors import InvalidValue
from ansible_collections.nebula.provision.plugins.module_utils.host import restricted_directories
from ansible_collections.nebula.provision.plugins.module_utils.host.restricted_directories import Rules

# What somebody would like to have on an ISO, or as the disk of a machine.
SECRETS = (
    "/etc/shadow",
    "/etc/libvirt/qemu/one-7.xml",
    "/etc/libvirt/secrets/7b3a5d1c.base64",
    "/run/libvirt/qemu/one-7.xml",
    "/run/xen/qmp-libxl-7",
    "/run/user/1000/keyring",
    "/var/lib/libvirt/qemu/save/one-7.save",
    "/var/lib/libvirt/swtpm/0/tpm2-00.permall",
    "/var/lib/xen/save/one-7",
    "/var/log/libvirt/qemu/one-7.log",
    "/proc/1/environ",
    "/sys/kernel/security/x",
    "/dev/mem",
)


@pytest.mark.parametrize("path", SECRETS)
def test_what_a_host_keeps_gets_into_no_machine(path):
    with pytest.raises(InvalidValue, match=r"restricted.*safe_dirs") as caught:
        Rules().refuse(f"FILES: {path}", path)
    assert caught.value.asked == f"FILES: {path}"
    with pytest.raises(InvalidValue, match=r"OS/KERNEL.*restricted.*safe_dirs \(nebula_safe_dirs\)"):
        Rules().refuse_medium(f"OS/KERNEL = {path}", path)


def test_var_run_is_run():
    """Where it is a link, as everywhere; its target is what is compared."""
    if not os.path.islink("/var/run"):
        pytest.skip("/var/run is no link here")
    for path in ("/var/run/libvirt/x", "/var/run/../run/libvirt/x"):
        with pytest.raises(InvalidValue, match="/run/libvirt/x is below /run"):
            Rules().refuse_medium("image x", path)


@pytest.mark.parametrize(
    "path", ["/srv/a.iso", "/boot/vmlinuz", "/usr/share/OVMF/OVMF_CODE.fd", "/home/user/a.qcow2", "/etcetera"]
)
def test_what_is_anywhere_else_is_taken(path):
    Rules().refuse("FILES: x", path)
    Rules().refuse_medium("image x", path)


@pytest.mark.parametrize("media", restricted_directories._MEDIA)
def test_where_distributions_keep_images(media):
    path = f"{media}/a.qcow2"
    Rules().refuse_medium("image x", path)
    # What lies there is another machine's, and a file of a context is not an image.
    with pytest.raises(InvalidValue, match="is restricted"):
        Rules().refuse("FILES: x", path)
    # Somebody who names it means it.
    for named in (media, f"{media}/"):
        with pytest.raises(InvalidValue, match=f"below {media}, which is restricted"):
            Rules(["/etc", named]).refuse_medium("image x", path)


def test_links_are_followed(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "link").symlink_to("secret")
    rules = Rules([str(tmp_path / "secret")])
    with pytest.raises(InvalidValue, match="secret/x is below"):
        rules.refuse_medium("image x", str(tmp_path / "link/x"))
    with pytest.raises(InvalidValue, match="secret/x is below"):
        Rules([str(tmp_path / "link")]).refuse("FILES: x", str(tmp_path / "secret/x"))
    Rules([str(tmp_path / "secret")], [str(tmp_path / "link")]).refuse_medium("image x", str(tmp_path / "secret/x"))


@pytest.mark.parametrize("option", ["restricted_dirs", "safe_dirs"])
def test_an_option_names_directories_from_the_root_on(option):
    with pytest.raises(InvalidValue, match=f"option {option}: 'etc'"):
        Rules(**{option.partition("_")[0]: ["etc"]})


@pytest.mark.parametrize("mark", ["nebula.db", "nebula.node"])
def test_what_another_catalog_or_node_keeps(tmp_path, mark):
    other = tmp_path / "other"
    (other / "datastores/0/7").mkdir(parents=True)
    (other / mark).touch()
    for path in (other / mark, other / "datastores/0/7/disk.1", other / "x"):
        for refuse in (Rules().refuse, Rules(own=str(tmp_path / "own")).refuse_medium):
            with pytest.raises(InvalidValue, match=f"below {other}, which is the nebula_root of"):
                refuse("it", str(path))
        # One that is left behind, say.
        Rules(safe=[str(other)]).refuse("it", str(path))
    Rules().refuse("it", str(tmp_path / "x"))


def test_a_mark_that_another_user_made_counts_for_nothing(tmp_path, monkeypatch):
    (tmp_path / "nebula.db").touch()
    real = os.lstat

    class Somebodys:
        st_uid = 4711

    monkeypatch.setattr(os, "lstat", lambda path: Somebodys() if str(path).endswith("nebula.db") else real(path))
    Rules().refuse("it", str(tmp_path / "x"))


@pytest.mark.parametrize(
    ("inside", "taken"),
    [
        ("demo.qcow2", True),
        ("images/a.iso", True),
        ("datastores/1/0123456789abcdef", True),
        ("datastores/12/kernel", True),
        ("cache/7b3a5d1c-1", True),
        ("cache/own-7b3a5d1c-1", True),
        ("cache/context-0123", False),
        ("datastores/0/7/disk.1", False),
        ("datastores/0/7/deployment.0", False),
        ("datastores/1/deeper/x", False),
        ("files/0123", False),
        ("boot/7b3a5d1c/networks.sh", False),
        ("transfer/key", False),
        ("nebula.db", False),
        ("nebula.db-wal", False),
        ("nebula.node", False),
        (".nebula.db.copying", False),
    ],
)
def test_of_nebula_root_only_images_and_what_a_user_put_there(tmp_path, inside, taken):
    (tmp_path / "nebula.db").touch()
    rules = Rules(own=str(tmp_path), safe=[str(tmp_path)])
    path = str(tmp_path / inside)
    if taken:
        rules.refuse_medium("image x", path)
        return
    with pytest.raises(InvalidValue, match=r"image x.*nebula\.provision keeps in its nebula_root"):
        rules.refuse_medium("image x", path)


def test_machines_on_another_disk(tmp_path):
    (tmp_path / "root/datastores").mkdir(parents=True)
    (tmp_path / "disk/7").mkdir(parents=True)
    (tmp_path / "root/datastores/0").symlink_to(tmp_path / "disk")
    rules = Rules(own=str(tmp_path / "root"))
    for path in (tmp_path / "root/datastores/0/7/disk.0", tmp_path / "disk/7/disk.0"):
        with pytest.raises(InvalidValue, match="keeps in its nebula_root"):
            rules.refuse_medium("image x", str(path))


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/root", "/usr/local/bin", "/var", "/var/lib/libvirt/images", "/var/spool/cron", "/home/ann"]
)
def test_a_guest_that_writes_as_root_gets_nothing_that_the_host_lives_on(path):
    with pytest.raises(InvalidValue, match="restricted"):
        Rules().refuse_directory(f"DISK/SOURCE = {path}", path)


def test_directories_that_a_guest_may_have(tmp_path):
    rules = Rules(safe=["/home/shared", str(tmp_path)], own=str(tmp_path / "nebula"))
    for path in ("/srv", "/mnt/data", "/home/shared/a", str(tmp_path / "other")):
        rules.refuse_directory("a", path)
    # Whatever is called safe, a nebula_root is not.
    for path in (tmp_path, tmp_path / "nebula", tmp_path / "nebula/datastores/0"):
        with pytest.raises(InvalidValue, match="nebula"):
            rules.refuse_directory("a", str(path))
