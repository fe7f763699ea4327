"""Jobs: a file of requests in, a file of answers out, in OpenAI's batch format; what is answered is never lost."""

from pygpt.jobs.answers import Record, Response, answered
from pygpt.jobs.job import Summary, Work, run
from pygpt.jobs.local import answer_with, ask
from pygpt.jobs.requests import URLS, Item

__all__ = ["URLS", "Item", "Record", "Response", "Summary", "Work", "answer_with", "answered", "ask", "run"]
