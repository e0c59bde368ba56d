"""`gemma` from model_repository/ loads in NVIDIA's unchanged image, with NVIDIA's own backend."""

import ast
import importlib.util
import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from conftest import ROOT

NVIDIAS_PARAMETERS = {"REPORT_CUSTOM_METRICS", "ENABLE_VLLM_HEALTH_CHECK"}
"""Parameters of config.pbtxt that NVIDIA's vLLM backend reads; its newest has GPU_DEVICE_IDS besides."""


@pytest.fixture(scope="module")
def gemma_config() -> ModelConfig:
    return text_format.Parse((ROOT / "model_repository/gemma/config.pbtxt").read_text(), ModelConfig())


def test_gemmas_configuration_leaves_to_the_backend_what_nvidias_completes(gemma_config: ModelConfig) -> None:
    """It adds inputs and outputs, decoupled responses and a batch size of 0."""
    assert gemma_config.backend == "vllm"
    assert not gemma_config.input
    assert not gemma_config.output
    assert gemma_config.max_batch_size == 0
    assert not gemma_config.HasField("model_transaction_policy")
    assert not gemma_config.HasField("dynamic_batching")
    assert gemma_config.name in ("", "gemma")
    assert gemma_config.default_model_filename == ""


def test_gemma_takes_the_gpus_itself_as_nvidias_backend_wants_it_for_several(gemma_config: ModelConfig) -> None:
    (group,) = gemma_config.instance_group
    assert (group.kind, group.count) == (ModelInstanceGroup.KIND_MODEL, 1)


def test_gemmas_parameters_are_ones_that_nvidias_backend_knows(gemma_config: ModelConfig) -> None:
    assert gemma_config.parameters.keys() <= NVIDIAS_PARAMETERS
    assert all(value.string_value.lower() in ("true", "false") for value in gemma_config.parameters.values())


def test_gemmas_model_json_holds_vllms_engine_arguments_and_nothing_else() -> None:
    """NVIDIA's backend hands the file to AsyncEngineArgs as it is."""
    arguments = json.loads((ROOT / "model_repository/gemma/1/model.json").read_text())
    assert arguments.keys() <= engine_argument_names()
    assert str(arguments.get("enable_lora", False)).lower() == "false"  # else it wants multi_lora.json


def engine_argument_names() -> set[str]:
    """The fields of vLLM's AsyncEngineArgs, read from its source: importing it takes seconds."""
    package = importlib.util.find_spec("vllm")
    assert package is not None
    assert package.submodule_search_locations is not None
    tree = ast.parse((Path(package.submodule_search_locations[0]) / "engine/arg_utils.py").read_text())
    return {
        field.target.id
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name in ("EngineArgs", "AsyncEngineArgs")
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def test_gemmas_folder_holds_only_what_nvidias_backend_looks_for() -> None:
    folder = ROOT / "model_repository/gemma"
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == {"config.pbtxt", "1/model.json"}
