"""What a server says of itself: Triton's repository index and metadata as `ModelInfo` and `Health`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tritonclient.grpc import service_pb2

from fictures.types import Health, ModelInfo, TensorInfo

READY = "ready"
NOT_LOADED = "not loaded"
IDLE = (NOT_LOADED, "unloaded")
"""States of a model that nobody has asked for. They do not make a server unhealthy."""


def model_from_index(entry: service_pb2.RepositoryIndexResponse.ModelIndex) -> ModelInfo:
    """Read one entry of the repository index."""
    ready = entry.state == "READY"
    reason = "" if ready else entry.reason or entry.state.lower() or NOT_LOADED
    return ModelInfo(name=entry.name, version=entry.version, ready=ready, reason=reason)


def with_metadata(model: ModelInfo, metadata: service_pb2.ModelMetadataResponse) -> ModelInfo:
    """Add what a ready model says of its tensors."""
    return replace(
        model,
        platform=metadata.platform,
        inputs=_tensors(metadata.inputs),
        outputs=_tensors(metadata.outputs),
    )


def health_of(*, live: bool, ready: bool, models: Iterable[ModelInfo], probed: Iterable[ModelInfo]) -> Health:
    """Put the answers together; `probed` are the models whose engines were asked, with what these said."""
    states = {model.name: READY if model.ready else model.reason for model in (*models, *probed)}
    faults = [f"{name}: {state}" for name, state in states.items() if state not in (READY, *IDLE)]
    if not ready:
        faults.append("the server is not ready")
    return Health(ok=live and not faults, live=live, ready=ready, models=states, reason=faults[0] if faults else None)


def unhealthy(reason: str) -> Health:
    """The health of a server that does not answer."""
    return Health(ok=False, live=False, ready=False, models={}, reason=reason)


def _tensors(tensors: Iterable[service_pb2.ModelMetadataResponse.TensorMetadata]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors)
