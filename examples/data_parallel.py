"""Train on average precision on several processes.

Run it as ``torchrun --standalone --nproc-per-node 2 examples/data_parallel.py``. Each process has its part of every
batch, and the loss is that of the whole batch: the printed value hardly depends on the number of processes (the order
of a batch's rows does, and with it which of them the loss forgets first).
"""

import datetime

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

import metricgrad as mg


def main(epochs: int = 8) -> float:
    """Train to tell one digit from the others on 1,400 of them; the metric on the rest."""
    torch.manual_seed(0)  # the same first weights everywhere
    images, digits = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(images / 16, dtype=torch.float64), (torch.tensor(digits) == 8).long()
    model = DistributedDataParallel(
        nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0)).double()
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    loss = mg.UniLoss("average_precision")
    batches = mg.RankBatches(mg.Stratified(targets[:1400], size=64))
    data = DataLoader(TensorDataset(inputs[:1400], targets[:1400]), batch_sampler=batches)
    loss.attach(model, optimizer, total_steps=epochs * len(data))
    for _ in range(epochs):
        for x, y in data:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()

    with torch.no_grad():
        return float(mg.as_metric("average_precision")(model.module(inputs[1400:]), targets[1400:]))


if __name__ == "__main__":
    dist.init_process_group("gloo", timeout=datetime.timedelta(minutes=5))  # "nccl" where each process has a GPU
    found = main()
    if dist.get_rank() == 0:
        print(f"average precision of {dist.get_world_size()} processes: {found:.4f}")
    dist.destroy_process_group()
