"""The compose files: read by the specification, and as true of the gateway and its image as they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import compose_spec
import pytest
import yaml
from tests.deploy.dockerfile import DOCKERFILE, read

from headgate.cli.root import cli
from headgate.config import Config, ServeOptions, load
from headgate.settings.upstreams import ConfigError

DEPLOY = Path(__file__).parents[2] / "deploy"
ONE = DEPLOY / "compose.yaml"
FILES = sorted(DEPLOY.glob("compose*.yaml"))


def test_yaml_is_as_yaml_should_be() -> None:
    linter = Path(sys.executable).with_name("yamllint")
    done = subprocess.run([linter, "--strict", "."], cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def faults(text: str) -> Iterator[str]:
    """Yield what is wrong with a compose file."""
    text = re.sub(r"\$\{\w+:[-?]([^}]*)\}", r"\1", text)  # as Compose fills it in before it reads
    document = yaml.safe_load(text)
    try:
        compose_spec.PyCompose.from_json(json.dumps(document)).validate()
    except ValueError as fault:
        yield str(fault)
        return
    for name, service in document["services"].items():
        if service["image"].startswith("headgate:"):
            yield from (f"{name}: {said}" for said in _of_ours(service))
        yield from (f"{name}: {said}" for said in _of_any(service, document))
    yield from _of_all(document["services"])


def _of_all(services: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong between replicas, and with what they are reached by."""
    ours = [service for service in services.values() if service["image"].startswith("headgate:")]
    if len(ours) == 1:
        return
    names = [service["environment"]["HEADGATE_NODE"] for service in ours]
    journals = [service["volumes"][0].split(":")[0] for service in ours]
    if len({*names}) < len(ours) or len({*journals}) < len(ours):
        yield "two replicas have one name, or one journal"
    if any(f"files:{_settings_of(service).files.storage}" not in service["volumes"] for service in ours):
        yield "a file that is brought to one replica is missing at another"
    upstreams = re.findall(
        r"^ *server ([\w-]+:\d+)", (DEPLOY / "proxy/balancer.conf").read_text(), re.MULTILINE
    )
    reached = {
        f"{name}:8787" for name, service in services.items() if service.get("command", "")[:1] == ["serve"]
    }
    if set(upstreams) != reached:
        yield f"the balancer knows {upstreams}"
    listens = re.findall(r"listen (\d+)", (DEPLOY / "proxy/balancer.conf").read_text())
    if [port.split(":")[-1] for port in services["balancer"]["ports"]] != listens:
        yield f"the balancer listens at {listens}"


def _of_any(service: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    if "limits" not in service.get("deploy", {}).get("resources", {}):
        yield "may take the whole machine"
    if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", ()):
        yield "has more rights than it needs"
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        if source.startswith("."):
            if not (DEPLOY / source).exists():
                yield f"mounts {source}, which does not exist"
        elif source not in document.get("volumes", {}):
            yield f"mounts {source}, which is no volume"


def _of_ours(service: dict[str, Any]) -> Iterator[str]:
    final = read(DOCKERFILE.read_text("utf-8"))[-1]
    try:
        config = _settings_of(service)
    except (click.ClickException, ConfigError) as fault:
        yield str(fault)
        return
    if not service.get("read_only"):
        yield "its root file system can be written"
    if final.last["VOLUME"] not in [volume.split(":")[1] for volume in service.get("volumes", ())]:
        yield "its books go with the container"
    if config.server.host != "0.0.0.0":
        yield "listens for itself alone"
    served = {str(config.server.port), str(config.server.monitor_port)}
    published = {port.split(":")[-1] for port in service.get("ports", ())}
    if not published <= served:
        yield f"publishes {published}, and listens at {served}"
    grace = float(re.fullmatch(r"(\d+)s", service["stop_grace_period"])[1])  # type: ignore[index]
    if grace < config.server.leave_s + config.server.drain_s + 15:
        yield "is killed before its calls have ended"
    owned = {word for _, step in final.steps if "install --directory" in step for word in step.split()}
    if config.files.storage and config.files.storage not in owned:
        yield "cannot write the files' volume: it is root's"
    program = final.words("HEALTHCHECK")[-1]
    if f", {config.server.port}," not in program:
        yield "its health check asks at another port"


def _settings_of(service: dict[str, Any]) -> Config:
    """Return the settings that a service is started with. Raises ClickException, ConfigError: they are wrong."""
    command, *words = service["command"]
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    given = found.make_context(command, list(words)).params
    mounted = {target: source for source, target, *_ in (volume.split(":") for volume in service["volumes"])}
    path = str(DEPLOY / mounted[given["config_file"]])
    return load(
        ServeOptions(host=given["host"], config=path, env_file=""), {"HEADGATE_QUEUE": "amqp://rabbitmq"}
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_compose_file_says_what_is_true(path: Path) -> None:
    assert list(faults(path.read_text("utf-8"))) == []


MUTANTS = {
    "a key that does not exist": ("    read_only: true", "    readonly: true"),
    "a port that nobody listens at": ("127.0.0.1:8787:8787", "127.0.0.1:8787:8080"),
    "a file that is not there": ("./headgate.toml:/etc", "./gateway.toml:/etc"),
    "a volume that is not declared": ("- books:/data", "- ledger:/data"),
    "books in the container": ("- books:/data", "- books:/var/data"),
    "a grace that is too short": ("stop_grace_period: 90s", "stop_grace_period: 10s"),
    "a listener for itself": ("--host, 0.0.0.0", "--host, 127.0.0.1"),
    "an option that serve does not have": ("--config,", "--settings,"),
    "rights that it does not need": ("cap_drop: [ALL]", "cap_drop: [NET_RAW]"),
    "the whole machine": ("        limits:", "        reservations:"),
}  # fmt: skip


FULL = {
    "one journal for two": ("journal-2:/data", "journal-1:/data"),
    "files of its own": ("journal-2:/data\n      - files:/files", "journal-2:/data"),
    "files in another folder": ("      - files:/files", "      - files:/srv/files"),
    "one name for two": ("HEADGATE_NODE: headgate-2", "HEADGATE_NODE: headgate-1"),
    "a replica that the balancer does not know": ("  headgate-2:\n", "  headgate-3:\n"),
    "another port of the balancer": ("127.0.0.1:8787:8080", "127.0.0.1:8787:80"),
    "a secret that is not declared": ("source: pepper", "source: salt"),
    "a health check of no form": ("test: [CMD, pg_isready", "tests: [CMD, pg_isready"),
}


@pytest.mark.parametrize(("text", "instead"), FULL.values(), ids=FULL)
def test_a_planted_mistake_in_the_full_one_is_found(text: str, instead: str) -> None:
    before = (DEPLOY / "compose.full.yaml").read_text("utf-8")
    assert text in before
    assert list(faults(before.replace(text, instead)))


@pytest.mark.parametrize(("text", "instead"), MUTANTS.values(), ids=MUTANTS)
def test_a_planted_mistake_is_found(text: str, instead: str) -> None:
    before = ONE.read_text("utf-8")
    assert text in before
    assert list(faults(before.replace(text, instead)))
