"""`python -m pygpt.harness`: lm-evaluation-harness's own command, which knows the model "pygpt" then. The harness reads
no entry points, so whoever adds a model has to be imported before it."""

from __future__ import annotations

import pygpt.harness.adapter  # noqa: F401 - it registers the model

if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
