"""Loaders of MPII's and COCO's layouts on a copy of two pictures with one bright pixel for each joint."""

import json
import sys

import numpy as np
import pytest
import torch

import metricgrad as mg
from tasks.keypoints.data import read_coco, read_mpii

Image = pytest.importorskip("PIL.Image")

POINTS = [[[40, 30], [60, 70], [-1, -1]], [[55, 20], [30, 60], [62, 52]]]


@pytest.fixture(name="folder")
def _folder(tmp_path):
    for i, points in enumerate(POINTS):
        pixels = np.zeros((100, 120, 3), dtype=np.uint8)
        for x, y in points:
            if x >= 0:
                pixels[y, x] = 255
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    mpii = [
        {"image": f"{i}.png", "center": [50, 50], "scale": 0.32, "joints": p, "joints_vis": [1, 1, i],
         "headbox": [0, 0, 6, 8]}
        for i, p in enumerate(POINTS)
    ]  # fmt: skip
    (tmp_path / "mpii.json").write_text(json.dumps(mpii))
    people = [
        {"image_id": i, "bbox": [18, 18, 64, 50],
         "keypoints": [v for j, (x, y) in enumerate(p) for v in (x, y, 0 if j == 2 and i == 0 else 2)]}
        for i, p in enumerate(POINTS)
    ]  # fmt: skip
    people.append({"image_id": 0, "bbox": [0, 0, 9, 9], "keypoints": [0] * 9})
    people.append({**people[0], "iscrowd": 1})
    coco = {"images": [{"id": i, "file_name": f"{i}.png"} for i in range(2)], "annotations": people}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    return tmp_path


@pytest.mark.parametrize(("read", "name"), [(read_mpii, "mpii.json"), (read_coco, "coco.json")])
@pytest.mark.parametrize("size", [80, 160])
def test_joints_stay_on_their_pixels(folder, read, name, size):
    found = read(folder / name, folder, size=size)
    assert found.images.shape == (2, 3, size, size)
    assert found.present.tolist() == [[True, True, False], [True, True, True]]
    for i in range(2):
        for j in range(3):
            if found.present[i, j]:
                x, y = found.points[i, j].round().long().tolist()
                around = found.images[i, 0, y - 1 : y + 2, x - 1 : x + 2]
                assert float(around.max()) > 0.5
    assert found.points.isfinite().all()
    assert mg.as_metric("pck")(torch.zeros(2, 3, size, size), found.points, mask=found.present).isfinite()


def test_head_sizes_are_those_of_pckh(folder):
    found = read_mpii(folder / "mpii.json", folder, size=160, limit=1)
    assert found.head_sizes.tolist() == pytest.approx([0.6 * 10 * 160 / 80])
    assert read_coco(folder / "coco.json", folder).head_sizes is None


def test_what_is_missing_is_named(folder, monkeypatch):
    with pytest.raises(mg.MetricgradError, match=r"none\.json cannot be read"):
        read_mpii(folder / "none.json", folder)
    with pytest.raises(mg.MetricgradError, match="MPII's list"):
        read_mpii(folder / "coco.json", folder)
    with pytest.raises(mg.MetricgradError, match="lacks"):
        read_coco(folder / "mpii.json", folder)
    with pytest.raises(mg.MetricgradError, match=r"picture .* cannot be read"):
        read_mpii(folder / "mpii.json", folder / "elsewhere")
    (folder / "odd.json").write_text('[{"image": "0.png"}]')
    with pytest.raises(mg.MetricgradError, match="center"):
        read_mpii(folder / "odd.json", folder)
    (folder / "empty.json").write_text("[]")
    with pytest.raises(mg.MetricgradError, match="no person"):
        read_mpii(folder / "empty.json", folder)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(mg.MetricgradError, match="pip install pillow"):
        read_mpii(folder / "mpii.json", folder)
