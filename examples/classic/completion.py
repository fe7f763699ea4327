"""(a) A completion through OpenAI's own client, as articles show it, but from the server on this machine.

    pygpt serve tiny                              # in another terminal; or any other model
    python examples/classic/completion.py         # or with an address: http://127.0.0.1:8000/v1

Articles of 2022 call openai.Completion.create(engine="text-davinci-003", ...): since version 1.0 of the client it is
client.completions.create(model=...). Everything else stays: of OpenAI's service, only base_url is left out here.
"""

import sys

from openai import OpenAI

address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
client = OpenAI(base_url=address, api_key="none")  # the client wants a key, this server asks for none
prompt = "Once upon a time in a land far, far away,"

answer = client.completions.create(
    model=client.models.list().data[0].id,
    prompt=prompt,
    temperature=0.7,
    max_tokens=150,  # of the answer; the prompt's are not counted
    seed=1,  # the same text each time, on any machine
)

print(prompt + answer.choices[0].text)
print(f"{answer.choices[0].finish_reason}: {answer.usage.prompt_tokens} + {answer.usage.completion_tokens} tokens")
