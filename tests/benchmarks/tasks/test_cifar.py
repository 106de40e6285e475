"""CIFAR in the layouts of the hub, as tiny copies."""

import io

import numpy as np
import pytest
from PIL import Image

import metricgrad as mg
from tasks.cifar.data import read_cifar


def write_image_folder(folder, *, classes=("airplane", "automobile", "bird"), each=4, size=8, seed=0):
    """Three classes of a colour each, in the hub's image-folder layout; returns all images of the training part."""
    rng = np.random.default_rng(seed)
    kept = []
    for part in ("train", "test"):
        for label, name in enumerate(classes):
            (folder / part / name).mkdir(parents=True)
            for number in range(each):
                image = rng.integers(0, 60, (size, size, 3), dtype=np.uint8)
                image[..., label % 3] += 150
                Image.fromarray(image).save(folder / part / name / f"{number:04}.png")
                if part == "train":
                    kept.append(image)
    return np.stack(kept)


def test_an_image_folder_is_read_class_by_class(tmp_path):
    written = write_image_folder(tmp_path)
    (tmp_path / "train" / "bird" / "notes.txt").write_text("no image")
    (images, labels), (test_images, test_labels) = read_cifar(tmp_path)
    assert np.array_equal(images, written)
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert test_images.shape == (12, 8, 8, 3)
    assert np.array_equal(test_labels, labels)


def test_parquet_as_the_hub_keeps_it(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    images = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)

    def encoded(image):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": "x.png"}

    (tmp_path / "cifar100").mkdir()
    for part, shards in (("train", 2), ("test", 1)):
        for shard, some in enumerate(np.split(images, shards)):
            labels = [99 - shard] * len(some)
            columns = {"img": [encoded(i) for i in some], "fine_label": labels, "coarse_label": [0] * len(some)}
            file = tmp_path / "cifar100" / f"{part}-0000{shard}-of-0000{shards}.parquet"
            parquet.write_table(arrow.table(columns), file)
    (found, labels), (test, _) = read_cifar(tmp_path, 100)
    assert np.array_equal(found, images)
    assert np.array_equal(test, images)
    assert labels.tolist() == [99] * 3 + [98] * 3
    with pytest.raises(mg.MetricgradError, match="98 to 99"):
        read_cifar(tmp_path, 10)


def test_what_is_missing_or_of_two_sizes_says_so(tmp_path):
    with pytest.raises(mg.MetricgradError, match="neither a folder train"):
        read_cifar(tmp_path)
    write_image_folder(tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "train" / "bird" / "9.png")
    with pytest.raises(mg.MetricgradError, match="2 sizes"):
        read_cifar(tmp_path)
    with pytest.raises(mg.MetricgradError, match="10 or 100"):
        read_cifar("hub", 20)
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(mg.MetricgradError, match="no images"):
        read_cifar(tmp_path / "empty")
