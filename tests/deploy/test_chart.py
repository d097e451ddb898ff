"""The Helm chart: rendered by Helm itself, valid in every version of Kubernetes that it names, and true of a gateway."""

from __future__ import annotations

import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.conftest import Gateway

from headgate import __version__

pytestmark = pytest.mark.helm
helm = pytest.importorskip("helm_python.chart", reason="left out, needs helm-python-sdk")
chart = pytest.importorskip("tests.deploy.chart")
DEFAULTS: Mapping[str, Any] = {}


@pytest.mark.parametrize("values", [DEFAULTS, chart.EVERYTHING], ids=["defaults", "everything"])
def test_it_is_valid_and_its_parts_fit_one_another(values: Mapping[str, Any], tmp_path: Path) -> None:
    report = helm.lint(chart.CHART, dict(values), strict=True)
    documents = chart.render(values=values)

    assert [one["error"] for one in report["messages"] if one["severity"] > 1] == []
    assert list(chart.invalid(documents)) == []
    assert list(chart.wrong(documents, tmp_path)) == []


def test_everything_that_can_be_switched_on_is_there() -> None:
    plain, full = (
        {one["kind"] for one in chart.render(values=values)} for values in (DEFAULTS, chart.EVERYTHING)
    )

    assert full - plain == {"Ingress", "ServiceMonitor", "Secret", "HorizontalPodAutoscaler"}
    assert {"StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy", "ConfigMap"} <= plain


def test_its_version_of_the_gateway_is_this_one() -> None:
    with helm.Chart.load(chart.CHART) as loaded:
        assert loaded.metadata["appVersion"] == __version__


@pytest.mark.parametrize("role", ["serve", "worker"])
def test_a_pod_runs_a_command_that_there_is(role: str) -> None:
    values = {"role": role, "storage": {"filesClaim": "shared"}}
    assert chart.command(chart.render(values=values))[:2] == [role, "--config"]


def test_pods_that_share_files_in_a_bucket_need_no_claim(tmp_path: Path) -> None:
    bucket = '[files]\nstorage = "s3://bucket/headgate"\nkey_id = "AKIA"\nkey = "secret"\nsession = ""\n'
    documents = chart.render(values={"role": "worker", "config": bucket})
    assert chart.settings(documents, tmp_path).files.storage == "s3://bucket/headgate"
    assert list(chart.wrong(documents, tmp_path)) == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": 2}, "storage.database"),
        ({"autoscaling": {"enabled": True}}, "storage.pepperSecret"),
        ({"replicas": 2, "storage": {"database": "postgresql://a/b", "pepperSecret": "c"}}, "filesClaim"),
        ({"role": "worker"}, "filesClaim"),
        ({"storage": {"database": "postgresql://headgate:pw@a/b"}}, "storage.database: its password"),
        ({"storage": {"redis": "redis://:pw@cache"}}, "storage.redis: its password"),
        ({"storage": {"queue": "amqp://a:pw@b/"}}, "storage.queue: its password"),
        ({"role": "worker", "config": "# [files] storage = 's3://b'\n[files]\nfile_mb = 1\n"}, "filesClaim"),
        ({"storage": {"filesClaim": "c"}, "config": "[files]\nfile_mb = 1\n"}, "data/files"),
        ({"replica": 1}, "replica"),
        ({"role": "work"}, "role"),
        ({"server": {"port": "http"}}, "/server/port"),
        ({"storage": {"size": "10 GB"}}, "/storage/size"),
        ({"config": "[server]\nport = 1\n"}, "written by the chart"),
        ({"config": "  [storage]\n"}, "written by the chart"),
        ({"ingress": {"enabled": True}}, "ingress.host"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        chart.render(values=values)


MUTANTS = {
    "a port that it does not listen on": ("port: {{ int .Values.server.monitorPort }}, targetPort: monitor", "port: 1, targetPort: metrics"),
    "a container port of its own": ("containerPort: {{ int .Values.server.port }}", "containerPort: 8000"),
    "a grace that is too short": ("terminationGracePeriodSeconds: {{ add", "terminationGracePeriodSeconds: 30 # {{ add"),
    "a budget that guards other pods": ("matchLabels: {{- include \"headgate.pods\" . | nindent 6 }}\n", "matchLabels: {a: b}\n"),
    "a field that does not exist": ("maxUnavailable: 1", "maxUnavailabel: 1"),
    "a number where a text belongs": ('path: /healthz', 'path: 7'),
    "a listener for this pod alone": ('host = "0.0.0.0"', 'host = "127.0.0.1"'),
    "a folder that is not mounted": ("mountPath: /data", "mountPath: /var/data"),
    "a root file system that can be written": ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
    "a policy that leaves the metrics out": ("- { protocol: TCP, port: monitor }", "- { protocol: TCP, port: http }"),
    "files beside the claim": ("mountPath: /data/files", "mountPath: /files"),
    "a pepper that is no volume": ("name: pepper\n", "name: salt\n"),
    "a scaler of another set": ("kind: StatefulSet, name: {{ include \"headgate.name\" . }}", "kind: StatefulSet, name: web"),
    "a monitor that reads the callers' service": ("      app.kubernetes.io/component: pods\n", ""),
}  # fmt: skip


@pytest.mark.parametrize(("text", "instead"), MUTANTS.values(), ids=MUTANTS)
def test_a_planted_mistake_is_found(text: str, instead: str, tmp_path: Path) -> None:
    copy = shutil.copytree(chart.CHART, tmp_path / "headgate")
    changed = 0
    for template in copy.rglob("templates/*"):
        before = template.read_text()
        template.write_text(before.replace(text, instead))
        changed += before != template.read_text()
    assert changed

    documents = chart.render(copy, chart.EVERYTHING)
    assert [*chart.invalid(documents), *chart.wrong(documents, tmp_path)]


# ── against a gateway ───────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield where the second listener of a gateway with the chart's settings is, its ports apart."""
    folder = tmp_path_factory.mktemp("chart")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    documents = chart.render(values={"server": {"monitorPort": port, "leaveSeconds": 0}})
    chart.settings(documents, folder)
    text = (folder / "headgate.toml").read_text().replace('"0.0.0.0"', '"127.0.0.1"')
    (folder / "headgate.toml").write_text(text)
    command, *options = chart.container(documents)["args"]
    assert command == "serve"
    given = [word.replace("/etc/headgate", str(folder)) for word in options]
    gateway = Gateway(folder, *given, OPENAI_API_KEY="sk-example")
    yield f"http://127.0.0.1:{port}"
    assert gateway.stop()[0] == 0


def answers(url: str) -> int:
    try:
        return urllib.request.urlopen(url, timeout=5).status
    except urllib.error.HTTPError as fault:
        return fault.code


def test_every_probe_asks_for_what_the_second_listener_answers(base: str) -> None:
    documents = chart.render(values=chart.EVERYTHING)
    paths = {*chart.probes(documents).values()}
    paths |= {one["path"] for one in chart.kind(documents, "ServiceMonitor")[0]["spec"]["endpoints"]}

    assert len(paths) == 3
    assert {path: answers(base + path) for path in paths} == dict.fromkeys(paths, 200)
    assert answers(base + "/livez") == 404  # so a wrong path would be seen
