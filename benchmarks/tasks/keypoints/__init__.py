"""The task of keypoints: data, model, task."""
