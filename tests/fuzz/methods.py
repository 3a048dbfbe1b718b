"""Every method that a plugin serves, from the descriptors: its own service's, and those of health and reflection."""

from __future__ import annotations

from dataclasses import dataclass

import hector_plugins_pb2 as pb
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

SERVICES = {
    "vector_hnsw": "DatabaseProvider",
    "vector_pg": "DatabaseProvider",
    "embed_st": "EmbedderProvider",
    "llm_openai": "LLMProvider",
    "tools_http": "ToolProvider",
    "reasoning_react": "ReasoningStrategy",
    "toy": "LLMProvider",
}
HEALTH = "/grpc.health.v1.Health/Check"


@dataclass(frozen=True)
class Method:
    path: str
    input: Descriptor
    streams_in: bool
    streams_out: bool
    own: bool  # of the plugin itself


def methods(plugin: str) -> list[Method]:
    own: ServiceDescriptor = pb.DESCRIPTOR.services_by_name[SERVICES[plugin]]
    others = [
        health_pb2.DESCRIPTOR.services_by_name["Health"],
        reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
    ]
    return [
        Method(
            f"/{service.full_name}/{method.name}",
            method.input_type,
            method.client_streaming,
            method.server_streaming,
            service is own,
        )
        for service in (own, *others)
        for method in service.methods
    ]
