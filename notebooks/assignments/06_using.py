# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% tags=["instance"]
# Runs when the set is built and is no part of it; `draw` is a random.Random of the course's secret.
seed = draw.randrange(1000, 10_000)
bins = draw.choice([10, 12, 15])
per_source = draw.choice([6, 8, 10])
dilation = draw.choice([2, 3, 4])
leaky_ones = [
    "the clips are shuffled; the first four fifths are for training",
    "every fifth clip of the list is for testing",
    "a clip is for testing if a hash of its name is 0 modulo 5",
    "of each video the last fifth of its clips is for testing",
    "the clips, sorted by video, are cut after four fifths of the clips",
]
safe_ones = [
    "the videos are shuffled; the clips of the first four fifths of them are for training",
    "a clip is for testing if a hash of its video's name is 0 modulo 5",
    "the clips of the fifth of the videos that were filmed last are for testing",
    "the clips of every fifth video of a list of the videos are for testing",
]
asked = draw.sample(leaky_ones, 3) + draw.sample(safe_ones, 3)
draw.shuffle(asked)
leaks = {name: name in leaky_ones for name in asked}
questions = "\n".join(f"- `{name}`" for name in asked)

# %% [markdown]
# # Problem set 6: Using representations
#
# Parts VI and VII: search, recognition, events, objects, real time. Seven tasks, 90 points. Each task names its chapter and says what it needs of it, so you can begin before you have read them all. You will
# score a search, say "none of these" at the right moment, catch a split that leaks, compare segmentations of a long video, match boxes, turn a layer into a stream, and round a layer to eight bits.
#
# - Write only where it says `YOUR CODE HERE` or `YOUR ANSWER HERE`, or, in tasks that say so, mend the code that is there. Add cells of your own anywhere.
# - The cells with checks are there to help you: when one raises, read its last line. When your work is graded, these checks and further ones run on shapes, seeds and types
#   of number that you have not seen. All checks of a cell must hold for its points.
# - No task needs another. Where one builds on an idea of an earlier one, the book's own version is given.
# - Do not print a lot and do not read or write files: your code is graded in a sandbox that stops it (`How to hand in`, in the book).
# - Before the deadline, run `make check-submission FILE=...` on your notebook.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import zlib
from functools import cache

import numpy as np
import torch
from torch.nn import functional as F

# %% [markdown]
# ## 1 · How good is a search? (4 + 6 points; chapter 15)
#
# A search returns clips, the best match first. Some are relevant. The **precision** at place $r$ is the share of relevant ones among the first $r$. The **average precision** is the mean of the precisions *at the places of the relevant clips*: 1 if all of them come
# first, and never much if they come late. Write it as a loop. If nothing is relevant it is 0.


# %% nbgrader={"grade": false, "grade_id": "search-loop", "locked": false, "schema_version": 3, "solution": true, "task": false}
def average_precision(relevant):
    """A list of True and False, in the order of the search -> a number from 0 to 1."""
    ### BEGIN SOLUTION
    found, precisions = 0, []
    for place, hit in enumerate(relevant, start=1):
        if hit:
            found += 1
            precisions.append(found / place)
    return sum(precisions) / len(precisions) if precisions else 0.0
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "search-loop-test", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
_got = average_precision([False, True, True, False])
assert abs(_got - (1 / 2 + 2 / 3) / 2) < 1e-9, (
    f"hits at places 2 and 3: the precisions there are 1/2 and 2/3; you gave {_got}, expected their mean 0.5833"
)
assert average_precision([False, False]) == 0, (
    "a search without any relevant clip has the average precision 0"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed)
for _n in (1, 2, 7, 30, 100):
    for _share in (0.1, 0.5, 0.9):
        _hits = _rng.random(_n) < _share
        _recall = np.cumsum(_hits) / max(1, _hits.sum())
        _area = (np.diff(_recall, prepend=0) * np.cumsum(_hits) / np.arange(1, _n + 1)).sum()
        assert abs(average_precision(_hits.tolist()) - _area) < 1e-9, (
            "it differs from the area under precision against recall"
        )
assert average_precision([True] * 3 + [False] * 9) == 1, "all relevant clips first: 1"
assert abs(average_precision([False] * 9 + [True]) - 0.1) < 1e-9, (
    "the only relevant clip at place 10: 1/10"
)
### END HIDDEN TESTS

# %% [markdown]
# Now a whole collection: embeddings `(n, d)` and labels `(n,)`. Each clip in turn is the query; it is searched for among **all others**, by cosine similarity; relevant are the others with its label. Return two numbers: the share of queries
# whose nearest neighbour is relevant (**R@1**), and the mean of the average precisions (**mAP**). Queries that have no relevant clip at all are left out of both.


# %% nbgrader={"grade": false, "grade_id": "search-fast", "locked": false, "schema_version": 3, "solution": true, "task": false}
def search_scores(z, labels):
    """Embeddings (n, d), labels (n,) -> (R@1, mAP)."""
    ### BEGIN SOLUTION
    n = len(z)
    z = F.normalize(z, dim=1)
    others = ~torch.eye(n, dtype=torch.bool)
    similarity = (z @ z.T)[others].view(n, n - 1)
    relevant = (labels[:, None] == labels)[others].view(n, n - 1)
    hits = relevant.gather(1, similarity.argsort(1, descending=True)).double()
    hits = hits[hits.sum(1) > 0]
    precision = hits.cumsum(1) / torch.arange(1, n)
    ap = (precision * hits).sum(1) / hits.sum(1)
    return hits[:, 0].mean().item(), ap.mean().item()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "search-fast-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_z = torch.tensor([[1.0, 0.0], [1.0, 0.2], [1.0, 0.5], [0.0, 9.0]])
_got = [float(v) for v in search_scores(_z, torch.tensor([0, 0, 1, 1]))]
assert np.allclose(_got, [3 / 4, 5 / 6]), (
    f"you gave {_got}, expected [0.75, 0.8333]: three queries find a relevant clip first, the third finds its own last of three"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 1)
for _n, _d, _classes in [(6, 3, 2), (25, 8, 4), (40, 5, 25), (60, 16, 3)]:
    _labels = torch.randint(_classes, (_n,), generator=_g)
    _z = (
        torch.randn(_n, _d, generator=_g, dtype=torch.float64)
        + 2 * torch.randn(_classes, _d, generator=_g)[_labels]
    )
    _z = _z * (0.1 + 10 * torch.rand(_n, 1, generator=_g, dtype=torch.float64))
    _first, _aps = [], []
    for _i in range(_n):
        _cosine = F.cosine_similarity(_z[_i : _i + 1], _z)
        _order = [j for j in _cosine.argsort(descending=True).tolist() if j != _i]
        _hits = [bool(_labels[j] == _labels[_i]) for j in _order]
        if any(_hits):
            _places = [r for r, hit in enumerate(_hits, 1) if hit]
            _first.append(_hits[0])
            _aps.append(np.mean([(k + 1) / r for k, r in enumerate(_places)]))
    if _first:
        _got = [float(v) for v in search_scores(_z, _labels)]
        assert abs(_got[0] - np.mean(_first)) < 1e-5, (
            "R@1 differs from a plain loop over queries (each searched for among the others, by cosine)"
        )
        assert abs(_got[1] - np.mean(_aps)) < 1e-5, "mAP differs from a plain loop over queries"
### END HIDDEN TESTS

# %% [markdown]
# ## 2 · "None of these" (5 + 4 + 4 points; chapter 14)
#
# A model that knows twelve classes is shown a thirteenth. It should say so. The usual signal is its **confidence**, the largest of its softmax probabilities; chapter 14 shows how little that knows of strangers. It should at least be right about the known classes: of the clips that it answers with confidence 0.8, eight of ten should be right. The **expected calibration error** measures how far off that
# is: cut $[0, 1]$ into equal bins (a confidence on an edge belongs to the upper bin, 1 to the last); in each bin take the absolute difference between the mean confidence and the share of right answers; average over bins, each with the share of the clips that lie in it.


# %% nbgrader={"grade": false, "grade_id": "unknown-error", "locked": false, "schema_version": 3, "solution": true, "task": false}
def calibration_error(confidence, right, bins):
    """Confidences (n,) and whether each answer was right (n,) -> the expected calibration error."""
    ### BEGIN SOLUTION
    confidence, right = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for b in range(bins):
        inside = place == b
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return error
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "unknown-error-test", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
_got = calibration_error(np.array([0.95, 0.85, 0.55, 1.0]), np.array([True, False, True, True]), 2)
assert abs(_got - abs(0.8375 - 0.75)) < 1e-9, (
    f"two bins, all four clips in the upper one: mean confidence .8375, three of four right; you gave {_got}, expected 0.0875"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 2)
for _n, _bins in [(1, 5), (40, INSTANCE.bins), (300, 10), (500, 20)]:
    _confidence = 0.02 + 0.97 * _rng.random(_n)
    _right = _rng.random(_n) < _confidence**2
    _groups = {}
    for _c, _r in zip(_confidence.tolist(), _right.tolist()):
        _groups.setdefault(int(_c * _bins), []).append(_c - _r)
    _expected = sum(abs(sum(g)) for g in _groups.values()) / _n
    _got = float(calibration_error(_confidence, _right, _bins))
    assert abs(_got - _expected) < 1e-6, (
        "it differs from the sum over bins of |sum of (confidence - right)|, divided by n"
    )
    _order = _rng.permutation(_n)
    assert (
        abs(float(calibration_error(_confidence[_order], _right[_order], _bins)) - _got) < 1e-9
    ), "the order of the clips must not matter"
assert abs(float(calibration_error(np.ones(5), np.ones(5, bool), 4))) < 1e-9, (
    "certain and right: no error"
)
assert abs(float(calibration_error(np.ones(5), np.zeros(5, bool), 4)) - 1) < 1e-9, (
    "certain and wrong: 1"
)
### END HIDDEN TESTS

# %% [markdown]
# Where to put the limit below which the model says "none of these"? You have *validation* clips of the known classes, and, honestly, none of the unknown: nobody knows what will come. So fix what you can: return **the largest of the given
# confidences** that, taken as the limit, still accepts at least `share` of these known clips. A clip is accepted if its confidence is at the limit or above it.


# %% nbgrader={"grade": false, "grade_id": "unknown-limit", "locked": false, "schema_version": 3, "solution": true, "task": false}
def limit(confidence, share):
    """Confidences (n,) of known clips, 0 < share <= 1 -> the limit."""
    ### BEGIN SOLUTION
    confidence = np.asarray(confidence, dtype=float)
    fine = [c for c in confidence if (confidence >= c).mean() >= share]
    return float(max(fine))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "unknown-limit-test", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
_got = float(limit(np.array([0.9, 0.5, 0.8, 0.6]), 0.75))
assert _got == 0.6, (
    f"of the confidences .9, .5, .8 and .6 three must be accepted: you gave {_got}, expected 0.6"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 3)
for _n in (1, 5, 16, 41, 200):
    for _round in (9, 1):  # with one decimal there are many ties
        _confidence = _rng.random(_n).round(_round)
        for _share in [1.0, 0.5, *((_rng.integers(_n, size=3) + 0.5) / _n).tolist()]:
            _got = float(limit(_confidence, _share))
            assert _got in _confidence.tolist(), "the limit must be one of the confidences"
            assert (_confidence >= _got).mean() >= _share, (
                "fewer known clips are accepted than was asked for"
            )
            _above = _confidence[_confidence > _got]
            assert len(_above) == 0 or (_confidence >= _above.min()).mean() < _share, (
                "a larger limit would have accepted enough"
            )
### END HIDDEN TESTS

# %% [markdown]
# Last, the answer itself: for logits `(n, classes)`, the number of the class with the largest softmax probability, or −1, "none of these", if that probability is below the limit. Logits may be in the thousands.


# %% nbgrader={"grade": false, "grade_id": "unknown-answer", "locked": false, "schema_version": 3, "solution": true, "task": false}
def answers(logits, limit):
    """Logits (n, classes) -> int64 (n,): a class, or -1."""
    ### BEGIN SOLUTION
    confidence, best = logits.softmax(1).max(1)
    return torch.where(confidence >= limit, best, -1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "unknown-answer-test", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
_logits = torch.tensor([[2.0, 0.0], [0.1, 0.0], [0.0, 5.0]])  # confidences .88, .52, .99
_got = torch.as_tensor(answers(_logits, 0.8)).tolist()
assert _got == [0, -1, 1], (
    f"confidences .88, .52 and .99 with the limit .8 gave {_got}, expected [0, -1, 1]"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 4)
for _n, _classes in [(1, 2), (30, 5), (50, 12)]:
    for _dtype in (torch.float32, torch.float64):
        _logits = 3 * torch.randn(_n, _classes, generator=_g, dtype=_dtype)
        _top = [max(row) for row in _logits.tolist()]
        _sure = [1 / sum(np.exp(v - t) for v in row) for row, t in zip(_logits.tolist(), _top)]
        _limit = float(np.mean(_sure)) + 1e-3
        _got = torch.as_tensor(answers(_logits, _limit)).tolist()
        for _row, _t, _s, _a in zip(_logits.tolist(), _top, _sure, _got):
            assert _a == (_row.index(_t) if _s > _limit else -1), (
                "an answer is wrong, or given where it should be refused"
            )
        _moved = torch.as_tensor(
            answers(_logits + 50 * torch.randn(_n, 1, generator=_g), _limit)
        ).tolist()
        assert _moved == _got, "a constant added to all logits of a clip must change nothing"
_got = torch.as_tensor(
    answers(torch.tensor([[4000.0, -4000.0, 0.0], [-3000.0, 0.0, 3000.0]]), 0.9)
).tolist()
assert _got == [0, 2], "logits in the thousands must not overflow"
### END HIDDEN TESTS

# %% [markdown]
# ## 3 · Predict, run, explain: a split that leaks (6 + 8 points; chapter 14)
#
# Clips are cut from videos. Two clips of one video show the same room, the same person, the same light. If one is trained on and the other tested, a model can know the *video* and needs to know nothing of the action. A split **leaks** if some video has clips on both sides.
#
# The list of clips has, for each, its name, its video, and when the video was filmed; videos are of different lengths, so they have different numbers of clips; clips that come from one video stand next to each other. Here are six ways to split such a list, four fifths to one fifth:
#
# INSTANCE.questions
#
# **Predict** first: which can leak? Then **run** it: write the six in a cell of your own, and try them on `clip_list()`. Enter what is true as a dictionary `leaks` whose keys are the six names, spelled as above: `True` for a split that leaks on some list. Then look at `nearest(train, test)` for a few of them: the accuracy of a nearest neighbour in a world **where there is nothing to learn**: each video
# has a look of its own, and its label was drawn by a coin.


# %% nbgrader={"grade": false, "grade_id": "leak-world", "locked": true, "schema_version": 3, "solution": false, "task": false}
def clip_list(videos=40, seed=0):
    """A list of clips: dictionaries with 'clip', 'video', 'filmed', 'label' and 'look' (8 numbers)."""
    rng, found = np.random.default_rng(seed), []
    for v in rng.permutation(videos):
        label, look, filmed = int(rng.integers(2)), rng.normal(size=8), float(rng.random())
        for c in range(int(rng.integers(3, INSTANCE.per_source + 1))):
            seen = (look + 0.3 * rng.normal(size=8)).tolist()
            found.append(
                dict(clip=f"v{v:02d}c{c}", video=f"v{v:02d}", filmed=filmed, label=label, look=seen)
            )
    return found


def number(name):
    """A hash: the same number for the same name, on every machine."""
    return zlib.crc32(name.encode())


def nearest(train, test):
    """Accuracy on the clips of `test` if each gets the label of the clip in `train` that looks most like it."""
    a, b = (torch.tensor([clip["look"] for clip in part]) for part in (test, train))
    index = torch.cdist(a, b).argmin(1).tolist()
    return float(np.mean([train[j]["label"] == clip["label"] for j, clip in zip(index, test)]))


# %% nbgrader={"grade": false, "grade_id": "leak", "locked": false, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
leaks = INSTANCE.leaks
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "leak-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_asked = INSTANCE.asked
assert isinstance(leaks, dict) and set(leaks) == set(_asked), (
    f"'leaks' must be a dictionary with these six keys, spelled as here: {_asked}"
)
assert all(isinstance(v, bool) for v in leaks.values()), "each value must be True or False"


### BEGIN HIDDEN TESTS
def _first_videos(clips, order):
    """Clips outside the first four fifths of the videos in this order."""
    return [c for c in clips if c["video"] in order[len(order) * 4 // 5 :]]


_rng, _truth = np.random.default_rng(INSTANCE.seed + 5), dict.fromkeys(leaks, False)
for _trial in range(5):
    _clips = clip_list(30, int(_rng.integers(10**6)))
    _videos = sorted({c["video"] for c in _clips})
    _date = {c["video"]: c["filmed"] for c in _clips}
    _by_video = sorted(_clips, key=lambda c: c["video"])
    _tests = {
        "the clips are shuffled; the first four fifths are for training": _rng.permutation(_clips)[
            len(_clips) * 4 // 5 :
        ],
        "every fifth clip of the list is for testing": _clips[::5],
        "a clip is for testing if a hash of its name is 0 modulo 5": [
            c for c in _clips if number(c["clip"]) % 5 == 0
        ],
        "of each video the last fifth of its clips is for testing": [
            c for v in _videos for c in [d for d in _clips if d["video"] == v][-1:]
        ],
        "the clips, sorted by video, are cut after four fifths of the clips": _by_video[
            len(_clips) * 4 // 5 :
        ],
        "the videos are shuffled; the clips of the first four fifths of them are for training": _first_videos(
            _clips, _rng.permutation(_videos).tolist()
        ),
        "a clip is for testing if a hash of its video's name is 0 modulo 5": [
            c for c in _clips if number(c["video"]) % 5 == 0
        ],
        "the clips of the fifth of the videos that were filmed last are for testing": _first_videos(
            _clips, sorted(_videos, key=_date.get)
        ),
        "the clips of every fifth video of a list of the videos are for testing": [
            c for c in _clips if c["video"] in _videos[::5]
        ],
    }
    for _name in _truth:
        _names = {c["clip"] for c in _tests[_name]}
        _sides = [
            {c["video"] for c in _clips if (c["clip"] in _names) == side} for side in (True, False)
        ]
        _truth[_name] |= bool(_sides[0] & _sides[1])
for _name, _answer in leaks.items():
    assert _answer == _truth[_name], (
        "not all six are right: try each on several lists, and look for a video on both sides"
    )
### END HIDDEN TESTS

# %% [markdown]
# **Explain**, in at most 200 words. (a) What did `nearest` give for a split that leaks, and for one that does not? What would an honest reader expect in this world, and why does the leak make the number so high? (b) A leaking split and a clean one lie far apart here. Is a model that scores higher on the leaking split also the better one
# on new videos? Say how you would find out. (c) Your data have no list of videos, only folders of clips. Name two ways to find clips that belong together, and what each misses.
#
# | points | for |
# |---|---|
# | 3 | (a): both numbers; one half is what can be known here; the nearest clip is of the same video, whose label is known |
# | 2 | (b): no: the leak rewards remembering looks; compare the order of several models under both splits |
# | 3 | (c): two ways that work (names and dates, near-duplicates by embedding or hash, same background, sound), each with a miss; 1 for one |

# %% [markdown] nbgrader={"grade": true, "grade_id": "leak-why", "locked": false, "points": 8, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# (a) About 1 for the leaking ones, about one half (with few test videos it scatters: twelve lists gave .14 to .69) for the clean ones. Labels are coins, so nobody can do better than one half on a new video. With a leak the nearest clip is another clip of the same video, and it carries the video's label. (b) Not necessarily: what is rewarded is to tell videos apart by their looks, which a
# large network that learns by heart does best. Score several models under both splits and see whether their order stays. (c) Names and dates of files: misses videos that were uploaded twice under other names. Near-duplicates by the distance of frame embeddings: misses two shots of one person in one evening from two sides, and joins different
# videos filmed in the same studio (which is no harm). The sound track works across camera angles, but not for silent clips.
# ### END SOLUTION

# %% [markdown]
# ## 4 · Pieces of a long video (6 + 9 points; chapter 16)
#
# A long video has a label for each frame; a run of equal labels is a **piece**. A segmentation can have nearly all frames right and still be useless, if it flickers. Two scores see that.
#
# The **edit score** forgets how long pieces last: write both videos as words, one letter a piece, `[5, 5, 5, 2, 2, 5]` → 5 2 5. It is $1 - d / m$, with $d$ the Levenshtein distance of the words (the smallest number of letters to insert, delete or replace that turns
# one into the other) and $m$ the length of the longer one.


# %% nbgrader={"grade": false, "grade_id": "segments-edit", "locked": false, "schema_version": 3, "solution": true, "task": false}
def edit_score(truth, answer):
    """Two lists of a label for each frame, neither empty -> a number from 0 to 1."""

    ### BEGIN SOLUTION
    def word(labels):
        return [label for i, label in enumerate(labels) if i == 0 or label != labels[i - 1]]

    a, b = word(list(truth)), word(list(answer))
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (letter != other))
    return 1 - row[-1] / max(len(a), len(b))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "segments-edit-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_got = edit_score([1, 1, 1, 2, 2, 2, 3], [1, 2, 2, 2, 2, 2, 2])
assert abs(_got - 2 / 3) < 1e-9, (
    f"the words 1 2 3 and 1 2 differ by one letter of three: you gave {_got}, expected 0.6667"
)
_got = edit_score([1, 1, 1, 1, 1], [1, 2, 1, 2, 1])
assert abs(_got - 0.2) < 1e-9, f"one piece that flickers into five: you gave {_got}, expected 0.2"
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 6)


@cache
def _distance(a, b):
    """Levenshtein's, by its definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        _distance(a[1:], b) + 1, _distance(a, b[1:]) + 1, _distance(a[1:], b[1:]) + (a[0] != b[0])
    )


for _ in range(30):
    _words = []
    for _letters in _rng.integers(1, 10, 2):
        _word = [int(_rng.integers(4))]
        while len(_word) < _letters:
            _word.append((_word[-1] + int(_rng.integers(1, 4))) % 4)
        _words.append(tuple(_word))
    _frames = [[k for k in w for _ in range(int(_rng.integers(1, 6)))] for w in _words]
    _got = float(edit_score(*_frames))
    _expected = 1 - _distance(*_words) / max(map(len, _words))
    assert abs(_got - _expected) < 1e-9, (
        "it differs from the Levenshtein distance of the words, divided by the longer one"
    )
    assert abs(float(edit_score(*_frames[::-1])) - _got) < 1e-9, (
        "exchanging truth and answer must change nothing"
    )
    _slow = [k for k in _frames[1] for _ in range(3)]
    assert abs(float(edit_score(_frames[0], _slow)) - _got) < 1e-9, (
        "how long pieces last must not matter"
    )
### END HIDDEN TESTS

# %% [markdown]
# **Find the bug.** The **F1 at overlap** $k$ looks at time again. Two pieces overlap by the number of frames that they share, divided by the number of frames that at least one of them covers. Each piece of the answer looks for the piece of the truth *with the same label* with which it overlaps most; it is a hit if the overlap
# is at least $k$ and if no earlier piece of the answer has already taken that piece of the truth. With $h$ hits, precision is $h$ by the number of pieces of the answer, recall $h$ by that of the truth, and F1 is their harmonic mean.
#
# This function does so, with **one mistake**. Mend it.


# %% nbgrader={"grade": false, "grade_id": "segments-f1", "locked": false, "schema_version": 3, "solution": true, "task": false}
def f1_at(truth, answer, least):
    """Two lists of a label for each frame, of the same length; the overlap of a hit -> F1 from 0 to 1."""

    def pieces(labels):
        edges = [i for i in range(len(labels)) if i == 0 or labels[i] != labels[i - 1]]
        return [(labels[i], i, j) for i, j in zip(edges, [*edges[1:], len(labels)])]

    true, found = pieces(truth), pieces(answer)
    taken = set()
    for label, start, end in found:
        best, place = 0.0, None
        for i, (other, first, last) in enumerate(true):
            shared = min(end, last) - max(start, first)
            # BUG any_label: if shared <= 0:
            if other != label or shared <= 0:
                continue
            # BUG inclusive: overlap = (shared + 1) / (max(end, last) - min(start, first) + 1)
            # BUG own_length: overlap = shared / (end - start)
            # BUG true_length: overlap = shared / (last - first)
            # BUG sum: overlap = 2 * shared / (end - start + last - first)
            overlap = shared / (max(end, last) - min(start, first))
            # BUG last_one: if overlap > 0:
            if overlap > best:
                best, place = overlap, i
        # BUG strictly: if best > least:
        if place is not None and best >= least:
            # BUG twice: taken.add((place, start))
            taken.add(place)
    # BUG recall: return len(taken) / len(true)
    # BUG precision: return len(taken) / len(found)
    return 2 * len(taken) / (len(true) + len(found))


# %% nbgrader={"grade": true, "grade_id": "segments-f1-test", "locked": true, "points": 9, "schema_version": 3, "solution": false, "task": false}
_truth = [1, 1, 1, 1, 2, 2, 2, 2]
_got = f1_at(_truth, [1, 1, 1, 2, 2, 2, 2, 2], 0.5)
assert abs(_got - 1) < 1e-9, (
    f"a boundary one frame early, overlap 0.5: both pieces are hits; you gave {_got}, expected 1"
)
_got = f1_at(_truth, [2] * 4 + [1] * 4, 0.1)
assert abs(_got) < 1e-9, f"the two pieces exchanged: nothing is a hit; you gave {_got}, expected 0"
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 7)


def _slices(labels):
    """Pieces as (label, set of frames)."""
    _found = [(labels[0], {0})]
    for _i in range(1, len(labels)):
        if labels[_i] == _found[-1][0]:
            _found[-1][1].add(_i)
        else:
            _found.append((labels[_i], {_i}))
    return _found


for _trial in range(30):
    _classes = int(_rng.integers(1, 4))
    _truth = np.repeat(_rng.integers(_classes, size=5), _rng.integers(1, 9, 5)).tolist()
    _answer = [int(_rng.integers(_classes)) if _rng.random() < 0.12 else k for k in _truth]
    _shift = int(_rng.integers(0, 4))
    _answer = (_answer[:1] * _shift + _answer)[: len(_truth)]
    for _least in (0.1, 0.25, 0.5, 0.75):
        _true, _hits, _gone = _slices(_truth), 0, []
        for _label, _frames in _slices(_answer):
            _ious = [len(_frames & f) / len(_frames | f) * (_label == k) for k, f in _true]
            _best = int(np.argmax(_ious))
            if _ious[_best] >= _least and _best not in _gone:
                _hits += 1
                _gone.append(_best)
        _precision, _recall = _hits / len(_slices(_answer)), _hits / len(_true)
        _expected = 2 * _precision * _recall / (_precision + _recall) if _hits else 0.0
        assert abs(float(f1_at(_truth, _answer, _least)) - _expected) < 1e-9, (
            "it differs from F1 counted with sets of frames"
        )
_flicker = [1, 1, 1, 2, 1, 1, 1]
assert abs(float(f1_at([1] * 7, _flicker, 0.4)) - 0.5) < 1e-9, (
    "a piece of the truth must be taken only once"
)
_truth, _answer = [1] * 10 + [2] + [1] * 2, [1] * 4 + [2] + [1] * 8
assert abs(float(f1_at(_truth, _answer, 0.1)) - 1 / 3) < 1e-9, (
    "a piece whose best partner is taken is no hit: it must not look for a second best"
)
assert abs(float(f1_at([1] * 4, [1, 1, 2, 2], 0.5)) - 2 / 3) < 1e-9, (
    "an overlap of exactly the least is enough"
)
### END HIDDEN TESTS

# %% [markdown]
# ## 5 · Boxes, and who is who (3 + 6 + 6 points; chapter 17)
#
# A box is four numbers $(x_0, y_0, x_1, y_1)$ with $x_0 \le x_1$ and $y_0 \le y_1$. The **IoU** of two boxes is the area that both cover, divided by the area that at least one covers; it is 0 if they share nothing, also if both are empty. First two boxes.


# %% nbgrader={"grade": false, "grade_id": "boxes-loop", "locked": false, "schema_version": 3, "solution": true, "task": false}
def iou(a, b):
    """Two boxes, sequences of four numbers -> a number from 0 to 1."""
    ### BEGIN SOLUTION
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (sum(areas) - width * height)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "boxes-loop-test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
_got = iou((0, 0, 4, 2), (2, 0, 6, 2))
assert abs(_got - 1 / 3) < 1e-9, (
    f"two boxes of 8, of which 4 are shared: you gave {_got}, expected 4 / 12"
)
assert iou((0, 0, 1, 1), (3, 3, 4, 4)) == 0, "boxes that share nothing: 0"
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 8)
for _ in range(60):
    _boxes = np.sort(_rng.integers(0, 9, (2, 2, 2)), axis=1).reshape(2, 4)  # x0 y0 x1 y1
    _cells = [{(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])} for b in _boxes]
    _expected = len(_cells[0] & _cells[1]) / max(1, len(_cells[0] | _cells[1]))
    _got = float(iou(*_boxes.tolist()))
    assert abs(_got - _expected) < 1e-9, "it differs from counting squares of the grid"
### END HIDDEN TESTS

# %% [markdown]
# Now all pairs, without a loop: `(n, 4)` and `(m, 4)` → `(n, m)`. Keep the type of the numbers, and let gradients pass: a detector is trained with it. An empty box must give 0, and no `nan`.


# %% nbgrader={"grade": false, "grade_id": "boxes-fast", "locked": false, "schema_version": 3, "solution": true, "task": false}
def iou_matrix(a, b):
    """Boxes (n, 4) and (m, 4) -> (n, m)."""
    ### BEGIN SOLUTION
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = ((c[:, 2:] - c[:, :2]).prod(-1) for c in (a, b))
    union = area_a[:, None] + area_b - shared
    return shared / torch.where(union > 0, union, 1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "boxes-fast-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_got = iou_matrix(
    torch.tensor([[0.0, 0, 4, 2]]), torch.tensor([[2.0, 0, 6, 2], [9, 9, 10, 10], [0, 0, 4, 2]])
)
assert _got.shape == (1, 3), f"one box against three gave the shape {tuple(_got.shape)}"
assert torch.allclose(_got, torch.tensor([[1 / 3, 0.0, 1.0]])), (
    f"you gave {_got.tolist()}, expected [[0.333, 0, 1]]"
)
### BEGIN HIDDEN TESTS
_g, _rng = torch.Generator().manual_seed(INSTANCE.seed), np.random.default_rng(INSTANCE.seed + 9)
for _n, _m in [(5, 7), (1, 9), (6, 1)]:
    for _dtype in (torch.float32, torch.float64):
        _a, _b = (
            torch.from_numpy(np.sort(_rng.integers(0, 7, (k, 2, 2)), axis=1).reshape(k, 4)).to(
                _dtype
            )
            for k in (_n, _m)
        )
        _got = iou_matrix(_a, _b)
        assert _got.dtype == _dtype, f"{_dtype} came in and {_got.dtype} went out"
        for _i in range(_n):
            for _j in range(_m):
                _cells = [
                    {
                        (x, y)
                        for x in range(int(c[0]), int(c[2]))
                        for y in range(int(c[1]), int(c[3]))
                    }
                    for c in (_a[_i], _b[_j])
                ]
                _expected = len(_cells[0] & _cells[1]) / max(1, len(_cells[0] | _cells[1]))
                assert abs(float(_got[_i, _j]) - _expected) < 1e-5, (
                    "a number differs from counting squares of the grid"
                )
_low = 3 * torch.rand(6, 2, generator=_g, dtype=torch.float64)
_boxes = torch.cat([_low, _low + 1 + 3 * torch.rand(6, 2, generator=_g, dtype=torch.float64)], 1)
_a, _b = _boxes[:4].clone().requires_grad_(), _boxes[4:]
_weights = torch.randn(4, 2, generator=_g, dtype=torch.float64)
_got = iou_matrix(_a, _b)
assert _got.requires_grad, "the gradient does not pass: stay with torch"
(_got * _weights).sum().backward()
for _i in range(4):
    for _k in range(4):
        _step = torch.zeros(4, 4, dtype=torch.float64)
        _step[_i, _k] = 1e-6
        _slope = (
            (iou_matrix(_a.detach() + _step, _b) - iou_matrix(_a.detach() - _step, _b)) * _weights
        ).sum() / 2e-6
        assert abs(float(_slope - _a.grad[_i, _k])) < 1e-5, (
            "the gradient is not the slope of the IoU"
        )
### END HIDDEN TESTS

# %% [markdown]
# A detector's boxes are held against the true ones by **matching**: the detections take turns, the one with the highest score first. Each takes, of the true boxes *that are still free*, the one with which its IoU is largest, if that IoU is at least `least`; otherwise
# it takes none. Return for each detection, in the order given, the number of its true box, or −1.


# %% nbgrader={"grade": false, "grade_id": "boxes-match", "locked": false, "schema_version": 3, "solution": true, "task": false}
def match(scores, overlaps, least):
    """Scores (n,) of detections and their IoU (n, m) with the true boxes -> list of n numbers."""
    ### BEGIN SOLUTION
    taken, matched = set(), [-1] * len(scores)
    for i in np.argsort(-np.asarray(scores)):
        free = [j for j in range(overlaps.shape[1]) if j not in taken]
        if free:
            best = max(free, key=lambda j: overlaps[i, j])
            if overlaps[i, best] >= least:
                matched[i] = best
                taken.add(best)
    return matched
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "boxes-match-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_overlaps = np.array([[0.6, 0.5], [0.7, 0.1], [0.8, 0.0]])
_got = [int(i) for i in match(np.array([0.5, 0.9, 0.7]), _overlaps, 0.5)]
assert _got == [1, 0, -1], (
    f"detection 1 comes first and takes box 0; 2 finds it taken; 0 takes box 1, of those that are free: you gave {_got}, expected [1, 0, -1]"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 10)
for _n, _m in [(1, 1), (4, 2), (3, 6), (9, 7), (12, 3), (5, 0)]:
    for _least in (0.3, 0.6):
        _scores, _overlaps = _rng.permutation(_n) / _n, _rng.random((_n, _m))
        _got = [int(i) for i in match(_scores, _overlaps, _least)]
        assert len(_got) == _n, "there must be one number for each detection"
        _used = [j for j in _got if j >= 0]
        assert len(set(_used)) == len(_used), "a true box was taken twice"
        for _i in range(_n):
            _before = [_got[k] for k in range(_n) if _scores[k] > _scores[_i]]
            _free = [_overlaps[_i, j] for j in range(_m) if j not in _before]
            _mine = _overlaps[_i, _got[_i]] if _got[_i] >= 0 else None
            if _mine is None:
                assert not _free or max(_free) < _least, (
                    "a detection went without, though a true box was free for it"
                )
            else:
                assert _mine >= _least, "a detection took a box with which it overlaps too little"
                assert _mine == max(_free), (
                    "a detection did not take the best of the boxes that were free in its turn"
                )
assert [int(i) for i in match(np.array([0.4]), np.array([[0.5]]), 0.5)] == [0], (
    "an IoU of exactly the least is enough"
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6 · A layer becomes a stream (5 + 8 points; chapter 20)
#
# A **causal** convolution over time looks at this frame and at frames before it, never at later ones: with $k$ taps, dilation $d$ and zeros before the beginning,
#
# $$y_t = b + \sum_{i=0}^{k-1} W_i\, x_{t - (k-1-i)\,d}, \qquad x_s = 0 \text{ for } s < 0 .$$
#
# So the last tap sees the present. First from the definition, with a loop over time: `x` is `(batch, channels, time)`, `weight` `(out, channels, k)`, `bias` `(out,)`. Gradients pass.


# %% nbgrader={"grade": false, "grade_id": "stream-loop", "locked": false, "schema_version": 3, "solution": true, "task": false}
def causal(x, weight, bias, dilation):
    """(batch, channels, time) -> (batch, out, time)."""
    ### BEGIN SOLUTION
    taps, outputs = weight.shape[2], []
    for t in range(x.shape[2]):
        y = bias.expand(len(x), -1)
        for i in range(taps):
            s = t - (taps - 1 - i) * dilation
            if s >= 0:
                y = y + x[:, :, s] @ weight[:, :, i].T
        outputs.append(y)
    return torch.stack(outputs, 2)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "stream-loop-test", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
_x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
_got = causal(_x, torch.tensor([[[10.0, 1.0]]]), torch.zeros(1), 2)
assert torch.allclose(_got, torch.tensor([[[1.0, 2.0, 13.0, 24.0]]])), (
    f"taps 10 and 1, dilation 2, on 1 2 3 4: you gave {_got.tolist()}, expected 1 2 13 24: the last tap sees the present"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 11)
for _b, _c, _o, _k, _d, _t in [
    (2, 3, 4, 3, 1, 9),
    (1, 2, 2, 2, 4, 7),
    (3, 1, 5, 4, INSTANCE.dilation, 6),
    (2, 2, 3, 1, 2, 5),
]:
    _x, _w, _bias = (
        torch.randn(*s, generator=_g, dtype=torch.float64)
        for s in ((_b, _c, _t), (_o, _c, _k), (_o,))
    )
    _x.requires_grad_(), _w.requires_grad_()
    _y, _mine = _x.detach().clone().requires_grad_(), _w.detach().clone().requires_grad_()
    _got, _expected = (
        causal(_x, _w, _bias, _d),
        F.conv1d(F.pad(_y, ((_k - 1) * _d, 0)), _mine, _bias, dilation=_d),
    )
    assert _got.shape == _expected.shape, "there must be an output for each frame"
    assert torch.allclose(_got, _expected), (
        "it differs from torch's convolution of the sequence with zeros before it"
    )
    _weights = torch.randn(*_got.shape, generator=_g, dtype=torch.float64)
    (_got * _weights).sum().backward()
    (_expected * _weights).sum().backward()
    assert torch.allclose(_x.grad, _y.grad) and torch.allclose(_w.grad, _mine.grad), (
        "a gradient differs from torch's"
    )
    _x.grad = None
    causal(_x, _w, _bias, _d)[:, :, _t // 2].sum().backward()
    assert (_x.grad[:, :, _t // 2 + 1 :] == 0).all(), "an output depends on later frames"
### END HIDDEN TESTS

# %% [markdown]
# Now live: frames come one at a time, `(batch, channels)`, and each must be answered before the next is there. `step` takes a frame and the state that it returned the last time (`None` at the beginning), and returns the output `(batch, out)` and the new
# state: one tensor. Fed with all frames of a video it must give what the convolution gives on the whole. The state holds what is needed and no more, however long the stream: at most $(k-1)\,d$ frames. All memory must be in the state: someone may want to go on from it twice, or run two streams side by side.


# %% nbgrader={"grade": false, "grade_id": "stream-step", "locked": false, "schema_version": 3, "solution": true, "task": false}
def step(frame, state, weight, bias, dilation):
    """Frame (batch, channels) and a state or None -> output (batch, out), new state (a tensor)."""
    ### BEGIN SOLUTION
    length = (weight.shape[2] - 1) * dilation
    if state is None:
        state = frame.new_zeros(*frame.shape, length)
    window = torch.cat([state, frame[:, :, None]], 2)
    output = torch.einsum("bci,oci->bo", window[:, :, ::dilation], weight) + bias
    return output, window[:, :, 1:]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "stream-step-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_state, _got = None, []
for _value in (1.0, 2.0, 3.0, 4.0):
    _output, _state = step(
        torch.tensor([[_value]]), _state, torch.tensor([[[10.0, 1.0]]]), torch.zeros(1), 2
    )
    _got.append(float(_output[0, 0]))
assert _got == [1, 2, 13, 24], (
    f"taps 10 and 1, dilation 2, on 1 2 3 4: you gave {_got}, expected 1 2 13 24"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 12)
for _b, _c, _o, _k, _d, _t in [
    (2, 3, 4, 3, 1, 9),
    (1, 2, 2, 2, 4, 11),
    (3, 1, 5, 4, INSTANCE.dilation, 16),
    (2, 2, 3, 1, 2, 4),
]:
    _x, _w, _bias = (
        torch.randn(*s, generator=_g, dtype=torch.float64)
        for s in ((_b, _c, _t), (_o, _c, _k), (_o,))
    )
    _whole = F.conv1d(F.pad(_x, ((_k - 1) * _d, 0)), _w, _bias, dilation=_d)
    _state, _states = None, []
    for _i in range(_t):
        _output, _state = step(_x[:, :, _i], _state, _w, _bias, _d)
        assert torch.allclose(_output, _whole[:, :, _i]), (
            "the stream differs from the convolution of the whole video"
        )
        assert _state is None or _state.numel() <= max(1, _b * _c * (_k - 1) * _d), (
            "the state holds more than is needed"
        )
        _states.append(_state)
    _half = _t // 2
    _state = _states[_half - 1]
    for _i in range(_half, _t):  # once more from the middle, and beside it another stream
        step(torch.randn(_b, _c, generator=_g, dtype=torch.float64), None, _w, _bias, _d)
        step(torch.randn(_b, _c, generator=_g, dtype=torch.float64), _state, _w, _bias, _d)
        _output, _state = step(_x[:, :, _i], _state, _w, _bias, _d)
        assert torch.allclose(_output, _whole[:, :, _i]), (
            "two streams disturb each other: all memory must be in the state"
        )
_frame = torch.randn(2, 3, generator=_g, dtype=torch.float64).requires_grad_()
_w = torch.randn(4, 3, 2, generator=_g, dtype=torch.float64)
_output, _ = step(_frame, None, _w, torch.zeros(4, dtype=torch.float64), 3)
_output.sum().backward()
assert torch.allclose(_frame.grad, _w[:, :, -1].sum(0).expand(2, -1)), (
    "the gradient of a frame is that of the last tap"
)
### END HIDDEN TESTS

# %% [markdown]
# ## 7 · Find the bug: eight bits (10 points; chapter 20)
#
# A weight matrix `(out, in)` is to be stored in eight bits a number. Each *row* gets a scale of its own, so that its largest absolute value becomes 127; each weight becomes the nearest whole number of scales, from −127 to 127. The product with an input that was rounded in the same way (`(in,)`, one scale) is summed up in whole numbers
# **of 32 bits** and scaled only at the end. A row (or an input) of zeros stays zero. The function returns the codes, the scales and the product. It runs, and a network with such layers still answers something: there is **one mistake** in it. Mend it.


# %% nbgrader={"grade": false, "grade_id": "bits", "locked": false, "schema_version": 3, "solution": true, "task": false}
def int8_product(weight, x):
    """Weight (out, in) and input (in,), floats -> int8 codes (out, in), scales (out,), product (out,)."""
    # BUG one_scale: largest = weight.abs().max().expand(len(weight))
    # BUG no_sign: largest = weight.amax(1).clamp(min=0)
    # BUG spread: largest = 3 * weight.std(1)
    largest = weight.abs().amax(1)
    # BUG unsigned: scales = torch.where(largest > 0, largest, 1.0) / 255
    # BUG full_range: scales = torch.where(largest > 0, largest, 1.0) / 128
    # BUG half_range: scales = torch.where(largest > 0, 2 * largest, 1.0) / 127
    scales = torch.where(largest > 0, largest, 1.0) / 127
    # BUG floor: codes = (weight / scales[:, None]).floor()
    # BUG cut: codes = (weight / scales[:, None]).trunc()
    codes = (weight / scales[:, None]).round()
    codes = codes.clamp(-127, 127).to(torch.int8)
    scale_x = x.abs().max().clamp(min=1e-12) / 127
    codes_x = (x / scale_x).round().to(torch.int8)
    # BUG overflow: total = (codes * codes_x).sum(1)
    # BUG narrow: total = (codes.short() * codes_x.short()).sum(1, dtype=torch.int16)
    total = (codes.int() * codes_x.int()).sum(1)
    # BUG one_factor: return codes, scales, total * scales
    return codes, scales, total * scales * scale_x


# %% nbgrader={"grade": true, "grade_id": "bits-test", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_codes, _scales, _product = int8_product(
    torch.tensor([[1.0, -2.0], [0.5, 0.25]]), torch.tensor([1.0, 1.0])
)
assert _codes.dtype == torch.int8, f"the codes are {_codes.dtype}, expected torch.int8"
assert _codes.tolist() == [[64, -127], [127, 64]], (
    f"you gave the codes {_codes.tolist()}, expected [[64, -127], [127, 64]]"
)
assert torch.allclose(_product, torch.tensor([-1.0, 0.75]), atol=0.01), (
    f"the product is {_product.tolist()}, expected about [-1, 0.75]"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 13)
for _out, _in in [(3, 5), (8, 64), (5, 700), (1, 1)]:
    _w = (
        torch.randn(_out, _in, generator=_g, dtype=torch.float64)
        * 10 ** torch.linspace(-2, 2, _out)[:, None].double()
    )
    _w[0] = -_w[0].abs()
    _x = 0.2 + torch.rand(_in, generator=_g, dtype=torch.float64)
    _codes, _scales, _product = int8_product(_w, _x)
    _back = _codes.double() * _scales[:, None]
    _largest = np.abs(_w.numpy()).max(1)
    assert (_codes.abs().amax(1) == 127).all(), (
        "the largest weight of each row must become 127 or -127"
    )
    assert ((_back - _w).abs().numpy() <= _largest[:, None] / 253.9).all(), (
        "a weight is not rounded to the nearest multiple of its row's scale"
    )
    _step = _x.abs().max() / 127
    _rounded = (_x / _step).round() * _step
    assert torch.allclose(_product.double(), _back @ _rounded, rtol=1e-5, atol=1e-9), (
        "the product is not that of the rounded weights with the rounded input"
    )
    _mirrored, _, _ = int8_product(-_w, _x)
    assert torch.equal(_mirrored.int(), -_codes.int()), "the codes of -w must be minus those of w"
    _bigger, _more, _ = int8_product(4 * _w, _x)
    assert torch.equal(_bigger, _codes) and torch.allclose(_more, 4 * _scales), (
        "four times the weights: the same codes, four times the scales"
    )
_w = torch.randn(3, 6, generator=_g)
_w[1] = 0
_codes, _scales, _product = int8_product(_w, torch.randn(6, generator=_g))
assert (_codes[1] == 0).all() and _product[1] == 0 and torch.isfinite(_scales).all(), (
    "a row of zeros must stay zero, without a nan"
)
### END HIDDEN TESTS
