"""Alert rules and dashboard: they name what the workers and the driver report."""

import json
import re

import yaml

from pipeline.cluster.metrics import COUNTERS, GAUGES, LABELS, RUN_COUNTERS, RUN_GAUGES
from tests.deployed import DEPLOY, README

TAGS = {f"ray_{name}_total": {*tags, *LABELS} for name, (_, tags) in (COUNTERS | RUN_COUNTERS).items()}
TAGS |= {f"ray_{name}": set(LABELS) for name in GAUGES | RUN_GAUGES}


def check_expression(expression):
    """The metrics and labels of an expression of PromQL exist, and its brackets close."""
    names = re.findall(r"\bray_\w+", expression)
    assert names
    assert set(names) <= set(TAGS), expression
    known = set.union(*(TAGS[name] for name in names))
    for name, matchers in re.findall(r"(ray_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)(?==~|!=|=)", matchers)) <= TAGS[name], expression
    for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert set(re.split(r", ?", labels)) <= known, expression
    for pair in ("()", "[]", "{}"):
        assert expression.count(pair[0]) == expression.count(pair[1])


def test_alert_rules_name_metrics_and_labels_that_exist():
    [rules] = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    assert len({rule["alert"] for rule in rules["rules"]}) == len(rules["rules"]) >= 6
    for rule in rules["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "action"}
        assert "{{ $labels.output }}" in rule["annotations"]["summary"]
        check_expression(rule["expr"])
        assert re.search(r"by \(output, run\)", rule["expr"])  # an alert says which run it means


def test_the_dashboard_lets_one_choose_a_run_and_every_panel_keeps_to_it():
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert set(variables) == {"datasource", *LABELS}
    for name in LABELS:
        assert variables[name]["query"].endswith(f", {name})")
        check_expression(variables[name]["query"])
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            check_expression(target["expr"])
            chosen = re.findall(r'ray_\w+\{[^}]*output=~"\$output", run=~"\$run"\}', target["expr"])
            assert len(chosen) == len(re.findall(r"\bray_\w+", target["expr"])), target["expr"]


def test_what_has_not_run_is_said():
    text = re.sub(r"\s+", " ", README)
    assert "**Neither has been started on AWS or Kubernetes yet.**" in text
    for name in ("cluster.yaml", "iam.yaml", "Dockerfile", "rayjob.yaml", "kueue.yaml", "alerts.yaml", "grafana.json"):
        assert re.search(rf"^\|[^|]*{re.escape(name)}.*\|", README, re.MULTILINE), name
