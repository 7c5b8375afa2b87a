# Copyright: (c) 2026, nebula.provision contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A site whose playbooks run as AWX runs them: the job templates of role awx, started by ansible-runner as somebody who
is not root, in a process namespace that ends with the job, over ssh, with an empty home that nobody can write to.

What AWX does around ansible-runner is done here in its way: answers of surveys and what it says of itself become extra
variables that are no templates, those of the job template are; defaults of surveys are filled in; credentials become
files, variables of the environment and extra variables by the injectors of their type; the inventory is a script that
prints JSON."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from canaries import Canaries, job_events
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ansible_collections.nebula.provision.plugins.plugin_utils.surveys import job_templates
from ansible_collections.nebula.provision.tests.integration.kvm_node import wait_for
from ansible_collections.nebula.provision.tests.integration.ordinary_login import a_login
from ansible_collections.nebula.provision.tests.integration.site_runs import ROOT, Case

INVENTORY = "the site"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PLACES = ("web_password", "another")
# What the image of an execution environment and AWX itself set.
AWX_SETS = {
    "ANSIBLE_FORCE_COLOR": "True", "ANSIBLE_HOST_KEY_CHECKING": "False", "ANSIBLE_RETRY_FILES_ENABLED": "False",
    "ANSIBLE_UNSAFE_WRITES": "1", "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True", "LC_ALL": "C.UTF-8",
}  # fmt: skip


class _Loader(yaml.SafeLoader):
    """Reads !unsafe as the text that it is."""


_Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))  # type: ignore[no-untyped-call]


class _Unsafe(str):
    """A text that Ansible is not to take for a template."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))


def role_data() -> dict[str, Any]:
    """The variables of role awx that are no templates of its own."""
    return dict(yaml.load((ROOT / "roles/awx/vars/main.yml").read_text(), Loader=_Loader))


def unsafe(value: Any) -> Any:
    if isinstance(value, str):
        return _Unsafe(value)
    if isinstance(value, Mapping):
        return {unsafe(key): unsafe(each) for key, each in value.items()}
    return [unsafe(each) for each in value] if isinstance(value, list) else value


class _Names(dict[str, str]):
    """Files of a credential by their labels, as templates of injectors name them."""

    __getattr__ = dict.__getitem__


class Job:
    """A job that was started. place: what ansible-runner was given, and what it left."""

    def __init__(self, name: str, place: Path, process: subprocess.Popen[bytes]) -> None:
        self.name, self.place, self.process = name, place, process

    def ended(self) -> Job:
        self.process.wait(timeout=500)
        return self

    def cancel(self) -> None:
        """The container goes, and all that is in it. What was begun on a host goes on."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @property
    def output(self) -> str:
        kept = self.place / "artifacts/1/stdout"
        text = (self.place / "log").read_text() + (kept.read_text() if kept.exists() else "")
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    @property
    def events(self) -> list[dict[str, Any]]:
        return job_events(self.place / "artifacts")

    @property
    def statistics(self) -> dict[str, Any]:
        """The last event: ok, changed, … by host, and artifact_data, which AWX shows as the job's artifacts."""
        return next((e["event_data"] for e in self.events if e["event"] == "playbook_on_stats"), {})

    @property
    def artifacts(self) -> dict[str, Any]:
        return dict(self.statistics.get("artifact_data", {}))

    @property
    def changed(self) -> int:
        return sum(dict(self.statistics["changed"]).values())

    def successful(self) -> Job:
        self.ended()
        assert self.process.returncode == 0, f"{self.name}: {self.output}"
        assert "WARNING" not in self.output, f"{self.name}: {self.output}"
        return self

    def failed(self, *texts: str) -> Job:
        self.ended()
        assert self.process.returncode != 0, f"{self.name}: {self.output}"
        for text in texts:
            assert text in self.output, f"{text} in\n{self.output}"
        return self


class Team(Case):
    """login: how the host is reached. secrets: those of the credential, by their names."""

    def __init__(self, login: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        super().__init__()
        self.login, self.number = dict(login), 0
        data = role_data()
        self.job_templates = {
            item["name"]: item
            for item in job_templates.job_templates(
                data["__nebula_awx_job_templates"], "", data["__nebula_awx_options"]
            )
        }
        self.types = {kind["name"]: kind["injectors"] for kind in data["__nebula_awx_types"]}
        self.secrets = "".join(f"{name}: {value}\n" for name, value in secrets.items())
        self.place = self.directory / "awx"
        self.project = self.place / "project"
        shutil.copytree(ROOT / "roles/project/files/project", self.project)
        # A list of the inventory would go over that of the site.
        shutil.rmtree(self.project / "inventory")
        (self.project / "small.raw").write_bytes(b"\0" * (1 << 20))
        (self.project / "collections/ansible_collections/nebula").mkdir(parents=True)
        (self.project / "collections/ansible_collections/nebula/provision").symlink_to(ROOT)
        self.home = self.place / "home"
        self.home.mkdir(mode=0o555)
        # A volume of the container, as docs/awx.md has it.
        self.payloads = self.place / "volume/payloads"
        self.payloads.mkdir(parents=True)
        for path in (self.payloads, self.payloads.parent):
            os.chown(path, 4711, 4711)

    def job(
        self, name: str, *, check: bool = False, groups: Mapping[str, list[str]] | None = None, **answers: Any
    ) -> Job:
        """Start the job template of that name. groups: of the inventory. answers: to its survey, by their variables."""
        self.number += 1
        template, private = self.job_templates[name], self.place / f"job{self.number}"
        for directory in ("env", "inventory", "cp"):
            (private / directory).mkdir(parents=True)
        (private / "project").symlink_to(self.project)
        given = {
            each["variable"]: each["default"]
            for each in template["survey_spec"].get("spec", [])
            if each["default"] != ""
        }
        known = [each["variable"] for each in template["survey_spec"].get("spec", [])]
        assert set(answers) <= set(known), f"{name} does not ask for {set(answers) - set(known)}"
        said = unsafe({**given, **answers, **self._of_itself(name)})
        (private / "env/extravars").write_text(yaml.dump({**said, **template["extra_vars"]}, Dumper=_Dumper))
        options = [*self._credentials(private), *(["--check"] if check else [])]
        options += ["--tags", template["job_tags"]] if template["job_tags"] else []
        script = private / "inventory/hosts"
        script.write_text(f"#!/usr/bin/python3\nprint({json.dumps(self._hosts(groups))!r})\n")
        script.chmod(0o700)
        (private / "env/cmdline").write_text(" ".join(options))
        environment = {**self._environment(private), "ANSIBLE_SSH_CONTROL_PATH_DIR": str(private / "cp")}
        command = [*_in_a_container(private), sys.executable, "-m", "ansible_runner", "run", str(private)]
        command += ["-p", template["playbook"], "--ident", "1"]
        with (private / "log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=private, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        return Job(name, private, process)

    def source(self) -> tuple[dict[str, Any], str]:
        """Update the inventory from machines.nebula.yml: the list, and what was printed besides. An update of AWX gets
        of a credential the environment alone, and no place for ssh's sockets."""
        self.number += 1
        private = self.place / f"source{self.number}"
        (private / "env").mkdir(parents=True)
        self._credentials(private)
        inputs = self._inputs()["nebula login"] | {"frontend": "one", "become": True}
        said = {"filename": _Names(private_key=str(private / "env/file0"))}
        sandbox = ImmutableSandboxedEnvironment()
        given = {
            name: sandbox.from_string(text).render(**inputs, tower=said)
            for name, text in self.types["nebula login"]["env"].items()
        }
        address = {"ansible_host": self.login["ansible_host"], "ansible_port": self.login["ansible_port"]}
        python = {"ansible_python_interpreter": "/usr/bin/python3"}
        source = private / "machines.nebula.yml"
        source.write_text(
            json.dumps({"plugin": "nebula.provision.nebula", "connection": address | python, "root": str(self.root)})
        )
        program = str(self.programs / "ansible-inventory")
        command = [*_in_a_container(private), program, "-i", str(source), "--list", "--export"]
        environment = {**self._environment(private), **given}
        done = subprocess.run(command, cwd=private, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout)), done.stderr

    def _environment(self, private: Path) -> dict[str, str]:
        return {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "HOME": str(self.home),
            "ANSIBLE_HOME": str(private / ".ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.project / "collections"),
            "NEBULA_KEEP_PAYLOADS": str(self.payloads),
            **AWX_SETS,
        }

    def _inputs(self) -> dict[str, dict[str, Any]]:
        key = Path(self.login["ansible_ssh_private_key_file"]).read_text()
        return {
            "nebula login": {"user": self.login["ansible_user"], "private_key": key},
            "nebula secrets": {"secrets": self.secrets},
        }

    def _of_itself(self, name: str) -> dict[str, Any]:
        said = {"job_id": self.number, "job_launch_type": "manual", "user_name": "admin", "inventory_name": INVENTORY}
        said["job_template_name"] = name
        return {f"{word}_{key}": value for word in ("awx", "tower") for key, value in said.items()}

    def _credentials(self, private: Path) -> list[str]:
        """Write what the injectors say, and return options for ansible-playbook."""
        options = []
        for number, (kind, inputs) in enumerate(self._inputs().items()):
            sandbox, injectors = ImmutableSandboxedEnvironment(), self.types[kind]
            names = _Names()
            for label, text in injectors.get("file", {}).items():
                path = private / f"env/file{number}"
                path.write_text(sandbox.from_string(text).render(**inputs))
                path.chmod(0o600)
                names[label.partition(".")[2]] = str(path)
            variables = {
                name: sandbox.from_string(text).render(**inputs, tower={"filename": names})
                for name, text in injectors.get("extra_vars", {}).items()
            }
            path = private / f"env/variables{number}"
            path.write_text(yaml.dump(unsafe(variables), Dumper=_Dumper))
            path.chmod(0o400)
            options += ["-e", f"@{path}"]
        return options

    def _hosts(self, groups: Mapping[str, list[str]] | None) -> dict[str, Any]:
        kept = ("ansible_connection", "ansible_host", "ansible_port", "ansible_ssh_common_args", "ansible_become")
        how = {key: value for key, value in self.login.items() if key in kept}
        variables = {**self.variables, **how}
        hosts = {"nebula_frontend": ["node1"], "nebula_nodes": ["node1"]} if groups is None else dict(groups)
        every = sorted({name for names in hosts.values() for name in names})
        return {
            **{group: {"hosts": names} for group, names in hosts.items()},
            "all": {"vars": variables},
            "_meta": {"hostvars": {name: {"remote_tower_enabled": "true"} for name in every}},
        }

    def begun(self, job: Job, task: str) -> None:
        """Wait until a task of the job has begun."""
        wait_for(lambda: f"{task}] ***" in job.output, f"task {task}")


def _in_a_container(private: Path) -> list[str]:
    """What goes before a command: it is nobody's but this user's, and ends with its first process, as a container."""
    subprocess.run(["chown", "-R", "-h", "4711:4711", str(private)], check=True)
    isolated = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    return [*isolated, "setpriv", "--reuid", "4711", "--regid", "4711", "--clear-groups", *_reading(), "--"]


def _reading() -> list[str]:
    """Options by which somebody else reads the checkout and its environment where only root can: below root's home."""
    if all(path.stat().st_mode & 0o001 for path in (ROOT, *ROOT.parents)):
        return []
    return ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]


class Jobs(list[Job]):
    """Those of a team."""

    def __init__(self, site: Team) -> None:
        super().__init__()
        self.site = site

    def job(self, name: str, **options: Any) -> Job:
        """Start one, and wait for its end."""
        self.append(self.site.job(name, **options))
        return self[-1].ended()


def rows(job: Job, name: str, *keys: str) -> list[tuple[Any, ...]]:
    """What the job says to the next node of its workflow."""
    return [tuple(row[key] for key in keys) for row in job.artifacts[f"nebula_stats_{name}"]]


@contextlib.contextmanager
def team() -> Iterator[tuple[Team, Jobs]]:
    """A team with one machine in its lists. At the end a job takes all of it away, and nothing that is kept of any of
    its jobs has a secret."""
    canaries = Canaries(**dict.fromkeys(PLACES, 14))
    secret = "{{ lookup('nebula.provision.secret', 'web_password') }}"
    with a_login(Path(os.environ["NEBULA_WORLD"]), PATH) as login:
        site = Team(login, canaries)
        site.variables["nebula_vms"] = [{"name": "web", "template": "web", "context": {"PASSWORD": secret}}]
        jobs = Jobs(site)
        yield site, jobs
        done = jobs.job("tear down", answer_teardown_confirm=INVENTORY).successful()
        assert rows(done, "removed_vms", "name") == [("web",)], done.output
        if site.root.exists():
            # The catalog that gave way to the backup stays with whoever asked for it.
            assert all(path.name.startswith("nebula.db.before-") for path in site.root.iterdir())
            shutil.rmtree(site.root)
        for each in jobs:
            kept = "\n".join(path.read_text() for path in each.place.glob("artifacts/1/**/*") if path.is_file())
            assert "Check the inventory" in kept and canaries.seen(kept + each.output) == {}, each.name
        shutil.rmtree(site.place)
