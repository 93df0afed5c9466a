"""digits.py with PyTorch: trains layernorm.torch.recurrent.LSTM to read scikit-learn's handwritten
digits row by row, where nothing but its import tells that it is not torch.nn's."""

import time

import torch
from layernorm.torch.recurrent import LSTM
from sklearn.datasets import load_digits
from torch import nn

HIDDEN, BATCH, EPOCHS, RATE = 64, 32, 10, 0.01


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = LSTM(8, HIDDEN, batch_first=True)
        self.readout = nn.Linear(HIDDEN, 10)

    def forward(self, images):
        _, (h, _) = self.lstm(images)
        return self.readout(h[-1])


def main():
    torch.manual_seed(0)
    images, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    images = images.reshape(-1, 8, 8).float() / 16
    tested = torch.arange(len(images)) % 5 == 0
    training = torch.nonzero(~tested).flatten()

    model = Reader()
    adam = torch.optim.Adam(model.parameters(), RATE)
    decay = torch.optim.lr_scheduler.LinearLR(adam, 1, 0, EPOCHS)

    def accuracy(chosen):
        with torch.no_grad():
            return (model(images[chosen]).argmax(1) == labels[chosen]).float().mean().item()

    print(
        f"layernorm.torch.recurrent.LSTM, {HIDDEN} units, reads {len(training)} digits row by row"
    )
    start = time.perf_counter()
    for epoch in range(1, EPOCHS + 1):
        losses = []
        for chosen in training[torch.randperm(len(training))].split(BATCH):
            loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
        decay.step()
        mean = sum(losses) / len(losses)
        print(f"epoch {epoch:2}: loss {mean:.3f}, test {accuracy(tested):.1%}")
    print(f"in {time.perf_counter() - start:.1f} s")
    if not accuracy(tested) > 0.95:
        raise SystemExit("the LSTM has not learnt to read")


if __name__ == "__main__":
    main()
