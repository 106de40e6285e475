"""A loop of one's own under Accelerate, in one process or several: ``python examples/accelerate_loop.py``.

Under several processes, as ``torchrun --standalone --nproc-per-node 2 examples/accelerate_loop.py`` starts them, the
loss is one of the rows of all.
"""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import metricgrad as mg


def main(epochs: int = 6, accumulate: int = 2) -> float:
    """Macro F1 of held-out digits, trained on a loss that a policy moves by the validation part."""
    accelerator = Accelerator(gradient_accumulation_steps=accumulate, cpu=True)
    torch.manual_seed(0)
    inputs, targets = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(targets)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    batches = DataLoader(TensorDataset(inputs[:1200], targets[:1200]), batch_size=32, shuffle=True)
    valid = DataLoader(TensorDataset(inputs[1200:1400], targets[1200:1400]), batch_size=100)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model, optimizer, batches, valid = accelerator.prepare(model, optimizer, batches, valid)

    metric = mg.as_metric("macro_f1")
    loss = mg.ALA(metric, num_outputs=10, every=10)
    steps = epochs * -(-len(batches) // accumulate)
    handle = loss.attach(accelerator.unwrap_model(model), optimizer, valid=valid, total_steps=steps)
    for _ in range(epochs):
        for own, truth in batches:
            with accelerator.accumulate(model):
                accelerator.backward(loss(model(own), truth))
                optimizer.step()
                optimizer.zero_grad()
    handle.detach()

    with torch.no_grad():
        value = float(metric(accelerator.unwrap_model(model)(inputs[1400:]), targets[1400:]))
    accelerator.print(f"macro F1 on held-out digits: {value:.3f} ({accelerator.num_processes} processes)")
    accelerator.end_training()
    return value


if __name__ == "__main__":
    main()
