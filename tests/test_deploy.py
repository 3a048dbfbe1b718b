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
WITH_PG = ROOT / "deploy" / "kubernetes-pg"
FOLDERS = pytest.mark.parametrize("folder", [FOLDER, WITH_PG], ids=lambda folder: folder.name)
OLDEST, NEWEST = "1.29", "1.37"  # ReadWriteOncePod and probes over gRPC are of 1.29 at the latest


def _documents(folder: Path) -> list[dict[str, Any]]:
    """What is applied: by kustomize where there is kubectl, else what the folder's own files say."""
    if kubectl := shutil.which("kubectl"):
        done = subprocess.run(
            [kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=True
        )
        return list(yaml.safe_load_all(done.stdout))
    names = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    files = [folder / name for name in names if not name.startswith("..")]
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def _pods(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for document in _documents(folder):
        if document["kind"] in ("Deployment", "StatefulSet"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


@pytest.mark.slow
@FOLDERS
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_manifests_are_valid(version: str, folder: Path) -> None:
    """Each object is one that the API takes, in the oldest release that we are for and in the newest."""
    documents = _documents(folder)
    assert len(documents) > (15 if folder == FOLDER or shutil.which("kubectl") else 2)
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


@FOLDERS
def test_every_file_is_applied(folder: Path) -> None:
    """No manifest lies beside the others that the kustomization does not name."""
    named = set(yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"])
    assert named - {"../kubernetes"} == {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}


@FOLDERS
def test_pods_run_the_images_as_they_are(folder: Path) -> None:
    """Each pod has an image of ours at the port of its plugin, probed over gRPC, with a token, bounded; the vectors are
    vector_hnsw's, or vector_pg's in their place, which learns from a Secret where the database is."""
    images = set()
    for name, pod in _pods(folder):
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
        if image == "vector-pg":
            (url,) = (item for item in container["env"] if item["name"] == "DATABASE_URL")
            assert url["valueFrom"]["secretKeyRef"]["key"] == "database-url"
    vectors = "vector-hnsw" if folder == FOLDER else "vector-pg"
    everything = {"llm-openai", vectors, "embed-st-light", "tools-http", "reasoning-react"}
    assert images == (everything if folder == FOLDER or shutil.which("kubectl") else {vectors})


def test_compose_has_the_same_plugins() -> None:
    """deploy/compose.yaml has them all, on loopback, read-only, and only three of them on the network that leads out:
    vector_pg, which runs in the place of vector_hnsw and at its port, is one."""
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert {service["image"].partition("/")[2] for service in services.values()} == {
        "llm-openai", "vector-hnsw", "vector-pg", "embed-st-light", "tools-http", "reasoning-react"
    }  # fmt: skip
    assert [name for name, service in services.items() if service.get("profiles")] == ["vectors-pg"]
    assert services["vectors-pg"]["ports"] == services["vectors"]["ports"]
    for service in services.values():
        (published,) = service["ports"]
        assert published.startswith("127.0.0.1:")
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    assert {name for name, service in services.items() if "outside" in service["networks"]} == {
        "llm", "tools", "vectors-pg"
    }  # fmt: skip


def test_no_secret_is_written_down() -> None:
    """Tokens and keys come from a Secret or a variable; no manifest has one."""
    for file in [*FOLDER.glob("*.yaml"), *WITH_PG.glob("*.yaml"), ROOT / "deploy" / "compose.yaml"]:
        for line in _text(file):
            if "TOKEN" in line or "_KEY" in line or "DATABASE_URL" in line:
                assert any(mark in line for mark in ("secretKeyRef", "${", "$(", "#")), f"{file.name}: {line}"


def _text(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()
