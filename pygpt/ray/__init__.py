"""pygpt on the nodes of a Ray cluster: jobs over Ray Data, and the server over Ray Serve. It needs the extra `ray`."""

from pygpt.ray.jobs import answer_on
from pygpt.ray.serving import build_app, deployment

__all__ = ["answer_on", "build_app", "deployment"]
