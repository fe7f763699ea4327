"""The loss curve as a picture, where matplotlib is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from pygpt.training.metrics import Metrics
from pygpt.training.state import replace_file

_POINTS = 500  # of the training loss: means over equal stretches of steps


def is_available() -> bool:
    """Whether there is matplotlib."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(path: Path, metrics: Metrics) -> None:
    """Write a PNG of the training and validation losses against the steps; nothing without matplotlib. TrainingError
    where the file cannot be written."""
    if not is_available():
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)  # by itself, so that no choice of a backend is made for the process
    axes = figure.add_subplot()
    if metrics.losses:
        stretches = min(_POINTS, len(metrics.losses))
        steps = [a.mean() for a in np.array_split(np.array(list(metrics.losses), float), stretches)]
        losses = [a.mean() for a in np.array_split(np.array(list(metrics.losses.values())), stretches)]
        axes.plot(steps, losses, label="training", linewidth=1)
    axes.plot(
        list(metrics.validation_losses),
        list(metrics.validation_losses.values()),
        "o-",
        label="validation",
        markersize=3,
    )
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend()
    replace_file(path, lambda partial: figure.savefig(partial, format="png", dpi=120))
