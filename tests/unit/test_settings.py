"""Settings come from the environment and `.env`, and every mistake in them is named."""

import os
from pathlib import Path

import pytest

from fictures import ConfigurationError, Settings, load_settings
from fictures.settings import VARIABLES


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(VARIABLES) & set(os.environ):
        monkeypatch.delenv(name)


def env_file(folder: Path, text: str) -> Path:
    path = folder / ".env"
    path.write_text(text)
    return path


def problems_of(path: Path | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    return caught.value.problems


def test_defaults_are_the_documented_ones() -> None:
    settings = load_settings()
    assert settings.text_model_name is None
    assert settings.image_model_name is None
    assert (settings.text_max_model_len, settings.text_gpu_memory_utilization) == (4096, 0.5)
    assert (settings.vllm_max_num_seqs, settings.vllm_tensor_parallel_size) == (256, 1)
    assert settings.image_gpu_memory_utilization == 0.9
    assert (settings.api_host, settings.api_port) == ("127.0.0.1", 9000)
    assert (settings.triton_http_port, settings.triton_grpc_port, settings.triton_metrics_port) == (8000, 8001, 8002)
    assert (settings.log_level, settings.log_format, settings.model_loading) == ("INFO", "text", "eager")


def test_every_setting_has_a_description_of_one_line() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert "\n" not in field.description, name


def test_env_file_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = env_file(tmp_path, "TEXT_MODEL_NAME=from-file\nAPI_PORT=9100\n")
    monkeypatch.setenv("API_PORT", "9200")
    settings = load_settings(path)
    assert (settings.text_model_name, settings.api_port) == ("from-file", 9200)


def test_empty_values_and_a_missing_file_mean_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PORT", "")
    assert load_settings(env_file(tmp_path, "TEXT_MODEL_NAME=\n")).text_model_name is None
    assert load_settings(tmp_path / "absent").api_port == 9000


def test_grpc_url_follows_the_port_unless_a_url_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_GRPC_PORT", "8101")
    assert load_settings().grpc_url == "127.0.0.1:8101"
    monkeypatch.setenv("TRITON_URL", "triton:8001")
    assert load_settings().grpc_url == "triton:8001"


def test_lists_and_objects_are_written_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", "http://a, http://b")
    monkeypatch.setenv("TEXT_LORA_MODULES", '{"poet": "/models/poet"}')
    settings = load_settings()
    assert settings.cors_origins == ["http://a", "http://b"]
    assert settings.text_lora_modules == {"poet": "/models/poet"}


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("API_PORT", "70000", "a whole number from 1 to 65535"),
        ("API_PORT", "web", "a whole number from 1 to 65535"),
        ("TEXT_GPU_MEMORY_UTILIZATION", "1.5", "a number above 0, at most 1"),
        ("TEXT_DTYPE", "int3", "one of auto, half, float16, bfloat16, float, float32"),
        ("DIFFUSERS_ENABLE_CPU_OFFLOAD", "maybe", "true or false"),
        ("LOG_FORMAT", "xml", "one of text, json"),
        ("TEXT_LORA_MODULES", "[1]", "a JSON object of names and paths"),
        ("TEXT_LORA_MODULES", "{", "a JSON object of names and paths"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    (problem,) = problems_of()
    assert problem.startswith(f"{name}=")
    assert f"must be {allowed}" in problem


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    problems = problems_of(env_file(tmp_path, "API_PORT=x\nLOG_LEVEL=loud\nTEXT_MODLE_NAME=y\n"))
    assert len(problems) == 3


def test_a_misspelt_name_in_the_env_file_is_named_with_its_line_and_the_right_one(tmp_path: Path) -> None:
    (problem,) = problems_of(env_file(tmp_path, "# models\nTEXT_MODLE_NAME=gemma\n"))
    assert "line 2: TEXT_MODLE_NAME is not a setting; did you mean TEXT_MODEL_NAME?" in problem


def test_other_tools_variables_in_the_env_file_are_let_be(tmp_path: Path) -> None:
    load_settings(env_file(tmp_path, "COMPOSE_PROJECT_NAME=fictures\n"))


def test_a_line_that_is_no_assignment_is_named(tmp_path: Path) -> None:
    (problem,) = problems_of(env_file(tmp_path, "API_PORT=9000\nthis is not one\n"))
    assert "line 2" in problem


def test_a_near_miss_in_the_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXT_MODEL_NAMES", "gemma")
    assert problems_of() == ["TEXT_MODEL_NAMES is not a setting; did you mean TEXT_MODEL_NAME?"]


@pytest.mark.parametrize("name", ["VLLM_MAX_NUM_SEQ", "VLLM_LOGGING_LEVEL", "TRITON_CACHE_DIR", "LOG_DIR"])
def test_other_programs_names_in_the_environment_are_let_be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    load_settings()


def test_the_hugging_face_token_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert "hf_secret" not in repr(load_settings())
