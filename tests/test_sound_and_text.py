"""Sound placed in time and described by its pitches, words as numbers, pictures and sound in one model."""

from itertools import pairwise

import av
import numpy as np
import pytest
import torch

from sora_nb.data import motion
from sora_nb.data.text import BEGIN, END, PAD, UNKNOWN, Vocabulary
from sora_nb.models.audiovisual import FUSIONS, AudioVisual
from sora_nb.video import VideoReadError, write_video
from sora_nb.video.audio import audio_delay, log_mel, mel_filters, read_audio

RATE = 8000


def wave(seconds=2.0, seed=0):
    """A chirp in noise."""
    t = np.arange(int(seconds * RATE)) / RATE
    noise = 0.01 * np.random.default_rng(seed).standard_normal(len(t))
    return (0.3 * np.sin(2 * np.pi * (300 + 150 * t) * t) + noise).astype(np.float32)


@pytest.mark.parametrize(("window", "hop", "bands", "low", "high"), [(512, 250, 24, 200, 1300), (256, 256, 8, 0, 4000)])  # fmt: skip
def test_log_mel_equals_the_reference(window, hop, bands, low, high):
    from transformers import audio_utils  # here, for it takes seconds to load

    bank = audio_utils.mel_filter_bank(window // 2 + 1, bands, low, high, RATE, norm=None, mel_scale="htk")
    np.testing.assert_allclose(mel_filters(bands, window, RATE, low, high), bank, atol=1e-9)
    theirs = audio_utils.spectrogram(
        np.pad(wave(), (window - hop) // 2), audio_utils.window_function(window, "hann"), window, hop,
        center=False, power=2.0, mel_filters=bank, mel_floor=1e-3, log_mel="log",
    ).T  # fmt: skip
    ours = log_mel(wave(), RATE, window=window, hop=hop, bands=bands, low=low, high=high)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_a_row_describes_its_own_piece_and_silence_is_the_floor():
    click = np.zeros(2500, np.float32)
    click[1125] = 1.0  # the middle of piece 4
    rows = log_mel(click, RATE)
    assert rows.shape == (10, 24)
    assert rows.max(1).argmax() == 4
    np.testing.assert_allclose(rows[3], rows[5], atol=1e-4)  # alike far from it
    np.testing.assert_allclose(rows[0], np.log(1e-3), rtol=1e-6)
    np.testing.assert_allclose(log_mel(np.stack([click, wave()[:2500]]), RATE)[0], rows)


def test_triangles_meet_and_are_refused_out_of_range():
    bank = mel_filters(10, 2048, RATE, 100, 3000)
    inside = bank[bank.argmax(0)[0] + 1 : bank.argmax(0)[-1]].sum(1)
    np.testing.assert_allclose(inside, 1, atol=1e-9)  # neighbours share all there is
    assert all(a < b for a, b in pairwise(bank.argmax(0)))
    for low, high in ((-1, 100), (200, 200), (100, 4001)):
        with pytest.raises(ValueError, match=r"must lie in 0 to 4000\.0"):
            mel_filters(4, 512, RATE, low, high)
    for short in ({"window": 100, "hop": 250}, {"window": 511}, {"hop": 251}):
        with pytest.raises(ValueError, match="it expects at least a hop"):
            log_mel(wave(), RATE, **short)
    with pytest.raises(ValueError, match="got 100 samples"):
        log_mel(wave()[:100], RATE)


def shifted(source, target, stream, seconds):
    """The same packets, one stream's with later time stamps."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        copies = {s.index: new.add_stream_from_template(s) for s in old.streams}
        for packet in old.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == stream:
                later = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + later, packet.dts + later
            packet.stream = copies[packet.stream.index]
            new.mux(packet)


def test_samples_and_stamps_together_place_the_sound(tmp_path):
    frames, heard = np.zeros((16, 32, 32, 3), np.uint8), wave()
    write_video(tmp_path / "a.mp4", frames, 8, audio=heard, sample_rate=RATE)
    shifted(tmp_path / "a.mp4", tmp_path / "late.mp4", "audio", 0.25)
    shifted(tmp_path / "a.mp4", tmp_path / "early.mp4", "video", 0.5)
    for name, true in (("a", 0.0), ("late", 0.25), ("early", -0.5)):
        samples, _ = read_audio(tmp_path / f"{name}.mp4")
        fits = [heard[2500:9000] @ samples[2500 + lag : 9000 + lag] for lag in range(2000)]
        at = int(np.argmax(fits)) / RATE + audio_delay(tmp_path / f"{name}.mp4")
        assert abs(at - true) < 0.002, name
    write_video(tmp_path / "mute.mp4", frames, 8)
    with pytest.raises(VideoReadError, match="it lacks pictures or sound"):
        audio_delay(tmp_path / "mute.mp4")
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:300])
    with pytest.raises(VideoReadError):
        audio_delay(tmp_path / "broken.mp4")


def test_words_come_back():
    sentences = [motion.caption(m, m % 10, m % 4) for m in range(12)]
    words = Vocabulary(sentences)
    rows = words.encode(["A five, moves LEFT.", "a five"])
    assert rows[:, 0].eq(BEGIN).all() and rows[0, -1] == END
    assert rows[1].tolist()[3:] == [END] + [PAD] * (rows.shape[1] - 4)
    assert words.encode(["a giraffe"])[0].tolist()[2] == UNKNOWN
    assert words.decode(rows) == ["a five moves left", "a five"]
    assert words.words[4:] == sorted(set(words.words[4:])) and len(words) == len(words.words)
    assert words.decode(torch.tensor([[5, END, 6]])) == [words.words[5]]
    with pytest.raises(ValueError, match="no sentence"):
        words.encode([])


def parts(seed=0):
    """Clips and log-mels: 8 frames, 8 rows each."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(4, 8, 3, 16, 16, generator=draw), torch.randn(4, 64, 24, generator=draw)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_fusion_heeds_its_channels_and_their_order(fusion):
    torch.manual_seed(0)
    model, (v, s), (w, r) = AudioVisual(5, fusion=fusion).eval(), parts(), parts(1)
    base = model(v, s)
    heeds = {"video": fusion != "sound", "sound": fusion != "video"}
    assert (not torch.allclose(model(w, s), base, atol=1e-4)) == heeds["video"]
    assert (not torch.allclose(model(v, r), base, atol=1e-4)) == heeds["sound"]
    for later in (model(v.flip(1), s), model(v, s.unflatten(1, (8, 8)).flip(1).flatten(1, 2))):
        assert fusion in ("video", "sound") or not torch.allclose(later, base, atol=1e-4)
    assert not torch.allclose(model(v.flip(1), s.flip(1)), base, atol=1e-4)
    model(v, s).sum().backward()
    unused = {"video": {"sound"}, "sound": {"frames"}}.get(fusion, set())
    for name, p in model.named_parameters():
        assert (p.grad is None) == (name.split(".")[0] in unused), name


def test_late_fusion_adds_what_each_channel_says_alone():
    torch.manual_seed(0)
    both, (v, s) = AudioVisual(5, fusion="late").eval(), parts()
    alone = {}
    for i, name in enumerate(("video", "sound")):
        alone[name] = AudioVisual(5, fusion=name).eval()
        for part in ("frames", "sound"):
            getattr(alone[name], part).load_state_dict(getattr(both, part).state_dict())
        alone[name].readers[0].load_state_dict(both.readers[i].state_dict())
        alone[name].heads[0].load_state_dict(both.heads[i].state_dict())
    torch.testing.assert_close(both(v, s), alone["video"](v, s) + alone["sound"](v, s))


def test_what_the_model_refuses():
    (v, s), model = parts(), AudioVisual(5)
    with pytest.raises(ValueError, match="choose one of video, sound, early"):
        AudioVisual(5, fusion="middle")
    for mel in (s[:, :63], s[..., :20]):
        with pytest.raises(ValueError, match="8 rows a frame, 24 bands"):
            model(v, mel)
    with pytest.raises(ValueError, match="got 8 frames and sound for 7"):
        model(v, s[:, :56])
    with pytest.raises(ValueError, match="AudioVisual got"):
        model(v[:, :, :1], s)
