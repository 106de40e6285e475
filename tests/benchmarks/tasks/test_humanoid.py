"""Rendered humanoids: joints where the body is, draws that follow the seed, parts whose poses are no neighbours."""

import importlib.util

import pytest
import torch

import metricgrad as mg
from tasks.humanoid.data import JOINTS, draw_humanoids
from tasks.humanoid.motion import PARTS, motion_folder, part_of_motion, read_motion
from tasks.humanoid.task import humanoid_pose

needs_pybullet = pytest.mark.skipif(
    importlib.util.find_spec("pybullet") is None, reason="the extra 'pose' is not installed"
)


@needs_pybullet
def test_pictures_have_their_shapes_and_follow_the_seed(capfd):
    images, joints, heads = draw_humanoids(24, size=24, seed=3)
    assert images.shape == (24, 1, 24, 24)
    assert joints.shape == (24, len(JOINTS), 2)
    assert heads.shape == (24,)
    assert {x.dtype for x in (images, joints, heads)} == {torch.float32}
    assert float(joints.min()) > -0.5
    assert float(joints.max()) < 23.5
    # a head is a sixth of a body that takes up to nine tenths of the picture
    assert ((heads > 1) & (heads < 6)).all()
    again = draw_humanoids(24, size=24, seed=3)
    assert all(torch.equal(a, b) for a, b in zip((images, joints, heads), again, strict=True))
    assert not torch.equal(draw_humanoids(24, size=24, seed=4)[0], images)
    assert not torch.equal(draw_humanoids(24, size=24, seed=3, part="train")[0], images)
    assert draw_humanoids(0)[0].shape == (0, 1, 32, 32)
    assert "b3Warning" not in "".join(capfd.readouterr())


@needs_pybullet
def test_joints_lie_on_the_body(monkeypatch):
    """The rendered body alone, on black: at a joint there is body, and there is little of it elsewhere."""
    from tasks.humanoid import data as humanoid

    shown = []
    render = humanoid._Body._render

    def on_black(self, view, projection, size, g):
        client, fine = self._client, 2 * size
        found = self._bullet.getCameraImage(
            fine, fine, view.T.flatten().tolist(), projection, renderer=self._bullet.ER_TINY_RENDERER,
            physicsClientId=client,
        )  # fmt: skip
        shown.append(torch.tensor(found[4]).reshape(fine, fine) >= 0)
        return render(self, view, projection, size, g)

    monkeypatch.setattr(humanoid._Body, "_render", on_black)
    _, joints, _ = draw_humanoids(60, size=48, seed=0)
    covered = torch.stack(shown).float()
    near = torch.nn.functional.max_pool2d(covered[:, None], 5, 1, 2)[:, 0]  # within a pixel of the picture
    nearest = (2 * joints + 0.5).round().long()
    rows = torch.arange(60)[:, None]
    ends = [row for row, name in enumerate(JOINTS) if name.split()[-1] in ("head", "hand", "foot")]
    # limbs are capsules with gaps at some joints, chest and elbows among them
    assert float(covered[rows, nearest[:, ends, 1], nearest[:, ends, 0]].mean()) > 0.98
    assert float(near[rows, nearest[..., 1], nearest[..., 0]].mean()) > 0.995
    assert float(near.mean()) < 0.2
    # mirrored or turned joints would miss the body
    for wrong in (nearest.flip(-1), torch.stack([95 - nearest[..., 0], nearest[..., 1]], -1)):
        assert float(near[rows, wrong[..., 1], wrong[..., 0]].mean()) < 0.5


@needs_pybullet
def test_a_body_hangs_together_as_a_body_does():
    """Left is as far from the middle as right, and a forearm is shorter than a body."""
    from tasks.humanoid.data import _body

    at = {name: row for row, name in enumerate(JOINTS)}
    with _body() as body:
        body.take(read_motion().frames[-1].tolist())
        places = body._places()

    def distance(a, b):
        return float((places[at[a]] - places[at[b]]).norm())

    for a, b in (("elbow", "hand"), ("shoulder", "elbow"), ("hip", "knee"), ("knee", "foot")):
        assert distance(f"left {a}", f"left {b}") == pytest.approx(distance(f"right {a}", f"right {b}"), abs=1e-5)
        assert 0.2 < distance(f"left {a}", f"left {b}") < 0.5
    # the last clip walks: upright, y being up
    heights = places[:, 1]
    assert heights[at["head"]] > heights[at["neck"]] > heights[at["pelvis"]] > heights[at["left knee"]]
    assert 1.3 < float(heights[at["head"]]) < 1.8


@needs_pybullet
def test_poses_of_the_parts_are_no_neighbours():
    motion = read_motion()
    assert len(motion.frames) == 1620
    assert len(motion.names) == len(motion.loops) == 15
    for seed in (0, 1):
        parts = [part_of_motion(part, seed) for part in PARTS]
        joined = torch.cat(parts)
        assert len(joined.unique()) == len(joined) > 1200
        owner = torch.full((1620,), -1)
        for number, rows in enumerate(parts):
            owner[rows] = number
        for clip, loops in enumerate(motion.loops):
            of = owner[motion.clips == clip]
            assert set(of.tolist()) >= {0, 2}, motion.names[clip]
            assert (of.roll(-1)[:-1] - of[:-1])[(of[:-1] >= 0) & (of.roll(-1)[:-1] >= 0)].abs().sum() == 0
            ends = {int(of[0]), int(of[-1])} - {-1}
            assert not loops or len(ends) < 2
        # at least a tenth of a second between the parts
        seconds = motion.frames[:, 0].cumsum(0)
        for a, b in ((0, 1), (0, 2), (1, 2)):
            same = motion.clips[parts[a], None] == motion.clips[parts[b]]
            apart = (seconds[parts[a], None] - seconds[parts[b]]).abs()
            assert float(apart[same].min()) > 0.1
    assert not torch.equal(part_of_motion("test", 0), part_of_motion("test", 1))
    assert torch.equal(part_of_motion(None, 0), torch.arange(1620))


@needs_pybullet
def test_every_pose_is_drawn_before_one_is_drawn_again(monkeypatch):
    from tasks.humanoid import data as humanoid

    taken = []
    monkeypatch.setattr(humanoid._Body, "take", lambda self, frame: taken.append(tuple(frame)))
    monkeypatch.setattr(
        humanoid._Body, "picture", lambda self, size, g: (torch.zeros(size, size), torch.zeros(16, 2), 1.0)
    )
    rows = part_of_motion("valid", 5)
    draw_humanoids(len(rows), part="valid", size=16, seed=5)
    assert set(taken) == {tuple(frame) for frame in read_motion().frames[rows].tolist()}


@needs_pybullet
def test_bad_input_is_named():
    with pytest.raises(mg.MetricgradError, match="16 pixels"):
        draw_humanoids(1, size=8)
    with pytest.raises(mg.MetricgradError, match="part is 'dev'; expected one of train, valid, test"):
        draw_humanoids(1, part="dev")


def test_without_pybullet_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    read_motion.cache_clear()
    for call in (motion_folder, lambda: draw_humanoids(1), lambda: humanoid_pose.load(12345)):
        with pytest.raises(mg.MetricgradError, match=r"pip install metricgrad\[pose\]"):
            call()


@needs_pybullet
def test_fit_trains_the_task(tmp_path):
    task = humanoid_pose
    train, valid, _ = ((x[:64], y[:64]) for x, y in task.load(0))
    found = mg.fit(task.model(), train, valid, metric="pck", loss="uniloss", epochs=2, batch_size=32, out=tmp_path,
                   progress=False, device="cpu", lr=0.01)  # fmt: skip
    assert 0 <= found.history[-1]["valid"] <= 1
