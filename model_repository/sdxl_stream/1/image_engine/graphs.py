"""The UNet as CUDA graphs: the GPU is told of a whole step at once, not of its thousands of operations one by one.

A graph has fixed shapes, so there is one for each number of rows and size of image, recorded when it comes the second
time. It does what a plain call does, with the same kernels, so that the images are the same, bit for bit.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

_MOST = 32  # graphs that are kept; those used last
_REMEMBERED = 256  # shapes that came once

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UNetInputs:
    """What the UNet is called with, a row for each conditioning of each image."""

    sample: torch.Tensor
    timesteps: torch.Tensor
    tokens: torch.Tensor
    pooled: torch.Tensor
    time_ids: torch.Tensor
    guidance: torch.Tensor | None

    @property
    def tensors(self) -> list[torch.Tensor]:
        given = (self.sample, self.timesteps, self.tokens, self.pooled, self.time_ids, self.guidance)
        return [tensor for tensor in given if tensor is not None]

    def like(self) -> "UNetInputs":
        """Tensors of their own with the same content."""
        guidance = None if self.guidance is None else self.guidance.clone()
        plain = (self.sample, self.timesteps, self.tokens, self.pooled, self.time_ids)
        return UNetInputs(*(tensor.clone() for tensor in plain), guidance)


_Shapes: TypeAlias = tuple[torch.Size, ...]


def call(unet: Any, inputs: UNetInputs) -> torch.Tensor:
    """The UNet's prediction, [rows, channels, height / 8, width / 8]."""
    prediction: torch.Tensor = unet(
        inputs.sample,
        inputs.timesteps,
        encoder_hidden_states=inputs.tokens,
        timestep_cond=inputs.guidance,
        added_cond_kwargs={"text_embeds": inputs.pooled, "time_ids": inputs.time_ids},
        return_dict=False,
    )[0]
    return prediction


class GraphedUNet:
    """Calls a UNet on a GPU, by graphs where it can. For one thread."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        self._stream = torch.cuda.Stream(unet.device)  # that recordings are made on
        self._can_record = True
        self.release()

    def __call__(self, inputs: UNetInputs) -> torch.Tensor:
        shapes = tuple(tensor.shape for tensor in inputs.tensors)
        graph = self._graphs.get(shapes)
        if graph is not None:
            self._graphs.move_to_end(shapes)
        elif self._can_record and self._came_before(shapes):
            graph = self._recorded(shapes, inputs)
        return call(self._unet, inputs) if graph is None else graph.replay(inputs)

    @property
    def graph_count(self) -> int:
        """As many are recorded at the moment."""
        return len(self._graphs)

    def release(self) -> None:
        """Gives the memory of all graphs back; they are recorded again when they are needed."""
        self._graphs: OrderedDict[_Shapes, _Graph] = OrderedDict()
        self._seen: OrderedDict[_Shapes, None] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle()  # of memory: the graphs run one after the other, so they share it

    def _came_before(self, shapes: _Shapes) -> bool:
        if shapes in self._seen:
            return True
        self._seen[shapes] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def _recorded(self, shapes: _Shapes, inputs: UNetInputs) -> "_Graph | None":
        """None if there is no memory for a graph: what there was is given back, and steps go on without. None, too, if
        this UNet cannot be recorded at all, and then for good.
        """
        try:
            graph = _Graph(self._unet, inputs, self._stream, self._pool)
        except RuntimeError as error:
            self.release()
            torch.cuda.empty_cache()
            # A recording that memory ends can fail again as it is closed, which hides why.
            if not any(isinstance(cause, torch.OutOfMemoryError) for cause in (error, error.__context__)):
                self._can_record = False
                _log.warning("steps are made without CUDA graphs, since one cannot be recorded: %s", error)
            return None
        self._graphs[shapes] = graph
        if len(self._graphs) > _MOST:
            self._graphs.popitem(last=False)
        return graph


class _Graph:
    """One recorded call."""

    def __init__(self, unet: Any, inputs: UNetInputs, stream: torch.cuda.Stream, pool: Any) -> None:
        self._inputs = inputs.like()
        self._graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(unet.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            call(unet, self._inputs)  # once before, so that libraries have set up what they need on this stream
        # Other threads decode meanwhile: their calls are none of this recording's business.
        with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self._output = call(unet, self._inputs)
        current.wait_stream(stream)

    def replay(self, inputs: UNetInputs) -> torch.Tensor:
        """A tensor of its own: the next replay writes over the graph's."""
        _copy(self._inputs.tensors, inputs.tensors)
        self._graph.replay()
        return self._output.clone()


def _copy(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
