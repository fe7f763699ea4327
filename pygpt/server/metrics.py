"""Metrics for Prometheus, in a registry of each application's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pygpt.fields import field_help
from pygpt.scheduler import SchedulerStats

if TYPE_CHECKING:
    from pygpt.server.models import Entry

_FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)  # seconds
_BETWEEN = (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
_WHOLE = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300, 600)


class Meter(NamedTuple):
    """What is measured of the requests to a model."""

    first: Histogram
    between: Histogram
    prompt: Counter
    cached: Counter
    new: Counter


class Metrics:
    """All that the server counts and measures."""

    def __init__(self, loaded: Callable[[], Sequence[Entry]]) -> None:
        """`loaded`: the models in memory, whose schedulers are asked when the metrics are read."""
        self._registry = r = CollectorRegistry()
        ProcessCollector(registry=r)
        self._requests = Counter("pygpt_requests", "Requests that ended.", ["endpoint", "status"], registry=r)
        self._seconds = Histogram(
            "pygpt_request_seconds", "From the head of a request to its end.", ["endpoint"], buckets=_WHOLE, registry=r
        )
        of_model = ["model"]
        self._first = Histogram(
            "pygpt_first_token_seconds", "From a request to its first token.", of_model, buckets=_FIRST, registry=r
        )
        self._between = Histogram(
            "pygpt_between_tokens_seconds", "From a token to the next.", of_model, buckets=_BETWEEN, registry=r
        )
        self._prompt = Counter("pygpt_prompt_tokens", "Tokens of prompts.", of_model, registry=r)
        self._cached = Counter(
            "pygpt_cached_prompt_tokens", "Those that a prefix in memory had already.", of_model, registry=r
        )
        self._new = Counter("pygpt_new_tokens", "Tokens that were drawn.", of_model, registry=r)
        self._meters: dict[str, Meter] = {}
        r.register(_OfModels(loaded))

    def meter(self, model: str) -> Meter:
        """The counters of one model."""
        if model not in self._meters:
            own = (self._first, self._between, self._prompt, self._cached, self._new)
            self._meters[model] = Meter(*(one.labels(model) for one in own))  # type: ignore[arg-type]
        return self._meters[model]

    def ended(self, endpoint: str, status: int, seconds: float) -> None:
        """A request has ended."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All of them and their media type, in the form that a client accepts."""
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind


class _OfModels(Collector):
    """What schedulers and models say of themselves."""

    def __init__(self, loaded: Callable[[], Sequence[Entry]]) -> None:
        self._loaded = loaded

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        entries = self._loaded()
        weights = GaugeMetricFamily("pygpt_weight_bytes", "Memory of the weights.", labels=["model"])
        for entry in entries:
            weights.add_metric([entry.name], entry.model.weight_bytes)
        yield weights
        stats = {entry.name: entry.scheduler.stats() for entry in entries}
        for name, text in field_help(SchedulerStats).items():
            kind = GaugeMetricFamily if name in _GAUGES or name.endswith("_bytes") else CounterMetricFamily
            family = kind(f"pygpt_scheduler_{name}", text, labels=["model"])
            for model, values in stats.items():
                family.add_metric([model], getattr(values, name))
            yield family


_GAUGES = {"waiting", "running"}  # of `SchedulerStats`, besides memory; the others only grow
