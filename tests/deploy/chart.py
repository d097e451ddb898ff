"""The Helm chart as a cluster sees it: rendered by Helm's own engine, checked, and asked of a running gateway."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import yaml
from helm_python.chart import Chart

from headgate.cli.root import cli
from headgate.config import Config, ServeOptions, load

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/headgate"
VERSIONS = (
    "1.27",
    "1.31",
    "1.34",
    "1.37",
)  # of Kubernetes: the oldest that the chart names, to the newest known here
OWN = {"ServiceMonitor"}  # kinds that others define
EVERYTHING: Mapping[str, Any] = {
    "workers": 2,
    "replicas": 2,
    "autoscaling": {"enabled": True, "most": 9},
    "ingress": {"enabled": True, "host": "ai.example.com", "tlsSecret": "ai-tls", "className": "nginx"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "secrets": {"values": {"OPENAI_API_KEY": "sk-example"}},
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "networkPolicy": {"callers": [{"podSelector": {"matchLabels": {"app": "web"}}}]},
    "imagePullSecrets": [{"name": "pull"}],
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "priorityClassName": "high",
    "podAnnotations": {"c": "d"},
    "storage": {
        "className": "fast",
        "redis": "redis://cache.ai.svc:6379/0",
        "database": "postgresql://headgate@books.ai.svc:5432/headgate",
        "pepperSecret": "pepper",
        "filesClaim": "shared",
        "queue": "amqp://rabbitmq.ai.svc:5672/",
    },
}

Document = dict[str, Any]


def render(chart: Path = CHART, values: Mapping[str, Any] | None = None) -> list[Document]:
    """Return what the chart makes of values, notes apart."""
    with Chart.load(chart) as loaded:
        texts = loaded.render(dict(values or {}), name="demo", namespace="ai")
    notes = {name for name in texts if name.endswith("NOTES.txt")}
    documents = [one for name, text in texts.items() if name not in notes for one in yaml.safe_load_all(text)]
    return [one for one in documents if one]


def kind(documents: list[Document], wanted: str) -> list[Document]:
    return [one for one in documents if one["kind"] == wanted]


def pod(documents: list[Document]) -> Document:
    return kind(documents, "StatefulSet")[0]["spec"]["template"]


def container(documents: list[Document]) -> Document:
    return pod(documents)["spec"]["containers"][0]


def settings(documents: list[Document], folder: Path) -> Config:
    """Return the settings that a pod would serve with."""
    path = folder / "headgate.toml"
    path.write_text(kind(documents, "ConfigMap")[0]["data"]["headgate.toml"])
    return load(ServeOptions(config=str(path), env_file=""), {})


def command(documents: list[Document]) -> list[str]:
    """Return what a pod runs, if it can be run at all."""
    name, *words = container(documents)["args"]
    found = cli.get_command(click.Context(cli), name)
    assert found is not None, name
    found.make_context(name, list(words))
    return [name, *words]


def invalid(documents: list[Document]) -> Iterator[str]:
    """Yield what some version of Kubernetes would not take."""
    for document in documents:
        for version in VERSIONS if document["kind"] not in OWN else ():
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as fault:
                yield f"{document['kind']} in {version}: {fault}"


def wrong(documents: list[Document], folder: Path) -> Iterator[str]:
    """Yield what is valid, and still would not work."""
    yield from _ports(documents, settings(documents, folder))
    yield from _selectors(documents)
    yield from _rights(documents)


def _ports(documents: list[Document], config: Config) -> Iterator[str]:
    ports = {port["name"]: port["containerPort"] for port in container(documents)["ports"]}
    if ports != {"http": config.server.port, "monitor": config.server.monitor_port}:
        yield f"the pod's ports {ports} are not those of its settings"
    if config.server.host != "0.0.0.0":
        yield "nobody outside the pod can reach it"
    for service in kind(documents, "Service"):
        yield from (
            f"no port {one['targetPort']}"
            for one in service["spec"]["ports"]
            if one["targetPort"] not in ports
        )
    for policy in kind(documents, "NetworkPolicy"):
        named = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        if named != set(ports):
            yield f"the policy lets in to {named}"
    grace = pod(documents)["spec"]["terminationGracePeriodSeconds"]
    if grace < config.server.leave_s + config.server.drain_s + 15:
        yield f"a pod is killed after {grace} s, before its calls have ended and are written down"


def _selectors(documents: list[Document]) -> Iterator[str]:
    labels = pod(documents)["metadata"]["labels"].items()
    spec = kind(documents, "StatefulSet")[0]["spec"]
    selectors = [(one["metadata"]["name"], one["spec"]["selector"]) for one in kind(documents, "Service")]
    selectors += [
        (one["kind"], one["spec"].get("selector", one["spec"].get("podSelector"))["matchLabels"])
        for name in ("StatefulSet", "PodDisruptionBudget", "NetworkPolicy")
        for one in kind(documents, name)
    ]
    yield from (f"{name} selects no pod" for name, wanted in selectors if not wanted.items() <= labels)
    services = {
        one["metadata"]["name"]: one["metadata"]["labels"].items() for one in kind(documents, "Service")
    }
    if spec["serviceName"] not in services:
        yield f"there is no service {spec['serviceName']}"
    for monitor in kind(documents, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [name for name, has in services.items() if wanted <= has]
        if found != [spec["serviceName"]]:
            yield f"the monitor reads {found}"


def _rights(documents: list[Document]) -> Iterator[str]:
    body, one = pod(documents)["spec"], container(documents)
    if not body["securityContext"]["runAsNonRoot"] or not one["securityContext"]["readOnlyRootFilesystem"]:
        yield "it has more rights than it needs"
    volumes = {volume["name"] for volume in body["volumes"]} | {"data"}
    if not {mount["name"] for mount in one["volumeMounts"]} <= volumes:
        yield "mounts what is no volume"
    for scaler in kind(documents, "HorizontalPodAutoscaler"):
        if scaler["spec"]["scaleTargetRef"]["name"] != kind(documents, "StatefulSet")[0]["metadata"]["name"]:
            yield "scales something else"
        if "replicas" in kind(documents, "StatefulSet")[0]["spec"]:
            yield "two things say how many pods there are"
    yield from _files(documents)
    mounts = {mount["mountPath"] for mount in one["volumeMounts"]}
    config = kind(documents, "ConfigMap")[0]["data"]["headgate.toml"]
    if not {tomllib.loads(config)["storage"]["data"], "/tmp", str(Path(one["args"][-1]).parent)} <= mounts:
        yield f"only {mounts} are mounted"


def _files(documents: list[Document]) -> Iterator[str]:
    """Yield where the claim that pods share is not the folder that they keep files in."""
    claims = [
        volume["name"] for volume in pod(documents)["spec"]["volumes"] if "persistentVolumeClaim" in volume
    ]
    mounts = {mount["mountPath"]: mount["name"] for mount in container(documents)["volumeMounts"]}
    told = tomllib.loads(kind(documents, "ConfigMap")[0]["data"]["headgate.toml"]).get("files", {})
    if claims and mounts.get(told.get("storage")) not in claims:
        yield "files are kept beside the claim"


def probes(documents: list[Document]) -> dict[str, str]:
    """Return the path of each probe, all of them at the second listener."""
    one = container(documents)
    found = {name: one[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in found.values()} == {"monitor"}
    return {name: probe["path"] for name, probe in found.items()}
