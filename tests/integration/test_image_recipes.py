# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image made of another with packages, files and commands added: a real Debian, its own apt, a real appliance."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nebula.provision.plugins.module_utils.engines.embedded.engine import EmbeddedEngine
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.customize import package_network
from ansible_collections.nebula.provision.plugins.module_utils.guest_disk.open import appliance_qemu, guestfish
from ansible_collections.nebula.provision.plugins.module_utils.host import command
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images import image_list_decision
from ansible_collections.nebula.provision.plugins.module_utils.reconcile.images.image_list_decision import Settings
from ansible_collections.nebula.provision.tests.integration.guests import debian

pytestmark = pytest.mark.root
MOTD = "a 'web' server\nof ours \\ $HOME\n"
REPOSITORY = "/srv/repository"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "nebula"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def apply(root):
    def run(*items, check=False):
        engine = EmbeddedEngine(str(root), check_mode=check, create=True)
        try:
            return image_list_decision.apply(engine, items, Settings(check_mode=check))[0][-1]
        finally:
            engine.close()

    return run


@pytest.fixture(scope="module")
def base(apply):
    done = apply({"name": "debian", "path": str(debian.images().disks["sysvinit"]), "remote_src": True})
    assert done.error is None, done.error
    return done.after


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package of our own, whose script says that it ran in the image."""
    top = tmp_path_factory.mktemp("package")
    (top / "tree/DEBIAN").mkdir(parents=True)
    (top / "tree/opt").mkdir()
    (top / "tree/opt/greeting").write_text("from the package\n")
    (top / "tree/DEBIAN/control").write_text(
        "Package: greeting\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n"
        "Description: says hello\n"
    )
    script = top / "tree/DEBIAN/postinst"
    script.write_text(
        '#!/bin/sh\necho "$1" > /opt/configured\n[ -x /usr/sbin/policy-rc.d ] && echo no-start >> /opt/configured\n'
    )
    script.chmod(0o755)
    path = top / "greeting_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", top / "tree", path], check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def repository(package):
    """Files for an image: a repository with the package, and no other that its apt knows."""
    control = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
    content = package.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    index = f"{control}Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {digest}\n"
    return [
        {"path": f"{REPOSITORY}/{package.name}", "src": str(package)},
        {"path": f"{REPOSITORY}/Packages", "content": index},
        {"path": "/etc/apt/sources.list", "content": f"deb [trusted=yes] file:{REPOSITORY} ./\n"},
    ]


def item(package, **values):
    return {
        "name": "web",
        "from": "debian",
        "packages": [str(package)],
        "files": [
            {"path": "/etc/motd", "content": MOTD, "mode": "0600", "owner": "daemon:adm"},
            {"path": "/srv/new/place/data", "content_base64": "AAECAw==", "owner": "7"},
        ],
        "commands": ["echo 'it ran' > /opt/ran", "test -s /opt/greeting\nid -u >> /opt/ran"],
        **values,
    }


def read(image, *paths):
    """What guestfish, which reads the file alone, finds in it."""
    script = "".join(f"cat {path}\necho -----\n" for path in paths)
    script += "".join(f"stat {path}\n" for path in paths)
    environment = {**os.environ, "LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
    command = ["guestfish", "--ro", f"--format={image['format']}", "-a", image["source"], "-i"]
    done = subprocess.run(
        command, input=script, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_packages_files_and_commands(apply, base, package, root):
    predicted = apply(item(package), check=True)
    done = apply(item(package))
    assert done.error is None, done.error
    assert (predicted.is_changed, done.is_changed, done.after["state"]) == (True, True, "READY")
    assert (done.after["format"], done.after["size"], done.after["origin"]) == (
        base["format"],
        base["size"],
        "image debian",
    )
    found = read(done.after, "/etc/motd", "/opt/ran", "/opt/configured", "/opt/greeting", "/var/lib/dpkg/status")
    assert MOTD in found and "it ran\n0\n" in found and "configure\nno-start\n" in found and "from the package" in found
    assert "uid: 1\n" in found and "gid: 4\n" in found and "mode: 33152\n" in found
    assert "Package: greeting" in found
    for check in (True, False):
        assert not apply(item(package), check=check).is_changed
    other = apply(item(package, commands=["true"]))
    assert "it was made with other packages, files or commands" in str(other.error)
    assert Path(base["source"]).stat().st_mode & 0o777 == 0o440
    assert apply({"name": "debian"}).after == base
    assert len(os.listdir(root / "datastores" / "1")) == 2


def test_packages_by_their_names_come_from_the_repositories_of_the_image(apply, base, repository):
    # An item of its own: packages come before files, so from repositories that the image has already.
    stocked = {"name": "stocked", "from": "debian", "files": repository}
    greeted = {"name": "greeted", "from": "stocked", "packages": ["greeting"]}
    assert apply(stocked).error is None
    predicted = apply(greeted, check=True)
    done = apply(greeted)
    assert done.error is None, done.error
    assert (predicted.is_changed, done.is_changed, done.after["state"]) == (True, True, "READY")
    found = read(done.after, "/opt/greeting", "/opt/configured", "/var/log/apt/history.log")
    assert "from the package\n" in found and "configure\nno-start\n" in found
    assert " install greeting\n" in found and "\nInstall: greeting:" in found
    for check in (True, False):
        assert not apply(stocked, greeted, check=check).is_changed
    lacking = apply({**greeted, "name": "lacking", "packages": ["greeting", "nosuch"]})
    assert lacking.after["state"] == "ERROR" and "Unable to locate package nosuch" in str(lacking.error)


def test_an_appliance_with_a_network_reaches_nothing_of_this_host(tmp_path):
    """As where packages are named: what it calls the host, which is the loopback to QEMU, answers no more."""
    (tmp_path / "disk").touch()
    os.truncate(tmp_path / "disk", 1 << 20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        connect = (
            f'for host in 169.254.2.2 10.0.2.2; do timeout 9 bash -c ": < /dev/tcp/$host/{port}" && echo reached; done'
        )
        script = f"run\ndebug sh '{connect}; cat /proc/net/dev'\nshutdown\n"
        with (
            package_network.outward_network("image web") as before,
            guestfish.command_and_environment(str(tmp_path / "disk"), "raw", str(tmp_path), before) as (
                words,
                environment,
            ),
        ):
            settings = {guestfish.SETTINGS: "force_tcg"}
            told = command.run([*words, "--network"], timeout=300, input=script, env={**environment, **settings})
        # In its sandbox, in which it has the network of this host.
        assert appliance_qemu.VARIABLE in environment and not (tmp_path / appliance_qemu.UNKNOWN).exists()
        assert "eth0:" in told.stdout and "reached" not in told.stdout
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_step_that_fails_leaves_an_image_in_error_that_says_why(apply, base, root):
    spec = {"name": "broken", "from": "debian", "commands": ["echo 'no such luck' >&2; exit 3"]}
    done = apply(spec)
    assert done.after["state"] == "ERROR" and "no such luck" in str(done.error)
    assert apply({"name": "debian"}).after["state"] == "READY"
    files = os.listdir(root / "datastores" / "1")
    assert not [name for name in files if "." in name]
    assert not apply({"name": "broken", "state": "enabled"}).is_changed
