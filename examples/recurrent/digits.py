"""Trains layernorm.recurrent.LSTM, on NumPy alone, to read handwritten digits row by row:
scikit-learn's 1797 images of 8 x 8 pixels, of which every fifth is kept for the test."""

import time

import layernorm.recurrent
import numpy as np
from sklearn.datasets import load_digits

HIDDEN, BATCH, EPOCHS, RATE = 64, 32, 10, 0.01


class Adam:
    """Kingma, Ba 2015, arXiv:1412.6980."""

    def __init__(self, params):
        self.params = params
        self.moments = {name: (np.zeros_like(p), np.zeros_like(p)) for name, p in params.items()}
        self.count = 0

    def step(self, gradients, rate):
        self.count += 1
        rate *= np.sqrt(1 - 0.999**self.count) / (1 - 0.9**self.count)
        for name, gradient in gradients.items():
            first, second = self.moments[name]
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            self.params[name] -= rate * first / (np.sqrt(second) + 1e-8)


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def main():
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(np.float32) / 16
    tested = np.arange(len(images)) % 5 == 0
    rows = images.transpose(1, 0, 2)  # [time][batch][pixels of a row]
    rng = np.random.default_rng(0)

    lstm = layernorm.recurrent.LSTM(8, HIDDEN, rng=rng)
    readout = rng.normal(0, HIDDEN**-0.5, (HIDDEN, 10)).astype(np.float32)
    adam = Adam(lstm.params | {"readout": readout})

    def accuracy(chosen):
        _, (h, _) = lstm(rows[:, chosen])
        return ((h @ readout).argmax(axis=1) == labels[chosen]).mean()

    print(f"layernorm.recurrent.LSTM, {HIDDEN} units, reads {np.sum(~tested)} digits row by row")
    start = time.perf_counter()
    for epoch in range(1, EPOCHS + 1):
        rate = RATE * (EPOCHS + 1 - epoch) / EPOCHS
        losses = []
        order = rng.permutation(np.flatnonzero(~tested))
        for begin in range(0, len(order), BATCH):
            chosen = order[begin : begin + BATCH]
            _, (h, _), saved = lstm.forward(rows[:, chosen])
            dlogits = softmax(h @ readout)
            at_label = np.arange(len(chosen)), labels[chosen]
            losses.append(-np.log(dlogits[at_label]).mean())
            dlogits[at_label] -= 1
            dlogits /= len(chosen)
            gradients = lstm.backward(saved, dstate=(dlogits @ readout.T, None)).params
            adam.step(gradients | {"readout": h.T @ dlogits}, rate)
        print(f"epoch {epoch:2}: loss {np.mean(losses):.3f}, test {accuracy(tested):.1%}")
    print(f"in {time.perf_counter() - start:.1f} s")
    if not accuracy(tested) > 0.95:
        raise SystemExit("the LSTM has not learnt to read")


if __name__ == "__main__":
    main()
