"""Who makes the next denoising step: first come, first served within a size, and a turn for each size."""

from dataclasses import dataclass

from image_engine.batching import Batcher, Size

SMALL, LARGE = (256, 256), (1024, 1024)


@dataclass(eq=False)
class Request:
    name: str
    size: Size = SMALL
    image_count: int = 1


def batcher(*requests: Request, capacity: int = 4) -> Batcher[Request]:
    made: Batcher[Request] = Batcher(lambda size: capacity)
    for request in requests:
        made.add(request)
    return made


def names(requests: list[Request]) -> str:
    return "".join(request.name for request in requests)


def test_nothing_to_do_is_an_empty_step() -> None:
    assert batcher().next_step() == []


def test_requests_of_a_size_share_a_step_up_to_its_capacity() -> None:
    jobs = batcher(*map(Request, "abcdef"))
    assert names(jobs.next_step()) == "abcd"
    assert (jobs.running, jobs.waiting) == (4, 2)


def test_a_place_that_becomes_free_goes_to_the_one_who_waited_longest() -> None:
    requests = [Request(name) for name in "abcdef"]
    jobs = batcher(*requests)
    jobs.next_step()
    jobs.remove(requests[1])
    assert names(jobs.next_step()) == "acde"


def test_a_newcomer_joins_the_running_batch_at_the_next_step() -> None:
    jobs = batcher(Request("a"))
    jobs.next_step()
    jobs.add(Request("b"))
    assert names(jobs.next_step()) == "ab"


def test_nobody_overtakes_a_request_of_several_images_that_waits_for_room() -> None:
    jobs = batcher(Request("a", image_count=3), Request("b", image_count=2), Request("c"))
    assert names(jobs.next_step()) == "a"


def test_a_request_that_alone_is_too_large_runs_when_nothing_else_of_its_size_does() -> None:
    jobs = batcher(Request("a", image_count=4), Request("b"), capacity=2)
    assert names(jobs.next_step()) == "a"


def test_sizes_take_turns_step_by_step() -> None:
    jobs = batcher(Request("a"), Request("B", LARGE), Request("c"))
    assert [names(jobs.next_step()) for _ in range(4)] == ["ac", "B", "ac", "B"]


def test_a_size_is_forgotten_with_its_last_request() -> None:
    small, large = Request("a"), Request("B", LARGE)
    jobs = batcher(small, large)
    jobs.next_step()
    jobs.remove(small)
    assert [names(jobs.next_step()) for _ in range(2)] == ["B", "B"]
    jobs.remove(large)
    jobs.remove(large)
    assert list(jobs) == []
