"""A tiny copy of an image data set in folders."""

import pytest
import torch
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for part, each in (("train", 20), ("test", 6)):
        for label, name in enumerate(("bird", "cat", "ship")):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number in range(each):
                image = torch.randint(0, 90, (8, 8, 3), generator=generator, dtype=torch.uint8)
                image[..., label] += 120
                Image.fromarray(image.numpy()).save(tmp_path / "data" / part / name / f"{number}.png")
    return tmp_path / "data"
