"""Manifests of Kubernetes, KServe and KEDA, validated offline; no cluster has run them.

kubernetes-validate has the schemas of Kubernetes and is large: ``make deploy-tools`` installs it in
an environment of its own. KServe's and KEDA's are beside this file, as far as they are used.
"""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from app.settings import PREFIX, Settings
from tests.conftest import ROOT

FOLDERS = ROOT / "deploy/kubernetes", ROOT / "deploy/kserve", ROOT / "deploy/keda"
TOOLS = os.pathsep.join([f"{sys.prefix}/deploy/bin", os.environ["PATH"]])
VALIDATE = shutil.which("kubernetes-validate", path=TOOLS)
KUBECTL = shutil.which("kubectl")
SCHEMAS = {
    kind: schema
    for name in ("kserve", "keda")
    for kind, schema in json.loads(
        (Path(__file__).parent / f"{name}.schema.json").read_text()
    ).items()
}

needs_validator = pytest.mark.skipif(
    VALIDATE is None, reason="no kubernetes-validate: make deploy-tools"
)


def manifests(folder: Path) -> dict[str, Any]:
    """Each file, parsed."""
    return {
        path.name: yaml.safe_load(path.read_text())
        for path in sorted(folder.glob("*.yaml"))
        if path.name != "kustomization.yaml"
    }


KUBERNETES, KSERVE, KEDA = map(manifests, FOLDERS)


def refused(folder: Path, documents: dict[str, Any]) -> set[str]:
    """Which of these documents kubernetes-validate refuses."""
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document))
    files = [str(folder / name) for name in documents]
    done = subprocess.run(
        [str(VALIDATE), "--strict", *files], capture_output=True, text=True, timeout=120
    )
    said = done.stdout + done.stderr
    found = {name for name in documents if re.search(rf"ERROR\s+{folder / name}", said)}
    passed = {name for name in documents if re.search(rf"INFO\s+{folder / name}", said)}
    assert found | passed == set(documents), said
    assert bool(found) == bool(done.returncode)
    return found


def typos(node: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each key below ``spec`` whose name the schema decides."""
    free = {"labels", "matchLabels", "annotations", "requests", "limits", "selector"}
    if isinstance(node, dict):
        for key, value in node.items():
            if not way or way[-1] not in free:
                yield (*way, key)
            yield from typos(value, (*way, key))
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from typos(value, (*way, place))


def with_typo(document: Any, way: tuple[Any, ...]) -> Any:
    """A copy in which one key has a letter too many."""
    wrong = copy.deepcopy(document)
    node = wrong["spec"]
    for step in way[:-1]:
        node = node[step]
    node[f"{way[-1]}x"] = node.pop(way[-1])
    return wrong


@pytest.mark.slow
@needs_validator
def test_kubernetes_accepts_every_manifest_and_refuses_each_typo(tmp_path: Path) -> None:
    assert refused(tmp_path, KUBERNETES) == set()
    planted = {
        f"{number}-{name}": with_typo(document, way)
        for name, document in KUBERNETES.items()
        for number, way in enumerate(typos(document["spec"]))
    }
    assert len(planted) > 80
    assert {name.split("-", 1)[1] for name in planted} == set(KUBERNETES)
    assert set(planted) - refused(tmp_path, planted) == set()


def test_kserve_and_keda_accept_every_manifest_and_refuse_each_typo() -> None:
    for document in (KSERVE | KEDA).values():
        schema = Draft202012Validator(SCHEMAS[document["kind"]])
        assert not list(schema.iter_errors(document))
        for way in typos(document["spec"]):
            assert list(schema.iter_errors(with_typo(document, way))), way


@pytest.mark.skipif(KUBECTL is None, reason="no kubectl")
def test_kustomize_builds_all_manifests_and_refuses_a_typo(tmp_path: Path) -> None:
    def build(folder: Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [KUBECTL or "", "kustomize", str(folder)], capture_output=True, text=True, timeout=60
        )

    built = list(yaml.safe_load_all(build(FOLDERS[0]).stdout))
    assert {d["kind"] for d in built} == {d["kind"] for d in KUBERNETES.values()}
    (deployment,) = [d for d in built if d["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.example.com/genserve:")
    shutil.copytree(FOLDERS[0], tmp_path / "wrong")
    file = tmp_path / "wrong/kustomization.yaml"
    file.write_text(file.read_text().replace("resources:", "resourcesx:"))
    assert build(tmp_path / "wrong").returncode


@pytest.mark.skipif(KUBECTL is None, reason="no kubectl")
def test_keda_takes_the_place_of_the_autoscaler_and_scales_alike() -> None:
    done = subprocess.run(
        [KUBECTL or "", "kustomize", str(FOLDERS[2])], capture_output=True, text=True, timeout=60
    )
    built = {d["kind"]: d for d in yaml.safe_load_all(done.stdout)}
    assert "HorizontalPodAutoscaler" not in built
    keda, hpa = built["ScaledObject"]["spec"], KUBERNETES["hpa.yaml"]["spec"]
    assert keda["scaleTargetRef"]["name"] == built["Deployment"]["metadata"]["name"]
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == (
        *(hpa["minReplicas"], hpa["maxReplicas"]),
    )
    trigger = keda["triggers"][0]["metadata"]
    assert hpa["metrics"][0]["pods"]["metric"]["name"] in trigger["query"]
    assert (
        f"{float(trigger['threshold']) * 1e3:g}m"
        == (hpa["metrics"][0]["pods"]["target"]["averageValue"])
    )


def test_the_manifests_choose_the_deployments_pods_and_its_port() -> None:
    spec = KUBERNETES["deployment.yaml"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    assert KUBERNETES["service.yaml"]["spec"]["selector"] == labels
    assert KUBERNETES["pdb.yaml"]["spec"]["selector"]["matchLabels"] == labels
    assert KUBERNETES["networkpolicy.yaml"]["spec"]["podSelector"]["matchLabels"] == labels
    assert "replicas" not in spec  # of the autoscaler alone
    ports = {port["name"] for port in spec["template"]["spec"]["containers"][0]["ports"]}
    assert KUBERNETES["service.yaml"]["spec"]["ports"][0]["targetPort"] in ports


def test_containers_have_known_settings_and_the_time_that_a_drain_takes() -> None:
    for pod, containers in (
        (KUBERNETES["deployment.yaml"]["spec"]["template"]["spec"], None),
        (
            KSERVE["inferenceservice.yaml"]["spec"]["predictor"],
            KSERVE["servingruntime.yaml"]["spec"]["containers"],
        ),
    ):
        assert pod["enableServiceLinks"] is False
        (container,) = containers or pod["containers"]
        given = {entry["name"]: entry["value"] for entry in container["env"]}
        fields = {name.removeprefix(PREFIX).lower(): value for name, value in given.items()}
        settings = Settings(**fields)
        assert set(fields) <= set(Settings.model_fields)
        drain = settings.drain_delay_seconds + settings.drain_seconds
        assert pod["terminationGracePeriodSeconds"] > drain


def test_what_manifests_offer_as_comments_is_valid_and_lets_traces_out() -> None:
    """Keys and traces: uncommented, as the guides say."""
    deployment = yaml.safe_load(uncommented("deployment.yaml"))
    pod = deployment["spec"]["template"]["spec"]
    given = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    assert {"GENSERVE_API_KEYS_FILE", "GENSERVE_TRACES"} <= set(given)
    assert given["GENSERVE_API_KEYS_FILE"].startswith(
        pod["containers"][0]["volumeMounts"][0]["mountPath"]
    )
    assert pod["volumes"][0]["name"] == pod["containers"][0]["volumeMounts"][0]["name"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["genserve"]
    assert set(given) <= set(compose["environment"])
    policy = uncommented("networkpolicy.yaml").replace("  egress: []\n", "")
    ports = [rule["ports"][0]["port"] for rule in yaml.safe_load(policy)["spec"]["egress"]]
    assert int(given["OTEL_EXPORTER_OTLP_ENDPOINT"].rpartition(":")[2]) in ports


def uncommented(name: str) -> str:
    """A manifest with the lines that hold YAML, and no prose, uncommented."""
    text = (ROOT / "deploy/kubernetes" / name).read_text()
    return re.sub(r"^( +)# (?=-? ?[\[{]|volume|egress:|  )", r"\1", text, flags=re.MULTILINE)


def test_containers_run_under_the_restricted_profile() -> None:
    pod = KUBERNETES["deployment.yaml"]["spec"]["template"]["spec"]
    (runtime,) = KSERVE["servingruntime.yaml"]["spec"]["containers"]
    for container, around in ((pod["containers"][0], pod["securityContext"]), (runtime, {})):
        context = around | container["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
