"""How many images fit into one denoising step: measured once, at the start, not guessed from the architecture."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from image_engine.batching import Size
from image_engine.config import ModelSettings

_CPU_SHARE = 4  # of the free memory, one part for working memory


class MemoryBudget:
    """Turns bytes into images of a size.

    The memory of a denoising step and of a decoding grows with the number of pixels (attention does not keep its
    quadratic scores), so one measurement each is enough. When memory runs out all the same, `lower` corrects it.

    Args:
        working_memory: Bytes for a step and a decoding at the same time.
        step_bytes: Bytes a pixel of one image takes in a step.
        decode_bytes: Bytes a pixel takes in a decoding, of one image at a time.
        most: Most images in one step.
    """

    def __init__(self, working_memory: int, step_bytes: float, decode_bytes: float, most: int) -> None:
        self._working_memory = working_memory
        self._step_bytes = step_bytes
        self._decode_bytes = decode_bytes
        self._most = most
        self._lowered: dict[Size, int] = {}

    def capacity(self, size: Size) -> int:
        """How many images of this size fit into one step; at least 1, since trying is the only way to know."""
        pixels = size[0] * size[1]
        fitting = int((self._working_memory - self._decode_bytes * pixels) / (self._step_bytes * pixels))
        return max(1, min(fitting, self._most, self._lowered.get(size, self._most)))

    def fits_decoding(self, size: Size, images: int) -> bool:
        """Whether so many images can be decoded in one call beside a step of one image."""
        pixels = size[0] * size[1]
        return (images * self._decode_bytes + self._step_bytes) * pixels <= self._working_memory

    def lower(self, size: Size, failed: int) -> None:
        """Memory ran out with `failed` images of this size in a step."""
        self._lowered[size] = max(1, failed // 2)


def working_memory(settings: ModelSettings, device: torch.device) -> int:
    """Bytes for a step and a decoding, once the model is loaded."""
    if settings.working_memory is not None:
        return settings.working_memory
    if device.type == "cpu":
        return psutil.virtual_memory().available // _CPU_SHARE
    free, total = torch.cuda.mem_get_info(device)
    return max(0, int(settings.gpu_memory_utilization * total) - (total - free))


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The most memory that the tensors made in `run` hold at a time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _LiveBytes() as live:
        run()
    return live.peak


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch says that there is no memory left: on a CPU with an error of no kind of its own."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0
        self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {tensor.untyped_storage().data_ptr() for tensor in tree_iter(args) if isinstance(tensor, torch.Tensor)}
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in known and storage.data_ptr() not in self._seen:
                    self._count(storage)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        self._seen.add(storage.data_ptr())
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._free, storage.data_ptr(), storage.nbytes())

    def _free(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self._now -= size
