"""The manifests below deploy/: whole, valid, and of the plugins as they are."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.servers import ROOT
from tests.test_images import IMAGES

FOLDER = ROOT / "deploy" / "kubernetes"
OLDEST, NEWEST = "1.29", "1.37"  # ReadWriteOncePod and probes over gRPC are of 1.29 at the latest


def _documents() -> list[dict[str, Any]]:
    """What is applied: by kustomize where there is kubectl, else what the files say."""
    if kubectl := shutil.which("kubectl"):
        done = subprocess.run(
            [kubectl, "kustomize", str(FOLDER)], capture_output=True, text=True, timeout=60, check=True
        )
        return list(yaml.safe_load_all(done.stdout))
    names = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [document for name in names for document in yaml.safe_load_all((FOLDER / name).read_text())]


def _pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for document in _documents():
        if document["kind"] in ("Deployment", "StatefulSet"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_manifests_are_valid(version: str) -> None:
    """Each object is one that the API takes, in the oldest release that we are for and in the newest."""
    documents = _documents()
    assert len(documents) > 15
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_every_file_is_applied() -> None:
    """No manifest lies beside the others that the kustomization does not name."""
    named = set(yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"])
    assert named == {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}


def test_pods_run_the_images_as_they_are() -> None:
    """Each pod has an image of ours at the port of its plugin, probed over gRPC, with a token, bounded."""
    images = set()
    for name, pod in _pods():
        (container,) = pod["containers"]
        image = container["image"].partition("/")[2].partition(":")[0]
        images.add(image)
        port = IMAGES[image][0]
        assert [item["containerPort"] for item in container["ports"]] == [port], name
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"] == {"port": port}
        prefix = image.removesuffix("-light").replace("-", "_").upper()
        assert {f"{prefix}__INSECURE", f"{prefix}__TOKEN"} <= {item["name"] for item in container["env"]}
        assert container["resources"]["limits"]["memory"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert pod["securityContext"]["runAsNonRoot"]
    assert images == {"llm-openai", "vector-hnsw", "embed-st-light", "tools-http", "reasoning-react"}


def test_compose_has_the_same_plugins() -> None:
    """deploy/compose.yaml has them all, on loopback, read-only, and only two of them on the network that leads out."""
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert {service["image"].partition("/")[2] for service in services.values()} == {
        "llm-openai", "vector-hnsw", "embed-st-light", "tools-http", "reasoning-react"
    }  # fmt: skip
    for service in services.values():
        (published,) = service["ports"]
        assert published.startswith("127.0.0.1:")
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    assert {name for name, service in services.items() if "outside" in service["networks"]} == {"llm", "tools"}


def test_no_secret_is_written_down() -> None:
    """Tokens and keys come from a Secret or a variable; no manifest has one."""
    for file in [*FOLDER.glob("*.yaml"), ROOT / "deploy" / "compose.yaml"]:
        for line in _text(file):
            if "TOKEN" in line or "_KEY" in line:
                assert any(mark in line for mark in ("secretKeyRef", "${", "$(", "#")), f"{file.name}: {line}"


def _text(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()
