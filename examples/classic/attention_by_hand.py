"""(g) Attention worked out for three words, step by step, with the scale, the mask and the softmax."""

import math

import numpy as np

from pygpt import reference
from pygpt.config import LayerConfig

words = ["the", "cat", "sat"]
x = [[1.0, 0.0, 1.0], [0.0, 2.0, 0.0], [1.0, 1.0, 1.0]]  # a vector for each word
to_query, to_key, to_value = [[1, 0], [1, 1], [0, 1]], [[0, 1], [1, 0], [1, 1]], [[1, 2], [0, 3], [1, 0]]


def times(row, matrix):
    return [sum(a * b for a, b in zip(row, column, strict=True)) for column in zip(*matrix, strict=True)]


query, key, value = ([times(row, matrix) for row in x] for matrix in (to_query, to_key, to_value))
mixed = []
for t, word in enumerate(words):
    # 1. The scores: how well the query fits each key. No word sees those after it: that is the mask.
    scores = [sum(a * b for a, b in zip(query[t], key[s], strict=True)) for s in range(t + 1)]
    # 2. The scale: divided by sqrt(width), or they grow with it and one word takes all.
    scaled = [score / math.sqrt(len(query[t])) for score in scores]
    # 3. The softmax, which many articles forget: weights that are positive and sum to 1.
    powers = [math.exp(score) for score in scaled]
    weights = [power / sum(powers) for power in powers]
    # 4. The mean of the values by these weights.
    mixed.append([sum(w * value[s][i] for s, w in enumerate(weights)) for i in range(2)])
    looks = ", ".join(f"{weight:.3f} at {words[s]}" for s, weight in enumerate(weights))
    print(f"{word}: scores {scores}, looks {looks}; gets {mixed[t][0]:.3f}, {mixed[t][1]:.3f}")

q, k, v = (np.array([rows]) for rows in (query, key, value))  # (1 head, 3 words, 2)
same = reference.causal_attention(q, k, v, LayerConfig(attn_scale=1 / math.sqrt(2)))
print(f"as pygpt.reference computes it: {np.allclose(same[0], mixed, rtol=1e-14)}")
