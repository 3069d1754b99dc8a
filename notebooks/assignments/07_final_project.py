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

# %% [markdown]
# # Final project: a claim of your own, put to the test
#
# All parts, chapter 13's protocol above all. 100 points: 52 for what a machine can check, 18 for the proposal, 30 for the report. You make **one claim** about representations of video, say beforehand what would refute it, test it against a ruler, and report what came out. **A claim that is refuted, well
# tested and well told, gets all points. A claim that holds, tested unfairly, does not.**
#
# How it goes:
#
# 1. **Proposal** (task 1) and **plan** (task 2): hand in this notebook with these two, and wait for the answer before you train anything that counts.
# 2. **Tools** (tasks 3 and 4): the code that checks your split and recomputes your table. Write it before you have results.
# 3. **Work**, in notebooks and scripts of your own. Only their *outcome* comes in here: the log of your tuning (task 5) and one line for each test clip (task 6).
# 4. **Report** (task 7). Hand in again, with all tasks.
#
# - Write only where it says `YOUR CODE HERE` or `YOUR ANSWER HERE`. Add cells of your own anywhere, but none that needs your data or trains for long: this notebook must run by itself, within seconds, without a file beside it. Your code is graded in a sandbox (`How to hand in`, in the book).
# - When your work is graded, the visible checks and further ones run. All checks of a cell must hold for its points.
# - Before the deadline, run `make check-submission FILE=...` on your notebook.
#
# ## Three ideas
#
# Take one, change it, or bring your own.
#
# | | question | ruler and contestants | what makes it hard | what would refute the claim |
# |---|---|---|---|---|
# | **A. My own videos** | does a design that relates frames beat single frames on *your* actions? | mean pool, frame 0 alone; one or two of the book's designs | clips of one video on both sides; actions that the background gives away; few videos | the paired interval against the mean pool reaches 0 on videos never seen |
# | **B. What labels are worth** | with how few labels does contrastive pretraining (chapter 11) still pay, on level 2 of the motion set? | the same network from scratch *with the same number of updates in all*; pixel neighbours | the label-free updates must be paid for; the same labelled clips for both | at a tenth of the labels, from scratch is within the interval |
# | **C. Lost frames** | which causal design bears frames that are dropped in a live stream: GRU (chapter 8) or temporal convolutions (chapters 9 and 10)? | both trained with and without drops; a ruler that holds the last answer | the same frames must be lost for all; what a design does *at* a gap | the order of the two changes from seed to seed, or from one rate of drops to the other |

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import csv
import io

import numpy as np
import torch
from scipy import stats
from torch.nn import functional as F

# %% [markdown]
# ## 1 · Proposal (18 points)
#
# At most 500 words, under these headings. Keep them.
#
# | part | 3: excellent | 2: good | 1: to be mended | 0 |
# |---|---|---|---|---|
# | **Question and claim** | one sentence that can be false, with a number in it; says who would care | can be false, but vague in size | a topic and no claim | missing |
# | **Prediction and refutation** | an outcome that may well come out and would refute it, and what you would say then | an outcome that is possible but far off | "it does not work" | missing |
# | **Data** | source, licence, number of clips *and of source videos*, how they are split and why nothing leaks; what single frames give away | one of these missing | a name of a data set | missing |
# | **Contestants and ruler** | the simplest thing that could work is in the table; what differs between contestants is one thing | a ruler that is too weak, or two differences at once | no ruler | missing |
# | **Protocol** | updates, rates tried, seeds, what is chosen on validation, what is scored on test and when; equal for all, or a rule that makes it fair | one choice left open that can favour somebody | several | missing |
# | **Cost and risk** | measured: time of one run times the number of runs; what is dropped first if time runs out | an estimate without a measurement | "should fit" | missing |

# %% [markdown] nbgrader={"grade": true, "grade_id": "proposal", "locked": false, "points": 18, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# *A model proposal, for idea C in the size of a toy.*
#
# **Question and claim.** A spot walks round a ring, to the right or to the left. Claim: features that multiply neighbouring frames tell the direction at least 0.10 better than the same number of features of single frames. Whoever wonders where order comes from in a design would care.
#
# **Prediction and refutation.** The difference will be near 0.3. If the interval of the paired difference reaches below 0.10 on five seeds, the claim is refuted; we would then say that single frames keep more than we thought, and look where.
#
# **Data.** Generated by ourselves, no licence needed. 50 "videos", each with a brightness of its own, 15 clips each: 30 to train on, 20 to test, by name, so that no video is on two sides. For tuning alone, 600 more clips that belong to no video (450 to fit, 150 to validate). Single frames show the place of the spot, not its direction.
#
# **Contestants and ruler.** Random features of pairs of frames, random features of single frames, both read out by the same ridge regression; ruler: ridge regression on the frames side by side. One difference: whether two frames meet before the rectifier.
#
# **Protocol.** 64 features for both, no training but the exact fit; two penalties tried with seed 100 and chosen on validation; seeds 0 to 4 reported, all of them; test clips are scored once.
#
# **Cost and risk.** One fit was timed: far below one second; 14 are needed. Nothing need be dropped.
# ### END SOLUTION

# %% [markdown]
# ## 2 · Plan (8 points)
#
# The same, for the machine: what you commit to before you begin. It stays in this notebook unchanged; what you then do otherwise, the report says under "Deviations". `plan` is a dictionary:
#
# | key | value |
# |---|---|
# | `"claim"`, `"refuted if"` | a sentence each |
# | `"designs"` | the names of the contestants, two or more, without the ruler |
# | `"ruler"` | the name of the ruler |
# | `"seeds"`, `"tuning seed"` | three or more whole numbers to report; one that is used for choosing and for nothing else |
# | `"tried"` | for each design, the list of the settings (such as rates) that will be tried: different ones, two or more, the same number for all |
# | `"updates"` | for each design, the number of updates of a run, those without labels included: the same for all |
# | `"chosen on"` | the split on which settings and epochs are chosen: `"train"`, `"val"` or `"test"` |
# | `"split by"` | what is never on two sides: `"clip"`, `"source"` (a video), `"person"`, `"place"`, … |
# | `"test clips"` | how many there will be |
# | `"smallest"` | the smallest difference of accuracies that your claim is about, such as 0.1 |
#
# The last two must fit: an accuracy near one half, on $n$ clips, is known to $\pm 0.98/\sqrt n$ at best, and what you look for must not be smaller than that.

# %% nbgrader={"grade": false, "grade_id": "plan", "locked": false, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
plan = {
    "claim": "features of pairs of frames are better by 0.10 than features of single frames",
    "refuted if": "the paired interval over five seeds reaches below 0.10",
    "designs": ["pairs", "single"],
    "ruler": "side by side",
    "seeds": [0, 1, 2, 3, 4],
    "tuning seed": 100,
    "tried": {"pairs": [1.0, 100.0], "single": [1.0, 100.0]},
    "updates": {"pairs": 0, "single": 0},
    "chosen on": "val",
    "split by": "source",
    "test clips": 300,
    "smallest": 0.1,
}
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "plan-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_keys = [
    "claim",
    "refuted if",
    "designs",
    "ruler",
    "seeds",
    "tuning seed",
    "tried",
    "updates",
    "chosen on",
    "split by",
]
_keys += ["test clips", "smallest"]
assert isinstance(plan, dict), "'plan' must be a dictionary with the keys of the table"
_missing = [key for key in _keys if key not in plan]
assert not _missing, f"the plan lacks {_missing}"
for _key in ("claim", "refuted if"):
    assert isinstance(plan[_key], str) and len(plan[_key].split()) >= 5, (
        f"'{_key}' must be a sentence"
    )
assert plan["claim"].strip().lower() != plan["refuted if"].strip().lower(), (
    "what refutes a claim is not the claim"
)
_designs = list(plan["designs"])
assert len(set(_designs)) == len(_designs) >= 2, "two or more different designs are needed"
assert isinstance(plan["ruler"], str) and plan["ruler"].strip(), "a ruler is needed"
assert plan["ruler"] not in _designs, "the ruler must not be one of the contestants"
_seeds = list(plan["seeds"])
assert all(isinstance(s, int) for s in _seeds) and len(set(_seeds)) >= 3, (
    "three or more different seeds are needed"
)
assert isinstance(plan["tuning seed"], int) and plan["tuning seed"] not in _seeds, (
    "the seed that chooses must not be among those that are reported"
)
for _key in ("tried", "updates"):
    assert set(plan[_key]) == set(_designs), (
        f"'{_key}' needs an entry for each design, and for these only"
    )
_tried = {design: len(set(settings)) for design, settings in plan["tried"].items()}
assert min(_tried.values()) >= 2 and len(set(_tried.values())) == 1, (
    f"equal effort: the same number of different settings for all designs, two or more; you have {_tried}"
)
assert len(set(plan["updates"].values())) == 1, (
    f"an equal number of updates for all; you have {plan['updates']}"
)
assert all(isinstance(u, int) and u >= 0 for u in plan["updates"].values()), (
    "updates are whole numbers"
)
assert plan["chosen on"] == "val", (
    f"settings and epochs are chosen on 'val', not on {plan['chosen on']!r}"
)
assert isinstance(plan["split by"], str) and plan["split by"].strip().lower() not in (
    "",
    "clip",
    "clips",
    "frame",
), "a split by clip puts clips of one video on both sides: split by what they come from"
assert 0 < float(plan["smallest"]) < 1, "'smallest' is a difference of two accuracies"
_known = 0.98 / float(plan["test clips"]) ** 0.5
assert _known <= float(plan["smallest"]), (
    f"on {plan['test clips']} clips an accuracy is known to ±{_known:.3f}: too little for a difference of {plan['smallest']}"
)

# %% [markdown]
# ## 3 · Check a split (8 points)
#
# Before anything is trained: a program that reads the list of your clips and complains. The list is CSV text with a header line and the columns `clip`, `source`, `split`, `label`, in any order of columns and lines. Return the set of the names of all complaints:
#
# | name | when |
# |---|---|
# | `"clip"` | a clip is listed more than once |
# | `"source"` | a source has clips in more than one split |
# | `"split"` | a split is called something else than `train`, `val` or `test`, or one of these three has no clip |
# | `"label"` | a label is listed for a clip of `val` or `test` and for none of `train` |
#
# Run it on your own list. (It need not be handed in.)


# %% nbgrader={"grade": false, "grade_id": "check", "locked": false, "schema_version": 3, "solution": true, "task": false}
def complaints(text):
    """CSV text of a list of clips -> set of the names of complaints."""
    ### BEGIN SOLUTION
    rows, found = list(csv.DictReader(io.StringIO(text))), set()
    if len({row["clip"] for row in rows}) < len(rows):
        found.add("clip")
    homes = {}
    for row in rows:
        homes.setdefault(row["source"], set()).add(row["split"])
    if any(len(splits) > 1 for splits in homes.values()):
        found.add("source")
    if {row["split"] for row in rows} != {"train", "val", "test"}:
        found.add("split")
    learned = {row["label"] for row in rows if row["split"] == "train"}
    if any(row["label"] not in learned for row in rows if row["split"] in ("val", "test")):
        found.add("label")
    return found
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_text = "clip,source,split,label\na1,a,train,0\na2,a,train,1\nb1,b,val,0\nc1,c,test,1\n"
assert set(complaints(_text)) == set(), f"nothing is wrong with this list: {_text!r}"
assert set(complaints(_text + "a3,a,test,0\n")) == {"source"}, (
    "source a has clips in train and in test"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed)


def _list(sources=9, labels=3):
    """A random list without a fault, as rows."""
    _rows = []
    for _s in range(sources):
        _split = ["train", "val", "test"][min(_s // 3, 2)]
        for _c in range(int(_rng.integers(labels, labels + 4))):
            _rows.append(
                dict(clip=f"{_s}_{_c}", source=f"s{_s}", split=_split, label=f"{_c % labels}")
            )
    return _rows


def _write(rows):
    """CSV text, lines and columns in a random order."""
    _columns = _rng.permutation(["clip", "source", "split", "label"]).tolist()
    _lines = [",".join(rows[i][c] for c in _columns) for i in _rng.permutation(len(rows))]
    return "\n".join([",".join(_columns), *_lines, ""])


def _of(rows, **wanted):
    """A random row that has these values."""
    _found = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    return _found[_rng.integers(len(_found))]


for _ in range(8):
    assert set(complaints(_write(_list()))) == set(), "a list without a fault was blamed"
    _rows = _list()
    _of(_rows, split="train")["source"] = _of(_rows, split="val")["source"]
    assert set(complaints(_write(_rows))) == {"source"}, (
        "a source in train and in val was not seen, or more was blamed"
    )
    _rows = _list()
    _of(_rows, split="val")["source"] = _of(_rows, split="test")["source"]
    assert set(complaints(_write(_rows))) == {"source"}, (
        "a source in val and in test was not seen, or more was blamed"
    )
    _rows = _list()
    _rows.append(dict(_of(_rows)))
    assert set(complaints(_write(_rows))) == {"clip"}, (
        "a clip that is listed twice was not seen, or more was blamed"
    )
    _rows = _list()
    _rows.append(_of(_rows, split="test") | dict(source="s99"))
    assert set(complaints(_write(_rows))) == {"clip"}, (
        "a clip listed twice, under two sources, was not seen"
    )
    for _split in ("train", "val", "test"):
        _rows = [r for r in _list() if r["split"] != _split]
        _expected = {"split", "label"} if _split == "train" else {"split"}
        assert set(complaints(_write(_rows))) == _expected, (
            "a split without a clip was not seen, or more was blamed"
        )
    _rows = [r | dict(split=r["split"].replace("val", "dev")) for r in _list()]
    assert set(complaints(_write(_rows))) == {"split"}, (
        "a split with another name was not seen, or more was blamed"
    )
    for _split in ("val", "test"):
        _rows = _list()
        _of(_rows, split=_split)["label"] = "17"
        assert set(complaints(_write(_rows))) == {"label"}, (
            "a label without a training clip was not seen"
        )
    _rows = _list()
    _of(_rows, split="train")["label"] = "17"
    assert set(complaints(_write(_rows))) == set(), "a label that is only trained on is no fault"
_rows = _list()
_rows.append(dict(_of(_rows, split="train")) | dict(split="test", label="18"))
assert set(complaints(_write(_rows))) == {"clip", "source", "label"}, (
    "one line can be wrong in several ways"
)
### END HIDDEN TESTS

# %% [markdown]
# ## 4 · Recompute the table (6 + 8 points)
#
# All results of a project lie in one CSV text, **one line for each test clip**: `clip`, `source`, `label`, then a column for each run, with the answer that it gave for the clip. A run's column is called `design/seed`; the ruler, which has no seed, is called by its name alone:
#
# ```
# clip,source,label,pairs/0,pairs/1,single/0,single/1,side by side
# c001,v07,1,1,1,0,1,0
# c002,v07,0,0,1,,1,0
# ```
#
# An **empty** answer means that the run gave none (a file that could not be read, a crash). That is not right: it counts as wrong, and the clip stays in. Lines and columns may come in any order, empty lines at the end do not count, and no name has a comma or a second slash in it.
#
# First the table: for each design the mean of its accuracies over its seeds and half the width of the 95 % t interval (`t_quantile(n)` times the standard deviation with $n - 1$, over $\sqrt n$); for the ruler its accuracy and 0.


# %% nbgrader={"grade": false, "grade_id": "analyse-t", "locked": true, "schema_version": 3, "solution": false, "task": false}
def t_quantile(n):
    """The t of a 95 % interval for the mean of n numbers."""
    return float(stats.t.ppf(0.975, n - 1))


# %% nbgrader={"grade": false, "grade_id": "analyse-table", "locked": false, "schema_version": 3, "solution": true, "task": false}
def table(text):
    """CSV text -> {design or ruler: (mean accuracy, half-width)}."""
    ### BEGIN SOLUTION
    rows = list(csv.DictReader(io.StringIO(text)))
    scores = {}
    for column in rows[0]:
        if column not in ("clip", "source", "label"):
            right = [row[column] == row["label"] for row in rows]
            scores.setdefault(column.split("/")[0], []).append(np.mean(right))
    found = {}
    for design, values in scores.items():
        n = len(values)
        half = t_quantile(n) * np.std(values, ddof=1) / n**0.5 if n > 1 else 0.0
        found[design] = (float(np.mean(values)), float(half))
    return found
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "analyse-table-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_text = "clip,source,label,a/0,a/1,pixels\nx,v,1,1,1,0\ny,v,0,0,1,0\nz,w,1,1,0,1\nq,w,0,,0,0\n"
_got = table(_text)
assert set(_got) == {"a", "pixels"}, f"one design and one ruler: you found {sorted(_got)}"
assert np.allclose(_got["pixels"], (0.75, 0)), (
    f"the ruler has 3 of 4 right: you gave {_got['pixels']}, expected (0.75, 0)"
)
assert np.allclose(_got["a"], (0.625, 12.706205 * 0.125)), (
    f"3 of 4 (the empty answer is wrong) and 2 of 4 right: you gave {_got['a']}, expected (0.625, 1.588)"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 1)


def _csv(clips, runs):
    """Random answers: the text, and which of them are right (clips, runs)."""
    _labels = _rng.integers(3, size=clips)
    _answers = np.where(
        _rng.random((clips, len(runs))) < 0.5,
        _labels[:, None],
        _rng.integers(3, size=(clips, len(runs))),
    )
    _empty = _rng.random((clips, len(runs))) < 0.1
    _right = (_answers == _labels[:, None]) & ~_empty
    _head = ["clip", "source", "label", *runs]
    _body = [
        [
            f"c{i}",
            f"v{i // 5}",
            str(_labels[i]),
            *("" if e else str(a) for a, e in zip(_answers[i], _empty[i])),
        ]
        for i in _rng.permutation(clips)
    ]
    _columns = _rng.permutation(len(_head))
    _lines = [",".join(np.array(line)[_columns].tolist()) for line in [_head, *_body]]
    return "\n".join(_lines) + "\n" * int(_rng.integers(1, 4)), _right


for _clips, _seeds in [(30, 3), (101, 5), (7, 2)]:
    _names = [f"{d}/{s}" for d in ("gru", "tcn-2") for s in _rng.choice(50, _seeds, replace=False)]
    _text, _right = _csv(_clips, [*_names, "frame 0"])
    _got, _shares = table(_text), _right.mean(0)
    assert set(_got) == {"gru", "tcn-2", "frame 0"}, (
        "there must be a line for each design and one for the ruler"
    )
    for _design, _part in [("gru", _shares[:_seeds]), ("tcn-2", _shares[_seeds:-1])]:
        _half = stats.sem(_part) * stats.t(_seeds - 1).isf(0.025)
        assert np.allclose(_got[_design], (_part.mean(), _half)), (
            "mean or interval of a design is wrong"
        )
    assert np.allclose(_got["frame 0"], (_shares[-1], 0)), (
        "the ruler's accuracy is wrong, or it has an interval"
    )
### END HIDDEN TESTS

# %% [markdown]
# Then the differences: `paired(text, a, b)`, the mean of $a - b$, seed by seed, and half the width of its 95 % t interval. `b` may be the ruler: it stands for every seed. If the two are designs and have not the same seeds, raise `ValueError`.


# %% nbgrader={"grade": false, "grade_id": "analyse-paired", "locked": false, "schema_version": 3, "solution": true, "task": false}
def paired(text, a, b):
    """CSV text and two names, of which the second may be the ruler's -> (mean of a - b, half-width)."""
    ### BEGIN SOLUTION
    rows = list(csv.DictReader(io.StringIO(text)))

    def scores(name):
        columns = [c for c in rows[0] if c.split("/")[0] == name]
        return {c.partition("/")[2]: np.mean([r[c] == r["label"] for r in rows]) for c in columns}

    first, second = scores(a), scores(b)
    if set(second) == {""}:
        second = dict.fromkeys(first, second[""])
    if set(first) != set(second):
        raise ValueError(f"{a} has the seeds {sorted(first)}, {b} has {sorted(second)}")
    differences = [first[seed] - second[seed] for seed in first]
    n = len(differences)
    return float(np.mean(differences)), float(t_quantile(n) * np.std(differences, ddof=1) / n**0.5)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "analyse-paired-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_text = "clip,source,label,a/0,a/7,b/7,b/0,pixels\nx,v,1,1,1,0,1,0\ny,v,0,0,1,0,1,0\nz,w,1,1,1,1,0,1\nq,w,0,0,1,1,1,0\n"
_got = paired(_text, "a", "pixels")
assert np.allclose(_got, (0, 12.706205 * 0.25)), (
    f"a has 1 and .5, the ruler .75: the differences are .25 and -.25; you gave {_got}, expected (0, 3.177)"
)
_got = paired(_text, "a", "b")
assert np.allclose(_got, (0.375, 12.706205 * 0.375)), (
    f"seed 0: 1 - .25, seed 7: .5 - .5, whatever the order of the columns; you gave {_got}, expected (0.375, 4.765)"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 2)
for _clips, _n in [(40, 3), (90, 6), (11, 2)]:
    _seeds = _rng.choice(50, _n, replace=False).tolist()
    _labels, _luck = _rng.integers(2, size=_clips), 0.5 * _rng.random(_n)
    _runs = [f"{d}/{s}" for d in ("gru", "tcn") for s in _seeds] + ["mean pool"]
    _chance = np.concatenate([_luck, _luck + 0.2, [0.5]])
    _right = _rng.random((_clips, 2 * _n + 1)) < _chance
    _cells = np.where(
        _right,
        _labels[:, None],
        np.where(_rng.random(_right.shape) < 0.2, -1, 1 - _labels[:, None]),
    )
    _order = _rng.permutation(len(_runs))
    _lines = ["clip,source,label," + ",".join(_runs[i] for i in _order)]
    for _i in _rng.permutation(_clips):
        _answers = ["" if _cells[_i, j] < 0 else str(_cells[_i, j]) for j in _order]
        _lines.append(f"c{_i},v{_i // 4},{_labels[_i]}," + ",".join(_answers))
    _shares, _text = _right.mean(0), "\n".join(_lines) + "\n"
    _gru, _tcn, _pool = _shares[:_n], _shares[_n:-1], np.full(_n, _shares[-1])
    for _a, _b, _x, _y in [
        ("gru", "tcn", _gru, _tcn),
        ("tcn", "gru", _tcn, _gru),
        ("tcn", "mean pool", _tcn, _pool),
    ]:
        _wide = stats.sem(_x - _y) * stats.t(_n - 1).isf(0.025)
        assert np.allclose(paired(_text, _a, _b), ((_x - _y).mean(), _wide)), (
            "it differs from the paired t interval of the accuracies, seed by seed"
        )
    _other = _text.replace(f"gru/{_seeds[0]},", "gru/99,", 1).replace(
        f"gru/{_seeds[0]}\n", "gru/99\n", 1
    )
    try:
        paired(_other, "gru", "tcn")
    except ValueError:
        continue
    raise AssertionError("designs that have not the same seeds must raise ValueError")
### END HIDDEN TESTS

# %% [markdown]
# ## 5 · How you tuned (6 points)
#
# The log of your tuning, and what you chose: `tried`, a list of `(design, setting, seed, validation score)`, one for each run that served to choose; a higher score is better. `chosen`: for each design its setting. `reported`: the seeds of the runs in task 6. Say in the report if these are not the plan's.


# %% nbgrader={"grade": false, "grade_id": "tuning", "locked": false, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
def toy(n, generator):
    """Clips (n, 4, 8) of a spot that walks round a ring, and labels (n,)."""
    start, labels = (
        torch.randint(8, (n, 1), generator=generator),
        torch.randint(2, (n,), generator=generator),
    )
    at = (start + (2 * labels[:, None] - 1) * torch.arange(4)) % 8
    return F.one_hot(at, 8) + 0.5 * torch.randn(n, 4, 8, generator=generator), labels


def validation_score(design, penalty, seed):
    """Ridge regression on 64 random features of pairs of frames, or of single frames."""
    g = torch.Generator().manual_seed(seed)
    pairs = design == "pairs"
    w = torch.randn(16 if pairs else 8, 64, generator=g)
    parts = []
    for clips, labels in (
        toy(450, torch.Generator().manual_seed(1)),
        toy(150, torch.Generator().manual_seed(2)),
    ):
        seen = torch.cat([clips[:, :-1], clips[:, 1:]], 2) if pairs else clips
        parts.append(((seen @ w).relu().mean(1), 2.0 * labels - 1))
    (x, y), (x_val, y_val) = parts
    fit = torch.linalg.solve(x.T @ x + penalty * torch.eye(64), x.T @ y)
    return (x_val @ fit * y_val > 0).float().mean().item()


tried = [
    (d, p, 100, validation_score(d, p, 100)) for d in ("pairs", "single") for p in (1.0, 100.0)
]
chosen = {
    d: max((score, p) for name, p, _, score in tried if name == d)[1] for d in ("pairs", "single")
}
reported = [0, 1, 2, 3, 4]
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "tuning-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
assert len(tried) >= 4 and all(len(run) == 4 for run in tried), (
    "'tried' must list (design, setting, seed, validation score), two settings or more for two designs or more"
)
_by = {}
for _design, _setting, _seed, _score in tried:
    _by.setdefault(_design, {}).setdefault(_setting, []).append(float(_score))
    assert np.isfinite(float(_score)), (
        f"{_design} with {_setting} has no score; if the run broke off, it lost: give it the lowest"
    )
_effort = {design: len(settings) for design, settings in _by.items()}
assert len(_effort) >= 2 and min(_effort.values()) >= 2 and len(set(_effort.values())) == 1, (
    f"equal effort: two or more settings for each design, as many for all; you tried {_effort}"
)
_runs = {
    design: sorted(len(scores) for scores in settings.values()) for design, settings in _by.items()
}
assert len({tuple(counts) for counts in _runs.values()}) == 1, (
    f"equal effort: as many runs for all; you made {_runs}"
)
assert set(chosen) == set(_by), "'chosen' must have one setting for each design that was tuned"
for _design, _settings in _by.items():
    _means = {setting: float(np.mean(scores)) for setting, scores in _settings.items()}
    assert chosen[_design] in _means, (
        f"{_design}: the setting {chosen[_design]} is chosen, but was not tried"
    )
    assert _means[chosen[_design]] == max(_means.values()), (
        f"{_design}: {chosen[_design]} is chosen, but validation likes another one more: {_means}"
    )
_both = {run[2] for run in tried} & set(reported)
assert len(set(reported)) >= 3, "three or more seeds are to be reported"
assert not _both, f"the seeds {sorted(_both)} chose the settings and must not be reported"

# %% [markdown]
# ## 6 · What came out (6 + 10 points)
#
# `PER_CLIP`: the CSV text of task 4, of your project, pasted here as a string: 200 test clips or more, from three source videos or more; two designs or more, each with the same three seeds or more; one ruler. No run may be right on every clip (then the task is too easy to separate anybody: take a harder one), and the seeds of a design must not all give the same answers.
#
# A person who marks this may ask you to run the command that made it, on the commit that the report names, and compare.


# %% nbgrader={"grade": false, "grade_id": "results-log", "locked": false, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
# The key's project in the size of a toy; yours is the text that your own scripts wrote: PER_CLIP = """clip,source,..."""
def ring_videos(videos):
    """Clips (n, 4, 8) of a spot on a ring, labels (n,), and the video of each clip (its own brightness)."""
    clips, labels, sources = [], [], []
    for video in videos:
        g = torch.Generator().manual_seed(video)
        bright, label = 0.8 + 0.4 * torch.rand(1, generator=g), torch.randint(2, (15,), generator=g)
        at = (
            torch.randint(8, (15, 1), generator=g) + (2 * label[:, None] - 1) * torch.arange(4)
        ) % 8
        clips.append(bright * F.one_hot(at, 8) + 0.5 * torch.randn(15, 4, 8, generator=g))
        labels.append(label)
        sources += [f"v{video:02d}"] * 15
    return torch.cat(clips), torch.cat(labels), sources


def answers_of(design, seed, train, clips, penalty=1.0):  # what the tuning chose for both
    """Answers 0 or 1 of a ridge regression on features of pairs of frames, of single frames, or on the frames."""
    g = torch.Generator().manual_seed(seed)
    weights = torch.randn(16 if design == "pairs" else 8, 64, generator=g)

    def features(x):
        if design == "side by side":
            return F.pad(x.flatten(1), (0, 1), value=1.0)
        seen = torch.cat([x[:, :-1], x[:, 1:]], 2) if design == "pairs" else x
        return (seen @ weights).relu().mean(1)

    x, y = features(train[0]), 2.0 * train[1] - 1
    fit = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T @ y)
    return (features(clips) @ fit > 0).long().tolist()


def toy_project():
    """The whole project: CSV text."""
    train, (clips, labels, sources) = ring_videos(range(30)), ring_videos(range(40, 60))
    runs = {
        f"{d}/{s}": answers_of(d, s, train, clips) for d in ("pairs", "single") for s in range(5)
    }
    runs["side by side"] = answers_of("side by side", 0, train, clips)
    lines = [",".join(["clip", "source", "label", *runs])]
    for i, (source, label) in enumerate(zip(sources, labels.tolist())):
        lines.append(
            ",".join([f"c{i:03d}", source, str(label), *(str(run[i]) for run in runs.values())])
        )
    return "\n".join(lines) + "\n"


PER_CLIP = toy_project()
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "results-log-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
assert isinstance(PER_CLIP, str), "PER_CLIP must be text"
_rows = [line.split(",") for line in PER_CLIP.strip().splitlines()]
_head = _rows[0] if _rows else []
assert {"clip", "source", "label"} <= set(_head), (
    f"the header must name clip, source and label; it is {_head[:6]}"
)
assert len(set(_head)) == len(_head), "two columns have the same name"
_short = [i for i, row in enumerate(_rows) if len(row) != len(_head)]
assert not _short, (
    f"line {_short[0] + 1} has {len(_rows[_short[0]])} entries, the header has {len(_head)}"
)
_column = {name: [row[i] for row in _rows[1:]] for i, name in enumerate(_head)}
assert len(set(_column["clip"])) == len(_column["clip"]), "a clip has more than one line"
assert len(_column["clip"]) >= 200, (
    f"there are {len(_column['clip'])} test clips; 200 are asked for"
)
assert len(set(_column["source"])) >= 3, "the test clips must come from three source videos or more"
assert all(_column["label"]), "each clip needs a label"
assert len(set(_column["label"])) >= 2, "with one label there is nothing to tell apart"
_names = [name for name in _head if name not in ("clip", "source", "label")]
_seeds = {}
for _name in _names:
    _seeds.setdefault(_name.partition("/")[0], set()).add(_name.partition("/")[2])
_rulers = [name for name, seeds in _seeds.items() if seeds == {""}]
_trained = {name: seeds for name, seeds in _seeds.items() if name not in _rulers}
assert len(_rulers) == 1, f"one ruler is needed, a column without a seed; there are {len(_rulers)}"
assert len(_trained) >= 2, f"two designs or more are needed; there are {sorted(_trained)}"
assert len({tuple(sorted(s)) for s in _trained.values()}) == 1, (
    f"all designs need the same seeds; you have {_trained}"
)
assert min(len(s) for s in _trained.values()) >= 3, (
    f"three seeds or more are needed; you have {_trained}"
)
_strange = {a for name in _names for a in _column[name]} - {""} - set(_column["label"])
assert not _strange, f"answers that are no label of any clip: {sorted(_strange)[:3]}"
### BEGIN HIDDEN TESTS
for _name in _trained:
    _answers = [_column[f"{_name}/{s}"] for s in sorted(_trained[_name])]
    assert any(a != _answers[0] for a in _answers[1:]), (
        "all seeds of a design gave the same answers: one run was copied, or the seed does nothing"
    )
for _name in _names:
    assert len(set(_column[_name]) - {""}) >= 1, "a run has no answer for any clip"
    assert _column[_name] != _column["label"], (
        "a run is right for every clip: were the labels copied?"
    )
### END HIDDEN TESTS

# %% [markdown]
# Your tables, as numbers that the report quotes, rounded to three decimals or not at all:
#
# - `TABLE`: for each design and the ruler `(mean, half-width)`, as in task 4;
# - `AHEAD`: a list of `(a, b, mean, half-width, verdict)`: each design against the ruler (`a` the design, `b` the ruler), and each pair of designs once, in either order. The verdict is `"ahead"`, `"behind"` or `"not separated"`: what the interval of $a - b$ says.
#
# Use your functions of task 4 for it, or paste the numbers: they are recomputed from `PER_CLIP`.

# %% nbgrader={"grade": false, "grade_id": "results-table", "locked": false, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
header, *body = [line.split(",") for line in PER_CLIP.strip().splitlines()]
hits = {
    name: np.array([row[i] == row[header.index("label")] for row in body])
    for i, name in enumerate(header)
}


def scores_of(design):
    """Accuracy by seed; the ruler's, five times."""
    runs = [hits[f"{design}/{s}"] if f"{design}/{s}" in hits else hits[design] for s in range(5)]
    return np.array([run.mean() for run in runs])


def interval(values):
    """Mean and half-width."""
    return float(values.mean()), float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))


TABLE = {name: interval(scores_of(name)) for name in ("pairs", "single", "side by side")}
AHEAD = []
for a, b in [("pairs", "side by side"), ("single", "side by side"), ("pairs", "single")]:
    mean, half = interval(scores_of(a) - scores_of(b))
    verdict = "not separated" if abs(mean) <= half else "ahead" if mean > 0 else "behind"
    AHEAD.append((a, b, mean, half, verdict))
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "results-table-test", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
assert isinstance(TABLE, dict) and TABLE and all(len(v) == 2 for v in TABLE.values()), (
    "'TABLE' must have (mean, half-width) for each design and for the ruler"
)
assert AHEAD and all(len(row) == 5 for row in AHEAD), (
    "'AHEAD' must list (a, b, mean, half-width, verdict): each design against the ruler, and each pair of designs"
)
assert {row[4] for row in AHEAD} <= {"ahead", "behind", "not separated"}, (
    "a verdict is not one of the three words"
)
### BEGIN HIDDEN TESTS
_head, *_body = [line.split(",") for line in PER_CLIP.strip().splitlines()]
_runs = {}
for _i, _name in enumerate(_head):
    if _name not in ("clip", "source", "label"):
        _right = sum(row[_i] == row[_head.index("label")] for row in _body) / len(_body)
        _runs.setdefault(_name.partition("/")[0], {})[_name.partition("/")[2]] = _right
# What is missing in PER_CLIP costs the points of the check before this one, and is not asked for here.
_ruler = next((name for name, runs in _runs.items() if set(runs) == {""}), None)
_designs = [name for name in _runs if name != _ruler]


def _scores(name, seeds):
    return np.array([_runs[name].get(s, _runs[name].get("")) for s in seeds])


assert set(TABLE) == set(_runs), (
    "'TABLE' needs a line for each design and for the ruler, by the names of the columns"
)
for _name, (_mean, _half) in TABLE.items():
    _own = _scores(_name, sorted(_runs[_name]))
    _wide = 0.0 if _name == _ruler else stats.sem(_own) * stats.t.ppf(0.975, len(_own) - 1)
    assert abs(float(_mean) - _own.mean()) < 6e-4, "a mean of 'TABLE' cannot be had from PER_CLIP"
    assert abs(float(_half) - _wide) < 6e-4, "an interval of 'TABLE' cannot be had from PER_CLIP"
_seen = set()
for _a, _b, _mean, _half, _verdict in AHEAD:
    assert _a in _designs and _b in _runs and _a != _b, (
        "a row of 'AHEAD' names what is no column, or the ruler first"
    )
    _seen.add(frozenset((_a, _b)))
    _seeds = sorted(s for s in _runs[_a] if _b == _ruler or s in _runs[_b])
    _d = _scores(_a, _seeds) - _scores(_b, _seeds)
    _wide = stats.sem(_d) * stats.t.ppf(0.975, len(_d) - 1)
    assert abs(float(_mean) - _d.mean()) < 6e-4, (
        "a difference of 'AHEAD' cannot be had from PER_CLIP"
    )
    assert abs(float(_half) - _wide) < 6e-4, (
        "an interval of 'AHEAD' is not the paired one, seed by seed"
    )
    if abs(abs(_d.mean()) - _wide) > 1e-3:  # nearer than the rounding: either verdict will do
        _says = (
            "not separated" if abs(_d.mean()) <= _wide else "ahead" if _d.mean() > 0 else "behind"
        )
        assert _verdict == _says, "a verdict does not follow from its interval"
_columns = _designs + [_ruler] * (_ruler is not None)
_wanted = {frozenset((a, b)) for i, a in enumerate(_designs) for b in _columns[i + 1 :]}
assert _wanted <= _seen, "'AHEAD' lacks a design against the ruler, or a pair of designs"
### END HIDDEN TESTS

# %% [markdown]
# ## 7 · Report (30 points)
#
# At most 1,500 words and five figures or tables, under these headings. Keep them.
#
# | part | 5: excellent | 3: good | 1: to be mended |
# |---|---|---|---|
# | **Claim and outcome** | first paragraph: the claim, what came out with its interval, held or refuted by the plan's own words | the outcome is there, but not held against "refuted if" | an outcome without a number |
# | **Method** | someone else could run it: data and split, contestants, ruler, protocol, the command and the commit; **Deviations** from the plan, each with its reason | one step must be guessed | several steps must be guessed |
# | **Results** | every seed, both kinds of interval, the ruler in the same table or figure; the numbers are those of task 6; nothing is chosen on test | seeds or ruler are missing in a figure, but are there in the table | the best seed, or no ruler |
# | **Reading** | says what the numbers allow and no more; what the ruler shows about the *data*; one other explanation, tested or named | goes a little beyond the interval | sells the winner |
# | **Looking closer** | clips on which contestants disagree, or a class where the order turns: shown, counted, and not picked for effect | one example without a count | none |
# | **Limits and care** | what would change the verdict; where it was not tested; who is in the videos and what the representation may give away about them | general sentences | missing |
#
# Points between the columns are for what lies between. A report on a refuted claim is marked by the same table.

# %% [markdown] nbgrader={"grade": true, "grade_id": "report", "locked": false, "points": 30, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# *A model report is as long as a real one; here is the skeleton that a marker looks for, filled with the toy of the key.*
#
# **Claim and outcome.** Claim: features of pairs of frames beat as many features of single frames by at least 0.10. Outcome: quote the row ("pairs", "single") of `AHEAD` with its interval; the claim holds if the interval lies above 0.10, and is refuted by the plan's own words if it reaches below.
#
# **Method.** 20 test videos of 15 clips, 30 training videos, split by video; ridge regression on 64 random features; the frames side by side as ruler; two penalties on validation with seed 100; seeds 0 to 4. Command and commit. *Deviations:* none, or each with its reason.
#
# **Results.** `TABLE` and `AHEAD`, and one figure with a dot for each seed and a line for the ruler.
#
# **Reading.** The ruler, a linear sum over frames, is at one half; the second theorem of chapter 3 bounds its loss, not its accuracy. Features of single frames averaged over time are order-blind: by the first theorem they are right half of the time in expectation. Nothing is said about trained features.
#
# **Looking closer.** Of the clips on which the two disagree (all counted), how many go to each; three drawn at random are shown.
#
# **Limits and care.** One noise level, one size, a world without people: nothing to be given away here; with real people a representation that tells direction of gait may also tell who walks.
# ### END SOLUTION
