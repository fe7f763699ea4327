"""OpenAI's endpoints: the forms of their requests, the answers, and what happens between the two."""

from pygpt.server.openai import chat, completions, embeddings, responses, tokens

ROUTES = [
    completions.create_completion,
    chat.create_chat_completion,
    responses.create_response,
    embeddings.create_embeddings,
    tokens.tokenize,
    tokens.detokenize,
    tokens.tokenizer_info,
]
