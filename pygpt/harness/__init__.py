"""Benchmarks over task files: `evaluate` scores a model, `adapter` makes one a backend of lm-evaluation-harness."""

from pygpt.harness.benchmark import TaskResult, evaluate

__all__ = ["TaskResult", "evaluate"]
