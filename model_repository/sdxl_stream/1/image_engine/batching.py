"""Which requests make the next denoising step, and which wait.

The images of one UNet call have one size. Requests of a size are taken in the order they came, as many images as fit
into one call; the others wait. Sizes take turns, a step each, so that none starves: with k sizes at work each gets
every k-th step. A request whose images alone do not fit into one call is taken when nothing else of its size runs.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

Size = tuple[int, int]
"""Width and height in pixels."""


class Batchable(Protocol):
    """A request for one or more images of one size."""

    @property
    def size(self) -> Size: ...

    @property
    def image_count(self) -> int: ...


T = TypeVar("T", bound=Batchable)


class Lane(Generic[T]):
    """The requests of one size."""

    def __init__(self) -> None:
        self.waiting: deque[T] = deque()
        self.running: list[T] = []


class Batcher(Generic[T]):
    """Keeps every request that was accepted and is not done. Not thread-safe.

    Args:
        capacity: How many images of a size fit into one UNet call, at least 1.
    """

    def __init__(self, capacity: Callable[[Size], int]) -> None:
        self._capacity = capacity
        self._lanes: OrderedDict[Size, Lane[T]] = OrderedDict()

    def __iter__(self) -> Iterator[T]:
        for lane in self._lanes.values():
            yield from lane.running
            yield from lane.waiting

    @property
    def waiting(self) -> int:
        return sum(len(lane.waiting) for lane in self._lanes.values())

    @property
    def running(self) -> int:
        return sum(len(lane.running) for lane in self._lanes.values())

    def add(self, request: T) -> None:
        self._lanes.setdefault(request.size, Lane()).waiting.append(request)

    def remove(self, request: T) -> None:
        """Forgets a request, wherever it is; its place is free at the next step."""
        lane = self._lanes.get(request.size)
        if lane is None:
            return
        if request in lane.running:
            lane.running.remove(request)
        elif request in lane.waiting:
            lane.waiting.remove(request)
        if not lane.running and not lane.waiting:
            del self._lanes[request.size]

    def next_step(self) -> list[T]:
        """The requests whose images make the next step; those that are new among them were waiting till now."""
        if not self._lanes:
            return []
        size = next(iter(self._lanes))
        self._lanes.move_to_end(size)
        lane = self._lanes[size]
        room = self._capacity(size) - sum(request.image_count for request in lane.running)
        while lane.waiting and (lane.waiting[0].image_count <= room or not lane.running):
            request = lane.waiting.popleft()
            room -= request.image_count
            lane.running.append(request)
        return list(lane.running)
