"""Stanford Online Products' layout, on a tiny copy made here."""

import numpy as np
import pytest
import torch

import metricgrad as mg
from tasks.products.data import VARIABLE, Products

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(name="folder")
def _folder(tmp_path):
    rng = np.random.default_rng(0)
    number = 0
    for part, classes in (("train", range(1, 5)), ("test", range(5, 8))):
        lines = ["image_id class_id super_class_id path"]
        for c in classes:
            for k in range(4):
                number += 1
                kind = "mug final" if c % 2 else "sofa_final"  # a path may hold a blank
                name = f"{kind}/{1000 + c}_{k}.JPG"
                (tmp_path / kind).mkdir(exist_ok=True)
                pixels = np.full((30 + 2 * c, 40, 3), 0, np.uint8)
                pixels[..., c % 3] = 40 * (c % 5) + rng.integers(0, 20)
                Image.fromarray(pixels if c != 2 else pixels[..., c % 3]).save(tmp_path / name)
                lines.append(f"{number} {c} {1 + c % 2} {name}")
        (tmp_path / f"Ebay_{part}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_images_and_classes_come_as_they_are_listed(folder, monkeypatch):
    data = Products("train", folder, size=16)
    assert len(data) == 16
    assert data.targets.tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    image, label = data[0]
    assert image.shape == (3, 16, 16)
    assert image.dtype == torch.float32
    assert label == 1
    assert 0.1 < float(image[1].mean()) < 0.3
    assert float(image[0].mean()) < 0.05
    assert data[4][0].shape == (3, 16, 16)  # grey is made RGB
    assert Products("train", folder, super_classes=True).targets.unique().tolist() == [1, 2]
    monkeypatch.setenv(VARIABLE, str(folder))
    doubled = Products("test", size=8, transform=lambda x: 2 * x)
    assert doubled.targets.min() == 5
    torch.testing.assert_close(doubled[3][0], 2 * Products("test", size=8)[3][0])


def test_fit_takes_it_with_class_balanced_batches(folder):
    train, test = (Products(part, folder, size=4) for part in ("train", "test"))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    result = mg.fit(
        model, train, test, metric="retrieval_recall", loss="triplet", epochs=2, batch_size=8, per_class=4,
        progress=False, device="cpu",
    )  # fmt: skip
    assert 0 <= result.valid <= 1


def test_what_is_wrong_is_named(folder, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(mg.MetricgradError, match=VARIABLE):
        Products("train")
    with pytest.raises(mg.MetricgradError, match="part is 'valid'"):
        Products("valid", folder)
    with pytest.raises(mg.MetricgradError, match="cannot be read"):
        Products("train", folder / "nowhere")
    (folder / "sofa_final/1002_0.JPG").unlink()
    with pytest.raises(mg.MetricgradError, match="cannot be opened"):
        Products("train", folder)[4]
    text = (folder / "Ebay_test.txt").read_text()
    (folder / "Ebay_test.txt").write_text(text + "99 1 1 x.JPG\n")
    with pytest.raises(mg.MetricgradError, match="share 1 classes"):
        Products("train", folder)
    (folder / "Ebay_test.txt").write_text(text + "99 one 1 x.JPG\n")
    with pytest.raises(mg.MetricgradError, match="line 14"):
        Products("train", folder)
    (folder / "Ebay_test.txt").write_text("a,b\n")
    with pytest.raises(mg.MetricgradError, match="expected the header"):
        Products("train", folder)
