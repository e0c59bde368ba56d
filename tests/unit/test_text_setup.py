"""What the folder of a text model says about how it is served."""

import json
from pathlib import Path
from typing import Any

import pytest

from text_backend.config import ModelSetup, SetupError


def load(folder: Path, **parameters: str) -> ModelSetup:
    (folder / "model.json").write_text('{"model": "/models/gemma"}')
    config: dict[str, Any] = {
        "model_transaction_policy": {"decoupled": True},
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
    }
    names = {"model_name": "gemma", "model_version": "1", "model_instance_name": "gemma_0_0"}
    return ModelSetup.load({"model_config": json.dumps(config), **names}, folder)


@pytest.mark.parametrize(("parameters", "seconds"), [({}, 0.04), ({"STREAM_INTERVAL_MS": "0"}, 0.0)])
def test_text_is_held_back_as_long_as_the_model_says(
    tmp_path: Path, parameters: dict[str, str], seconds: float
) -> None:
    assert load(tmp_path, **parameters).longest_hold == seconds


@pytest.mark.parametrize("wrong", ["1001", "-1", "fast", "1.5", ""])
def test_a_wrong_interval_is_named(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(SetupError, match=rf"STREAM_INTERVAL_MS must be a whole number from 0 to 1000, not '{wrong}'"):
        load(tmp_path, STREAM_INTERVAL_MS=wrong)
