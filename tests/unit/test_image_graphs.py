"""What becomes of steps whose CUDA graph cannot be recorded; recording itself needs a GPU."""

from typing import Any

import pytest
import torch

from image_engine import graphs
from image_engine.graphs import GraphedUNet, UNetInputs


class UNet:
    """Counts its plain calls."""

    device = torch.device("cpu")
    calls = 0

    def __call__(self, sample: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor]:
        self.calls += 1
        return (sample,)


def inputs() -> UNetInputs:
    return UNetInputs(*(torch.zeros(2) for _ in range(5)), guidance=None)


def hidden_behind_the_end_of_the_recording() -> RuntimeError:
    error = RuntimeError("operation not permitted when stream is capturing")
    error.__context__ = torch.OutOfMemoryError("no memory")
    return error


@pytest.mark.parametrize(
    ("failure", "attempts"),
    [
        (torch.OutOfMemoryError("no memory"), 3),  # there may be memory again: at every second step
        (hidden_behind_the_end_of_the_recording(), 3),
        (RuntimeError("operation not permitted when stream is capturing"), 1),
    ],
)
def test_steps_are_made_without_a_graph_that_cannot_be_recorded(
    failure: RuntimeError, attempts: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def recording(*_: Any) -> None:
        tried.append(1)
        raise failure

    monkeypatch.setattr(graphs, "_Graph", recording)
    cuda = {"Stream": lambda device: None, "graph_pool_handle": lambda: None, "empty_cache": lambda: None}
    for name, stand_in in cuda.items():
        monkeypatch.setattr(graphs.torch.cuda, name, stand_in)
    unet = UNet()
    graphed = GraphedUNet(unet)
    for _ in range(6):
        assert graphed(inputs()).shape == (2,)
    assert unet.calls == 6
    assert len(tried) == attempts
    assert ("steps are made without CUDA graphs" in caplog.text) == (attempts == 1)
