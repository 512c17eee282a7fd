import math

import numpy as np
import torch

from caffe_compat.layers.shared.log_loss import LOG_FLT_MIN, floored_log_loss
from tests.layers.harness import noise, on_devices, tensor


@on_devices
def test_values_and_gradient(device: str) -> None:
    scores = noise(3, 4, 2, device=device)
    labels = torch.tensor([[0, 1], [3, 2], [1, 1]], device=device)
    weights = torch.tensor([[1.0, 0.0], [2.0, 0.5], [1.0, 1.0]], dtype=torch.float64, device=device)
    losses = floored_log_loss(scores, labels, weights)
    powers = np.exp(scores.detach().cpu().numpy())
    p = powers / powers.sum(1, keepdims=True)
    for (i, j), label in np.ndenumerate(labels.cpu().numpy()):
        expected = -math.log(p[i, label, j]) * weights[i, j].item()
        assert np.isclose(losses[i, j].item(), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda x: floored_log_loss(x, labels, weights), (scores,))


def test_the_floor_cuts_the_value_and_not_the_gradient() -> None:
    scores = tensor([[[0.0], [200.0]]])
    loss = floored_log_loss(scores, torch.tensor([[0]]), torch.ones(1, 1, dtype=torch.float64))
    assert loss.item() == -LOG_FLT_MIN == 126 * math.log(2)
    assert torch.autograd.grad(loss.sum(), scores)[0].flatten().tolist() == [-1.0, 1.0]
