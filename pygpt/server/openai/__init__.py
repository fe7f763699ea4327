"""OpenAI's endpoints: the forms of their requests, the answers, and what happens between the two."""

from pygpt.server.openai import chat, completions

ROUTES = [completions.create_completion, chat.create_chat_completion]
