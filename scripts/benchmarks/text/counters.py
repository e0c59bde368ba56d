"""What servers themselves count: the check that their answers, all together, had the tokens that were asked for.

Answers that were broken off at a load's end, or are asked for again, are in what they count, too: that leaves room for
some percent.
"""

import time
from collections.abc import Mapping, Sequence

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.errors import BenchmarkError
from benchmarks.text.contenders import Contender

_GENERATED = "vllm:generation_tokens_total"
_DELAY = 2.5  # seconds after which the text backend has put vLLM's counters onto Triton's metrics port
_TIMEOUT = 10.0  # seconds


class Counters:
    """The servers of some contenders, from now on.

    Args:
        contenders: Those whose `metrics_url` is known.

    Raises:
        BenchmarkError: A server does not tell.
    """

    def __init__(self, contenders: Sequence[Contender]) -> None:
        self._names: dict[str, list[str]] = {}
        for contender in contenders:
            if contender.metrics_url is not None:
                self._names.setdefault(contender.metrics_url, []).append(contender.name)
        time.sleep(_DELAY if self._names else 0)
        self._before = {url: generated(url) for url in self._names}

    def require(self, asked: Mapping[str, int]) -> None:
        """That each server has generated what its answers should have, or more: what was broken off counts, too.

        Args:
            asked: Tokens that the answers should have had, by contender.

        Raises:
            BenchmarkError: It has not.
        """
        for url, names in self._names.items():
            due = sum(asked[name] for name in names)
            deadline = time.monotonic() + _TIMEOUT
            while (found := generated(url) - self._before[url]) < due:
                if time.monotonic() > deadline:
                    who = ", ".join(names)
                    raise BenchmarkError(f"{who}: answers of {due} tokens, but the server counts {found:.0f}")
                time.sleep(_DELAY / 10)


def generated(url: str) -> float:
    """Tokens that a server's engines have generated, by its metrics.

    Raises:
        BenchmarkError: It does not tell.
    """
    try:
        answer = httpx.get(url, timeout=_TIMEOUT, trust_env=False)
        answer.raise_for_status()
        families = text_string_to_metric_families(answer.text)
        values = [sample.value for family in families for sample in family.samples if sample.name == _GENERATED]
    except (httpx.HTTPError, ValueError) as error:
        raise BenchmarkError(f"{url}: no metrics: {error!r}") from error
    if not values:
        raise BenchmarkError(f"{url}: there is no {_GENERATED}")
    return sum(values)
