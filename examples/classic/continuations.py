"""(d) Five continuations of a text, of at most 50 tokens each.

    python examples/classic/continuations.py "The old house"
    python examples/classic/continuations.py "今天天气" qwen2.5-coder-0.5b      # a model that has read Chinese

transformers calls these num_return_sequences=5 and max_length=50, which counts the prompt's tokens as well.
"""

import sys

import pygpt

text, name = (sys.argv[1:] + ["The old house", "tiny"][len(sys.argv) - 1 :])[:2]
model = pygpt.Model.load(name)
n_prompt = len(model.tokenizer.encode(text))

for done in model.generate(text, n=5, max_tokens=50 - n_prompt, temperature=0.8, top_p=0.95, seed=1):
    print(f"{done.finish_reason} after {n_prompt} + {len(done.tokens)} tokens: {text}{done.text}\n")
