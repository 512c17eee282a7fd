"""Fine-tune a deploy net in a plain PyTorch loop: the digits' net learns letters.

python examples/finetune_torch.py --out examples_out
"""

from pathlib import Path

import numpy as np
import torch
from digits import SCALE, folder_argument, images, train
from matplotlib.figure import Figure
from torch.nn.functional import cross_entropy

from caffe_compat import Net
from caffe_compat.proto import read_net

LETTERS = range(10, 20)  # A to J: as many as there were digits
PER_CLASS, EPOCHS, BATCH = 8, 12, 20


def letters(per_class: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images from 0 to 1 and their labels, as tensors."""
    pixels, labels = images(per_class, seed, LETTERS)
    return torch.from_numpy(pixels * np.float32(SCALE)), torch.from_numpy(labels)


def learn(net: Net) -> list[float]:
    """The loop that any torch.nn.Module gets; returns the accuracy on unseen letters after each epoch."""
    inputs, labels = letters(PER_CLASS, seed=1)
    unseen_inputs, unseen_labels = letters(per_class=30, seed=2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    accuracies = []
    for _ in range(EPOCHS):
        net.train()
        for chosen in torch.randperm(len(labels), generator=generator).split(BATCH):
            optimizer.zero_grad()
            # The deploy net ends in a Softmax; PyTorch's loss wants what is under it, a blob called "score".
            scores = net.extract(["score"], data=inputs[chosen])["score"]
            cross_entropy(scores, labels[chosen]).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            found = net(data=unseen_inputs)["prob"].argmax(1)
        accuracies.append(float((found == unseen_labels).float().mean()))
    return accuracies


def write_letters_net(model: Path, target: Path) -> None:
    """The deploy net with its last layer under a new name: it gets no weights from the digits' file."""
    net = read_net(model)
    for layer in net.layer:
        if layer.name == "score":
            layer.name = "score_letters"
    target.write_text(str(net))


def main() -> None:
    out = folder_argument(__doc__)
    model, weights = train(out)
    write_letters_net(model, out / "letters.prototxt")
    torch.manual_seed(1)  # for the new layer's filler
    net = Net(out / "letters.prototxt")
    report = net.copy_from(weights)
    print(f"from the digits: {', '.join(report.copied)}; new: {', '.join(report.missing)}")
    tuned = learn(net)
    net.save(out / "letters.caffemodel")  # Caffe reads it
    torch.manual_seed(1)
    fresh = learn(Net(out / "letters.prototxt"))
    print(f"accuracy on unseen letters after {EPOCHS} epochs: fine-tuned {tuned[-1]:.3f}, from scratch {fresh[-1]:.3f}")

    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, EPOCHS + 1), tuned, "o-", label="fine-tuned from digits")
    axes.plot(range(1, EPOCHS + 1), fresh, "s--", label="from scratch")
    axes.set(xlabel="epoch", ylabel=f"accuracy on unseen letters ({PER_CLASS} images of each seen)", ylim=(0, 1))
    axes.legend()
    figure.savefig(out / "finetune_torch.png")
    print(f"picture: {out / 'finetune_torch.png'}")


if __name__ == "__main__":
    main()
