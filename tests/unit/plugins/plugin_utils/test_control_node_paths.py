# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Relative paths are found beside the inventory, the playbook and in the working directory, in this order, and nothing
is written into a collection."""

from __future__ import annotations

import os

import pytest

from ansible_collections.nebula.provision.plugins.plugin_utils import control_node_paths
from ansible_collections.nebula.provision.plugins.plugin_utils.control_node_paths import FileNotThere, NotWritable


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An installed collection, a user's inventory, playbook and working directory, and what Ansible says of them."""
    own = tmp_path / "ansible_collections/nebula/provision"
    for directory in (
        own / "playbooks",
        own / "roles/image",
        tmp_path / "inventory",
        tmp_path / "play",
        tmp_path / "here",
    ):
        directory.mkdir(parents=True)
    monkeypatch.setattr(control_node_paths, "OWN", own)
    monkeypatch.setattr(control_node_paths.context, "CLIARGS", {"args": ["nebula.provision.site"]})
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def said(project, **more):
    return {
        "inventory_dir": f"{project}/inventory",
        "ansible_inventory_sources": [f"{project}/inventory/hosts.yml"],
        "playbook_dir": f"{project}/play",
        "ansible_search_path": [f"{project}/ansible_collections/nebula/provision/roles/image", f"{project}/play"],
        **more,
    }


def put(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))


def test_the_order_of_the_places(project):
    wanted = [
        project / "inventory/files/a/x", project / "inventory/a/x", project / "play/files/a/x", project / "play/a/x",
        project / "here/files/a/x", project / "here/a/x",
    ]  # fmt: skip
    put(*wanted)
    for path in wanted:
        assert control_node_paths.find("a/x", said(project)) == str(path)
        path.unlink()
    with pytest.raises(FileNotThere):
        control_node_paths.find("a/x", said(project))


def test_the_error_names_the_three(project):
    with pytest.raises(FileNotThere) as caught:
        control_node_paths.find("a/x", said(project))
    assert str(caught.value) == (
        f"is not on the control node: neither beside the inventory ({project}/inventory), nor beside the playbook "
        f"({project}/play), nor in the working directory ({project}/here)"
    )


def test_the_collection_is_no_place_for_the_users_files(project):
    """A playbook of ours runs in the collection, and its roles are there."""
    own = project / "ansible_collections/nebula/provision"
    put(own / "playbooks/x", own / "playbooks/files/x", own / "roles/image/files/x", own / "x")
    variables = said(project, playbook_dir=f"{own}/playbooks")
    with pytest.raises(FileNotThere, match=r"beside the playbook \(which is of this collection\)"):
        control_node_paths.find("x", variables)


def test_a_playbook_that_imports_ours_is_the_users(project, monkeypatch):
    own = project / "ansible_collections/nebula/provision"
    put(project / "play/site.yml", project / "play/images/x")
    monkeypatch.setattr(control_node_paths.context, "CLIARGS", {"args": ["../play/site.yml"]})
    assert (
        control_node_paths.find("images/x", said(project, playbook_dir=f"{own}/playbooks"))
        == f"{project}/play/images/x"
    )


def test_in_a_checkout_the_root_is_a_place_but_not_what_is_run(project, monkeypatch):
    checkout = project / "checkout"
    put(checkout / "site.yml", checkout / "images/x", checkout / "playbooks/y", checkout / "roles/image/files/y")
    monkeypatch.setattr(control_node_paths, "OWN", checkout)
    monkeypatch.setattr(control_node_paths.context, "CLIARGS", {"args": [f"{checkout}/site.yml"]})
    variables = said(project, playbook_dir=f"{checkout}/playbooks", ansible_search_path=[f"{checkout}/roles/image"])
    assert control_node_paths.find("images/x", variables) == f"{checkout}/images/x"
    with pytest.raises(FileNotThere):
        control_node_paths.find("y", variables)


def test_a_role_of_the_users_own_is_nearest(project):
    put(project / "roles/web/files/x", project / "inventory/x")
    variables = said(project, ansible_search_path=[f"{project}/roles/web", f"{project}/roles/web/tasks"])
    assert control_node_paths.find("x", variables) == f"{project}/roles/web/files/x"
    with pytest.raises(FileNotThere, match=rf"neither in {project}/roles/web, {project}/roles/web/tasks, nor beside"):
        control_node_paths.find("y", variables)


@pytest.mark.parametrize(
    ("sources", "directories"),
    [
        (["{0}/inventory/hosts.yml", "{0}/here"], ["inventory", "here"]),
        (["a,b", "{0}/here/hosts"], ["here"]),
        ("{0}/here/hosts", ["here"]),
        (["hosts.yml"], ["here"]),
    ],
)
def test_each_inventory_has_its_directory(project, sources, directories):
    given = [each.format(project) for each in sources] if isinstance(sources, list) else sources.format(project)
    found = control_node_paths._inventories({"ansible_inventory_sources": given})
    assert found == [f"{project}/{each}" for each in directories]


def test_without_an_inventorys_directory(project):
    variables = said(project, inventory_dir=None, ansible_inventory_sources=["localhost,"])
    with pytest.raises(FileNotThere, match=r"beside the inventory \(which is in no directory\)"):
        control_node_paths.find("x", variables)
    with pytest.raises(NotWritable, match="relative to the inventory's directory, and this inventory is in none"):
        control_node_paths.output_directory("backups", variables)


def test_absolute_paths_are_taken_as_they_are(project, monkeypatch):
    put(project / "x")
    monkeypatch.setenv("HOME", str(project))
    for name in (f"{project}/x", "~/x"):
        assert control_node_paths.find(name, {}) == f"{project}/x"
    with pytest.raises(FileNotThere, match=r"^is not on the control node$"):
        control_node_paths.find(f"{project}/y", said(project))


def test_a_directory_is_found_last_and_not_where_a_file_is_wanted(project):
    (project / "inventory/x").mkdir()
    assert control_node_paths.find("x", said(project)) == f"{project}/inventory/x"
    with pytest.raises(FileNotThere):
        control_node_paths.find("x", said(project), only_files=True)
    with pytest.raises(FileNotThere):
        control_node_paths.find(f"{project}/inventory/x", said(project), only_files=True)
    put(project / "here/x")
    assert control_node_paths.find("x", said(project)) == f"{project}/here/x"


# --- what is written -------------------------------------------------------------------------------------------------


def test_outputs_go_below_the_inventory(project):
    assert control_node_paths.output_directory("a/../backups", said(project)) == f"{project}/inventory/backups"
    assert control_node_paths.output_directory(f"{project}/else/where", said(project)) == f"{project}/else/where"
    assert not (project / "inventory/backups").exists() and not (project / "else").exists(), "nothing is made"


@pytest.mark.parametrize(
    ("sources", "directory", "beside"),
    [
        (["inventory"], "inventory", "backups"),
        (["inventory/"], "inventory", "backups"),
        (["inventory"], "inventory/prod", "backups"),
        (["inventory/prod", "inventory"], "inventory/prod", "backups"),
        (["inventory/prod"], "inventory/prod", "inventory/backups"),
        (["inventory/prod/hosts.yml", "inv"], "inventory/prod", "inventory/prod/backups"),
    ],
)
def test_nothing_goes_into_a_directory_that_is_read_as_an_inventory(project, sources, directory, beside):
    put(project / "inventory/prod/hosts.yml", project / "inv/hosts.yml")
    given = [f"{project}/{source}" for source in sources]
    variables = said(project, inventory_dir=f"{project}/{directory}", ansible_inventory_sources=given)
    assert control_node_paths.output_directory("backups", variables) == f"{project}/{beside}"
    # What the user has there is found there.
    put(project / directory / "x")
    assert control_node_paths.find("x", variables) == f"{project}/{directory}/x"


def test_nothing_goes_into_an_installed_collection(project):
    inside = project / "ansible_collections/my/own/inventory"
    inside.mkdir(parents=True)
    (project / "link").symlink_to(inside)
    for directory in (inside, project / "link"):
        variables = said(project, inventory_dir=str(directory))
        with pytest.raises(NotWritable, match=r"in the directory of collection my\.own, which the next installation"):
            control_node_paths.output_directory("backups", variables)
    with pytest.raises(NotWritable, match=r"collection nebula\.provision"):
        control_node_paths.output_directory(f"{project}/ansible_collections/nebula/provision/x", said(project))


def test_what_can_not_be_written_is_said(project, monkeypatch):
    put(project / "inventory/backups")
    with pytest.raises(NotWritable, match=r"can't be made: .*/inventory/backups is no directory"):
        control_node_paths.output_directory("backups/today", said(project))
    monkeypatch.setattr(os, "access", lambda path, _mode: not str(path).endswith("/inventory"))
    with pytest.raises(NotWritable, match=f"nothing can be written to {project}/inventory on the control node"):
        control_node_paths.output_directory("reports", said(project))


def test_a_name_that_begins_with_the_directory_is_not_looked_for_in_one_of_that_name_below(project):
    put(project / "here/files/x", project / "here/files/files/x")
    assert control_node_paths.find("files/x", said(project)) == str(project / "here/files/x")


@pytest.mark.parametrize(
    ("value", "ours"),
    [(True, False), ("Yes", False), (" on ", False), (1, False), ("y", False), (False, True), ("no", True),
     (None, True), ("", True), (0, True), (2, False),
     ("yess", False), ([], False)],
)  # fmt: skip
def test_whose_a_path_is(value, ours):
    assert control_node_paths.is_ours(value) is ours
