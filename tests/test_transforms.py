"""Clip transforms: one draw a clip, exact inverses, and what commutes with what."""

import numpy as np
import pytest
import torch

from sora_nb import transforms as tf


def frames(t=6, h=20, w=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (t, h, w, 3), dtype=np.uint8)


def test_to_clip_and_to_frames_are_inverse_and_move_the_channels():
    raw = frames()
    clip = tf.to_clip(raw)
    assert clip.shape == (6, 3, 20, 24) and 0 <= clip.min() and clip.max() <= 1
    assert clip[2, 1, 5, 7] == pytest.approx(raw[2, 5, 7, 1] / 255)
    assert np.array_equal(tf.to_frames(clip), raw)
    assert np.array_equal(tf.to_frames(torch.full((1, 3, 1, 1), 1.7)), np.full((1, 1, 1, 3), 255))


@pytest.mark.parametrize(
    "bad",
    [np.zeros((4, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((4, 3, 8, 8), np.uint8)],
)
def test_to_clip_names_what_it_was_given(bad):
    with pytest.raises(ValueError, match="expected uint8"):
        tf.to_clip(bad)


def test_normalize_standardizes_and_denormalize_undoes_it():
    clip = tf.to_clip(frames())
    out = tf.normalize(clip, mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.2))
    torch.testing.assert_close(out[:, 2], (clip[:, 2] - 0.3) / 0.2)
    torch.testing.assert_close(tf.denormalize(out, (0.1, 0.2, 0.3), (0.5, 0.4, 0.2)), clip)


def test_trim_keeps_the_frames_asked_for_and_refuses_others():
    clip = tf.to_clip(frames(8))
    torch.testing.assert_close(tf.trim(clip, 2, 3), clip[2:5])
    torch.testing.assert_close(tf.trim(clip[None], 2, 3), clip[None, 2:5])
    assert torch.equal(tf.trim(clip, 0, 8), clip) and torch.equal(tf.trim(clip, 7, 1), clip[7:])
    for start, length in ((6, 3), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="of a clip with 8"):
            tf.trim(clip, start, length)


@pytest.mark.parametrize("make", [tf.evaluation_transform, tf.training_transform])
@pytest.mark.parametrize("seed", range(5))
def test_every_frame_gets_the_same_treatment(make, seed):
    """A clip of one repeated frame must stay still: any difference would be motion that we made up."""
    still = tf.to_clip(frames(1)).expand(7, -1, -1, -1)
    torch.manual_seed(seed)
    out = make(16)(still)
    assert out.shape == (7, 3, 16, 16)
    torch.testing.assert_close(out, out[:1].expand_as(out), rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [tf.evaluation_transform, tf.training_transform])
def test_transforms_commute_with_time_reversal(make):
    clip, transform = tf.to_clip(frames()), make(16)
    torch.manual_seed(3)
    forward = transform(clip)
    torch.manual_seed(3)
    torch.testing.assert_close(transform(clip.flip(0)), forward.flip(0))


def test_training_transform_differs_between_calls_and_flips_only_when_asked():
    clip = tf.to_clip(frames())
    draw = tf.training_transform(20, scale=(1.0, 1.0), color=0)
    outs = [tf.training_transform(16)(clip) for _ in range(4)]
    assert len({round(o.sum().item(), 4) for o in outs}) == 4
    ramp = torch.linspace(0, 1, 20).expand(2, 3, 20, 20)
    assert all((draw(ramp)[..., 0] < draw(ramp)[..., -1]).all() for _ in range(20))
    flipping = tf.training_transform(20, scale=(1.0, 1.0), color=0, flip=True)
    sides = {bool((flipping(ramp)[..., 0] < 0.5).all()) for _ in range(40)}
    assert sides == {True, False}


def test_training_transform_changes_color_only_when_asked():
    gray = torch.full((2, 3, 16, 16), 0.5)
    plain, jitter = (tf.training_transform(16, scale=(1.0, 1.0), color=c) for c in (0, 0.5))
    assert all(torch.allclose(plain(gray), gray) for _ in range(5))
    assert len({round(jitter(gray).mean().item(), 4) for _ in range(5)}) > 1


def test_imagenet_statistics_are_those_of_torchvisions_weights():
    from torchvision.models import ResNet18_Weights

    preset = ResNet18_Weights.DEFAULT.transforms()
    assert list(tf.IMAGENET_MEAN) == preset.mean and list(tf.IMAGENET_STD) == preset.std
