"""Frame by frame equals the whole clip, with a state that does not grow; live sources lose what they say they lose."""

import io
import os
import threading

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from sora_nb import video
from sora_nb.layers.attention import MultiHeadAttention
from sora_nb.layers.convolution import CausalConv1d, CausalConv3d
from sora_nb.layers.position import rotary_angles
from sora_nb.layers.streaming import KeyValueCache, Ring, attend_step, banded, conv_step, encoder_step
from sora_nb.layers.transformer import Encoder
from sora_nb.video.live import Arrival, Mailbox, attended, file_frames, pipe_frames


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def test_a_ring_keeps_the_last_items_and_zeros_before_the_first():
    ring = Ring(3, torch.zeros(2))
    for i in range(1, 3):
        ring.push(torch.full((2,), float(i)))
    assert ring.back(range(2, -1, -1))[:, 0].tolist() == [0, 1, 2]
    for i in range(3, 8):
        ring.push(torch.full((2,), float(i)))
    assert ring.back(range(2, -1, -1))[:, 1].tolist() == [5, 6, 7]
    assert ring.back(range(0, 3, 2))[:, 1].tolist() == [7, 5] and ring.nbytes == 3 * 2 * 4
    with pytest.raises(ValueError, match="ages 0 to 3; this ring keeps 0 to 2"):
        ring.back(range(4))
    with pytest.raises(ValueError, match="size=0"):
        Ring(0, torch.zeros(2))


def stream(conv, clip):
    """Outputs (B, out, T, …) of conv_step over a clip (B, C, T, …), and the ring."""
    ring, outputs = None, []
    for frame in clip.unbind(2):
        y, ring = conv_step(conv, frame, ring)
        outputs.append(y)
    return torch.stack(outputs, 2), ring


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 3), (3, 1), (3, 4)])
def test_convolution_over_time_streams(kernel, dilation):
    conv, clip = CausalConv1d(3, 4, kernel, dilation), torch.randn(2, 3, 30)
    out, ring = stream(conv, clip)
    assert_close(out, conv(clip), atol=1e-5, rtol=1e-5)
    assert len(ring.items) == (kernel - 1) * dilation + 1


@pytest.mark.parametrize(("kernel", "hop", "dilation"), [(3, 1, 1), (3, 2, 1), (2, 1, 3)])
def test_convolution_over_space_and_time_streams(kernel, hop, dilation):
    conv = CausalConv3d(3, 4, (kernel, 3), (1, hop), dilation)
    clip = torch.randn(2, 3, 11, 8, 6)
    assert_close(stream(conv, clip)[0], conv(clip), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "conv",
    [
        CausalConv1d(3, 3, causal=False),
        CausalConv3d(3, 3, causal=False),
        CausalConv3d(3, 3, (3, 3), (2, 1)),
    ],
)
def test_layers_that_cannot_stream_are_refused(conv):
    with pytest.raises(ValueError, match="not causal with time stride 1"):
        conv_step(conv, torch.zeros(1, 3, *[4] * (len(conv.kernel_size) - 1)))


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("window", [1, 4, None])
def test_attention_with_a_cache_equals_banded_attention(window, rotary):
    layer, x = MultiHeadAttention(8, 2), torch.randn(2, 13, 8)
    cache = KeyValueCache(window)
    streamed = torch.stack([attend_step(layer, frame, cache, rotary) for frame in x.unbind(1)], 1)
    whole = layer(x, mask=banded(13, window or 13), angles=rotary_angles(13, 4) if rotary else None)
    assert_close(streamed, whole, atol=1e-5, rtol=1e-5)
    assert cache.nbytes == 2 * 2 * 8 * (window or 13) * 4


def test_an_encoder_streams_and_sees_depth_windows_back():
    encoder, x = Encoder(8, 2, 2).eval(), torch.randn(1, 20, 8)
    caches, outputs = None, []
    for frame in x.unbind(1):
        y, caches = encoder_step(encoder, frame, caches, window=4)
        outputs.append(y)
    assert_close(torch.stack(outputs, 1), encoder(x, banded(20, 4)), atol=1e-5, rtol=1e-5)
    with torch.enable_grad():
        x.requires_grad_()
        encoder(x, banded(20, 4))[0, 19].square().sum().backward()
    assert x.grad.abs().sum(2)[0].nonzero()[0].item() == 19 - 2 * 3


def test_file_and_pipe_give_the_frames_of_the_file(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (7, 32, 48, 3), np.uint8)
    path = video.write_video(tmp_path / "a.mp4", frames)
    decoded = video.read_video(path)
    assert np.array_equal(np.stack(list(file_frames(path))), decoded)
    out, into = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(into, decoded.tobytes()), os.close(into)))
    writer.start()
    with open(out, "rb", buffering=0) as pipe:
        assert np.array_equal(np.stack(list(pipe_frames(pipe, 32, 48))), decoded)
    writer.join()


class Trickle(io.RawIOBase):
    """A pipe that gives at most 1000 bytes at a time."""

    def __init__(self, data: bytes):
        self.data = data

    def read(self, size: int = -1) -> bytes:
        piece, self.data = self.data[: min(size, 1000)], self.data[min(size, 1000) :]
        return piece


def test_frames_that_come_in_pieces_are_put_together():
    frames = np.random.default_rng(0).integers(0, 255, (3, 20, 30, 3), np.uint8)
    assert np.array_equal(np.stack(list(pipe_frames(Trickle(frames.tobytes()), 20, 30))), frames)


def test_a_stream_that_breaks_off_within_a_frame_is_told():
    frames = pipe_frames(io.BytesIO(bytes(2 * 12 + 5)), 2, 2)
    assert next(frames).shape == next(frames).shape == (2, 2, 3)
    with pytest.raises(video.VideoReadError, match="within frame 2: 5 of 12 bytes"):
        next(frames)


@pytest.mark.parametrize(
    ("policy", "kept", "lost"), [("oldest", [3, 4], [0, 1, 2]), ("newest", [0, 1], [2, 3, 4])]
)
def test_a_full_box_drops_by_its_policy(policy, kept, lost):
    box = Mailbox(2, policy)
    for i in range(5):
        box.put(Arrival(i, float(i), None))
    box.close()
    fetched = [box.get().index for _ in range(2)]
    assert (fetched, box.dropped, box.get()) == (kept, lost, None)


def test_late_frames_are_dropped_when_fetched():
    box = Mailbox(5, late=1.5)
    for i in range(4):
        box.put(Arrival(i, float(i), None))
    assert box.get(now=3.0).index == 2 and box.dropped == [0, 1]
    assert box.get(now=9.0, wait=False) is None and box.dropped == [0, 1, 3]


def test_a_source_may_wait_and_nothing_is_lost():
    box, seen = Mailbox(1, "none"), []

    def source():
        for i in range(50):
            box.put(Arrival(i, 0.0, None))
        box.close()

    thread = threading.Thread(target=source)
    thread.start()
    while arrival := box.get():
        seen.append(arrival.index)
    thread.join()
    assert seen == list(range(50)) and not box.dropped


def test_what_a_slow_model_sees_by_hand():
    seen = attended(7, 1.0, 2.5, Mailbox(1, "oldest"))
    assert [i for i, _ in seen] == [0, 2, 5, 6]  # free at 0, 2.5, 5, 7.5
    assert [round(delay, 1) for _, delay in seen] == [2.5, 3.0, 2.5, 4.0]
    fast = Mailbox(1, "newest")
    assert attended(5, 1.0, 0.5, fast) == [(i, 0.5) for i in range(5)] and not fast.dropped
    delays = [d for _, d in attended(40, 1.0, 1.5, Mailbox(40))]
    assert delays == [1.5 + 0.5 * i for i in range(40)]  # keeping everything: later and later
    box = Mailbox(40, late=1.0)
    assert max(d for _, d in attended(40, 1.0, 1.5, box)) <= 2.5 and box.dropped


def test_what_boxes_refuse():
    with pytest.raises(ValueError, match="choose one of oldest, newest, none"):
        Mailbox(policy="random")
    with pytest.raises(ValueError, match="at least one frame"):
        Mailbox(0)
    with pytest.raises(ValueError, match="no source waits"):
        attended(3, 1.0, 1.0, Mailbox(1, "none"))
