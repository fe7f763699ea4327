"""`pygpt serve`: models over HTTP, in OpenAI's forms. It needs the extra `server`."""
