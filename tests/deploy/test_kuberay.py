"""The Kubernetes objects: the published schemas accept them; their parts fit each other, the scripts, the engine."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from laneway.engine.config import Config

DEPLOY = Path(__file__).parents[2] / "deploy"
TEXT = (DEPLOY / "kuberay.yaml").read_text(encoding="utf-8")
OLDEST = "1.30.0"
COMPONENT = "app.kubernetes.io/component"
GIVEN_BY_KUBERAY = {"head", "block", "address", "node-ip-address"}


@pytest.fixture(scope="module")
def objects() -> dict[tuple[str, str], Any]:
    """(kind, name) -> object."""
    found = list(yaml.safe_load_all(TEXT))
    named = {(each["kind"], each["metadata"]["name"]): each for each in found}
    assert len(named) == len(found)
    return named


def _templates(objects: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """Component -> pod template."""
    ray = objects["RayCluster", "laneway"]["spec"]
    found = [each["spec"]["template"] for (kind, _), each in objects.items() if kind in ("Deployment", "StatefulSet")]
    found += [ray["headGroupSpec"]["template"], *(group["template"] for group in ray["workerGroupSpecs"])]
    return {template["metadata"]["labels"][COMPONENT]: template for template in found}


def _script(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return (arguments of `ray start`, exported settings) of a script."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    command = text[text.index("exec ray start") :].replace("\\\n", " ")
    arguments = dict(re.findall(r"--([\w-]+)(?:=(\S+))?", command))
    return {key: value or "true" for key, value in arguments.items()}, dict(
        re.findall(r"^export (\w+)=(\w+)$", text, re.M)
    )


def test_the_published_schemas_accept_it(objects: dict[tuple[str, str], Any]) -> None:
    """Strictly: an unknown field is an error. The pods inside the RayCluster are judged as pods."""
    for (kind, _), each in objects.items():
        if kind != "RayCluster":
            kubernetes_validate.validate(each, OLDEST, strict=True)
    for component, template in _templates(objects).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": component}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, OLDEST, strict=True)
    with pytest.raises(kubernetes_validate.utils.ValidationError):
        kubernetes_validate.validate({**pod, "spec": {**pod["spec"], "hostnetwork": True}}, OLDEST, strict=True)


def test_the_ray_cluster_has_the_form_of_its_kind(objects: dict[tuple[str, str], Any]) -> None:
    """What a RayCluster must say, with token authentication, the new autoscaler, and a head that runs nothing."""
    ray = objects["RayCluster", "laneway"]
    assert ray["apiVersion"] == "ray.io/v1"
    spec = ray["spec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "laneway-ray"}
    assert (spec["enableInTreeAutoscaling"], spec["autoscalerOptions"]["version"]) == (True, "v2")
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for template in (spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])):
        assert template["spec"]["restartPolicy"] == "Never"
        assert len(template["spec"]["containers"]) == 1
        assert {"livenessProbe", "readinessProbe"} <= set(template["spec"]["containers"][0])


def test_ray_gets_what_the_scripts_give_it(objects: dict[tuple[str, str], Any]) -> None:
    """The same arguments and settings as on machines, where a test runs them; KubeRay adds the rest."""
    spec = objects["RayCluster", "laneway"]["spec"]
    for group, name in ((spec["headGroupSpec"], "ray-head.sh"), (spec["workerGroupSpecs"][0], "ray-worker.sh")):
        arguments, settings = _script(name)
        assert arguments.keys() >= {"block", "disable-usage-stats"}
        assert group["rayStartParams"] == {k: v for k, v in arguments.items() if k not in GIVEN_BY_KUBERAY}
        (container,) = group["template"]["spec"]["containers"]
        own = {each["name"]: each["value"] for each in container["env"]}
        assert own == {k: v for k, v in settings.items() if not k.startswith("RAY_AUTH")}


def test_the_engine_accepts_the_settings(objects: dict[tuple[str, str], Any], tmp_path: Path) -> None:
    """Every variable is one that the code reads; TLS and tokens are on; a drain has its time."""
    data = objects["ConfigMap", "laneway"]["data"]
    (tmp_path / "laneway.toml").write_text('[store]\nurl = "redis://laneway:p@redis:6379/0"\n')
    image = dict(re.findall(r"(LANEWAY_EDGE__\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text(encoding="utf-8")))
    assert set(image) == {"LANEWAY_EDGE__GRPC", "LANEWAY_EDGE__HTTP"}
    config = Config.load(environ={**image, **data, "LANEWAY_CONFIG": str(tmp_path / "laneway.toml")})
    assert (config.runtime.kind, config.auth.mode, config.edge.insecure) == ("ray", "jwt", False)
    pod = _templates(objects)["front"]["spec"]
    (container,) = pod["containers"]
    waits = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= waits + config.limits.drain_s + 10
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > config.runtime.ready_s
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"grpc": config.edge.grpc.port, "https": config.edge.http.port}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "https", "scheme": "HTTPS"}
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    paths = [Path(data["LANEWAY_CONFIG"]), config.edge.tls_cert, config.edge.tls_key, *config.auth.public_keys.values()]
    assert {str(path.parent) for path in paths if path is not None} <= mounted
    name, _, port = config.runtime.address.partition(":")
    assert name == f"{objects['RayCluster', 'laneway']['metadata']['name']}-head-svc"
    assert port == objects["RayCluster", "laneway"]["spec"]["headGroupSpec"]["rayStartParams"]["port"]


def test_selectors_find_pods_and_services_their_ports(objects: dict[tuple[str, str], Any]) -> None:
    """A name that is wrong by a letter would be silent in Kubernetes."""
    pods = _templates(objects)
    for (kind, name), each in objects.items():
        assert each["metadata"]["namespace"] == "laneway"
        spec = each.get("spec", {})
        selector = spec.get("selector")
        if selector is None or kind == "RayCluster":
            continue
        wanted = selector.get("matchLabels", selector)
        found = [pod for pod in pods.values() if wanted.items() <= pod["metadata"]["labels"].items()]
        assert len(found) == 1, (kind, name)
        if kind == "Service":
            offered = {port["name"] for port in found[0]["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"] for port in spec["ports"]} <= offered
    for pod in pods.values():
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", ())} | {"data"}
        for container in pod["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_pods_are_restricted(objects: dict[tuple[str, str], Any]) -> None:
    """What the Pod Security Standard `restricted` asks, a read-only root, and no token of Kubernetes."""
    for component, template in _templates(objects).items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec["enableServiceLinks"]
        if component != "ray-head":  # its autoscaler asks Kubernetes, with the account that KubeRay makes
            assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("laneway", False)
        for container in spec["containers"]:
            _check_restricted(container["securityContext"])
            assert "memory" in container["resources"]["limits"]
    _check_restricted(objects["RayCluster", "laneway"]["spec"]["autoscalerOptions"]["securityContext"])
    assert objects["ServiceAccount", "laneway"]["automountServiceAccountToken"] is False


def _check_restricted(context: dict[str, Any]) -> None:
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_only_the_fronts_are_reachable_from_outside(objects: dict[tuple[str, str], Any]) -> None:
    """By default nobody; then the two ports of the fronts for all, peers among themselves, Redis for two of them."""
    policies = {name: each["spec"] for (kind, name), each in objects.items() if kind == "NetworkPolicy"}
    assert set(policies) == {"nobody", "clients", "peers", "redis"}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    open_to_all = {name for name, each in policies.items() for rule in each.get("ingress", ()) if "from" not in rule}
    assert open_to_all == {"clients"}
    assert policies["clients"]["podSelector"]["matchLabels"][COMPONENT] == "front"
    assert {port["port"] for port in policies["clients"]["ingress"][0]["ports"]} == {"grpc", "https"}
    components = set(_templates(objects))
    (peers,) = policies["peers"]["podSelector"]["matchExpressions"]
    assert policies["peers"]["ingress"] == [{"from": [{"podSelector": policies["peers"]["podSelector"]}]}]
    assert set(peers["values"]) == components - {"redis"}
    (rule,) = policies["redis"]["ingress"]
    (allowed,) = rule["from"][0]["podSelector"]["matchExpressions"]
    assert allowed["values"] == ["front", "ray-head"]
    assert "Egress" in policies["redis"]["policyTypes"]
    assert "egress" not in policies["redis"]
    services = {name: each["spec"] for (kind, name), each in objects.items() if kind == "Service"}
    assert {name for name, spec in services.items() if spec.get("type") in ("LoadBalancer", "NodePort")} == {"laneway"}
    assert services["laneway"]["selector"][COMPONENT] == "front"


def _secrets_used(node: object) -> Iterator[tuple[str, str]]:
    """Yield (secret, key or empty) wherever one is named."""
    if isinstance(node, list):
        for each in node:
            yield from _secrets_used(each)
    elif isinstance(node, dict):
        if "secretKeyRef" in node:
            yield node["secretKeyRef"]["name"], node["secretKeyRef"]["key"]
        if "secretName" in node:
            keys = [item["key"] for item in node.get("items", ())] or [""]
            yield from ((node["secretName"], key) for key in keys)
        for value in node.values():
            yield from _secrets_used(value)


def test_secrets_are_made_by_the_commands_above(objects: dict[tuple[str, str], Any]) -> None:
    """Each secret and key that is used is in the page's own commands, and no value of one is in the file."""
    head = "\n".join(line[1:] for line in TEXT[: TEXT.index("apiVersion")].splitlines())
    made = dict(re.findall(r"create secret \w+ (\S+) ([^;]*?)(?=kubectl|# Two|\Z)", head, re.S))
    used = set(_secrets_used(list(objects.values())))
    assert {name for name, _ in used} == set(made)
    for name, key in used:
        assert not key or f"from-literal={key}=" in made[name], (name, key)
    assert not any(kind == "Secret" for kind, _ in objects)


def test_redis_is_the_one_of_compose(objects: dict[tuple[str, str], Any]) -> None:
    """The same arguments and the same rules for laneway, which a test of compose starts for real."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["redis"]
    (container,) = _templates(objects)["redis"]["spec"]["containers"]
    assert container["image"] == compose["image"]
    assert container["args"][:-1] == compose["command"][:-1]
    rules = runpy.run_path(str(DEPLOY / "make_secrets.py"))["_rules"]("$p")
    assert all(line in TEXT for line in rules.splitlines())
    assert json.dumps(container["readinessProbe"]["exec"]).count("redis-cli ping") == 1
