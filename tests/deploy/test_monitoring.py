"""Alerts and dashboard: checked by Prometheus' own tool, and every name in them against what a gateway exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.surfaces.conftest import Gateway

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"
RULES = FOLDER / "headgate.rules.yaml"
DASHBOARD = ROOT / "deploy/grafana/headgate.json"
OF_PROMETHEUS = {"job", "instance", "le"}  # labels that a scrape adds, or a histogram has
Exposition = dict[str, dict[str, set[str]]]  # metric: its labels: their values


def promtool(*words: str, folder: Path = FOLDER) -> tuple[int, str]:
    done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


# ── by Prometheus' own tool ─────────────────────────────────────────────────────────────────────


@pytest.mark.promtool
@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "--lint-fatal", "headgate.rules.yaml"),
        ("check", "config", "--syntax-only", "scrape.yaml"),
        ("test", "rules", "headgate.rules.test.yaml"),
    ],
    ids=" ".join,
)
def test_prometheus_takes_them_and_they_alert_when_they_should(words: tuple[str, ...]) -> None:
    code, said = promtool(*words)
    assert code == 0, said


MUTANTS = {
    "an alert for a healthy one": ("expr: headgate_ready == 0", "expr: headgate_ready == 1"),
    "an alert that never comes": ("headgate_journal_undrained_bytes > 16e6", "headgate_journal_undrained_bytes > 16e9"),
    "refusals of another kind": (".+_spend_limit_exceeded", "model_not_found"),
    "another share of failures": ("> 0.05", "> 0.5"),
    "what is no expression": ("sum by (job)", "sum bye (job)"),
}  # fmt: skip


@pytest.mark.promtool
@pytest.mark.parametrize(("text", "instead"), MUTANTS.values(), ids=MUTANTS)
def test_a_planted_mistake_fails_the_rules_own_tests(text: str, instead: str, tmp_path: Path) -> None:
    copy = shutil.copytree(FOLDER, tmp_path / "prometheus")
    before = RULES.read_text("utf-8")
    assert text in before
    (copy / RULES.name).write_text(before.replace(text, instead))

    assert promtool("test", "rules", "headgate.rules.test.yaml", folder=copy)[0] != 0


# ── against a gateway ───────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def exposition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exposition]:
    """What a gateway exports that has served, failed and refused calls; its provider is another one."""
    provider = Gateway(tmp_path_factory.mktemp("provider"), command="sim")
    folder = tmp_path_factory.mktemp("monitored")
    (folder / "headgate.toml").write_text(
        f'[[providers]]\nname = "mine"\nkind = "headgate"\nbase_url = "{provider.base}"\n'
        f'api_key = "{provider.key}"\nmodels = ["*"]\n'
        '[prices]\nrows = [{ provider = "mine", model = "*", input = "0.50", output = "1.50" }]\n'
    )
    gateway = Gateway(folder, "--config", "headgate.toml")
    try:
        yield read(asked(gateway))
    finally:
        gateway.stop()
        provider.stop()


def asked(gateway: Gateway) -> str:
    """Return what it exports after a call that was served, one that failed, and one that was refused."""
    made = gateway.command("keys", "create", "--name", "poor", "--cap", "0.000001/month", "--json")
    poor = json.loads(made.stdout)["key"]
    calls = (
        ("gpt-4o-mini", gateway.key, 200),
        ("sim-500", gateway.key, 500),
        ("gpt-4o-mini", poor, 429),
    )
    with httpx.Client(base_url=gateway.base.removesuffix("/v1"), timeout=30) as client:
        for model, key, status in calls:
            body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2000}
            headers = {"authorization": f"Bearer {key}"}
            answer = client.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == status, answer.text
        return client.get("/metrics").text


def read(text: str) -> Exposition:
    names: Exposition = {}
    for family in text_string_to_metric_families(text):
        exported = family.name + "_total" if family.type == "counter" else family.name
        names.setdefault(exported, defaultdict(set))
        for sample in family.samples:
            labels = names.setdefault(sample.name, defaultdict(set))
            for label, value in sample.labels.items():
                labels[label].add(value)
    return names


def expressions() -> Iterator[tuple[str, str]]:
    """Yield where each expression stands, and the expression."""
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def selectors(expression: str) -> Iterator[Any]:
    """Yield what an expression reads."""
    filled = expression.replace("$__rate_interval", "5m").replace("$job", "headgate")
    pending = [promql_parser.parse(filled)]
    while pending:
        node = pending.pop()
        parts = (
            getattr(node, name, None) for name in ("expr", "lhs", "rhs", "param", "vector_selector", "vs")
        )
        pending += [part for part in parts if part is not None]
        pending += list(getattr(node, "args", None) or ())
        if isinstance(node, promql_parser.VectorSelector):
            yield node


def lies(expression: str, exposition: Exposition) -> list[str]:
    """Return what an expression asks for that no gateway exports."""
    found = []
    for selector in selectors(expression):
        labels = exposition.get(selector.name) if selector.name != "up" else {}
        if labels is None:
            found.append(f"no metric {selector.name}")
            continue
        matchers = [m for m in selector.matchers.matchers if m.name not in OF_PROMETHEUS]
        for one in matchers:
            values = labels.get(one.name, set())
            exact = one.op == promql_parser.MatchOp.Equal
            pattern = re.escape(one.value) if exact else one.value
            if not any(re.fullmatch(pattern, value) for value in values):
                found.append(f"{selector.name} has no {one.name} like {one.value!r}, but {sorted(values)}")
    return found


def test_every_metric_and_label_is_one_that_a_gateway_exports(exposition: Exposition) -> None:
    assert exposition["headgate_target_state"]["provider"] == {"mine"}
    asked = list(expressions())

    assert len(asked) > 35
    assert all(list(selectors(expression)) for _, expression in asked)
    found = {where: lies(expression, exposition) for where, expression in asked}
    # Play money is the book of what a simulator answers, and what this test asked for is real.
    assert {where: said for where, said in found.items() if said} == {}


@pytest.mark.parametrize(
    "expression",
    [
        "sum(headgate_call_total)",
        "rate(headgate_calls[5m])",
        "headgate_ready{state='up'} == 0",
        'headgate_refusals_total{code="quota"}',
        "up + headgate_undrained_bytes",
        "histogram_quantile(0.9, rate(headgate_call_seconds_buckets[5m]))",
    ],
)
def test_a_name_that_does_not_exist_is_found(expression: str, exposition: Exposition) -> None:
    assert lies(expression, exposition)


def test_the_alert_on_refusals_for_money_knows_each_code_of_them(exposition: Exposition) -> None:
    rules = dict(expressions())
    pattern = re.search(r'code=~"([^"]+)"', rules["HeadgateRefusesForMoney"])
    page = (ROOT / "src/headgate/admission/reserve.py").read_text("utf-8")
    codes = set(re.findall(r'"(insufficient_quota|\w+_limit_exceeded)"', page))

    assert pattern is not None
    assert len(codes) == 3
    assert all(re.fullmatch(pattern[1], code) for code in codes)
    assert codes & exposition["headgate_refusals_total"]["code"]


def test_the_dashboard_is_one_that_grafana_can_lay_out() -> None:
    board = json.loads(DASHBOARD.read_text("utf-8"))
    panels = board["panels"]
    taken: set[tuple[int, int]] = set()

    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert len({target["refId"] for target in panel.get("targets", ())}) == len(panel.get("targets", ()))
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text("utf-8"))) - {"__rate_interval"}
    assert used == {one["name"] for one in board["templating"]["list"]}
