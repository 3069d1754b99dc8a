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
models = draw.choice([30, 40, 60])
few = draw.choice([4, 5, 6])
clips = draw.choice([100, 120, 150])
worth = draw.choice([0.6, 0.65, 0.7])
places = draw.choice([8, 10])

# %% [markdown]
# # Problem set 5: A study that nobody can call unfair
#
# Part V, chapter 13. Seven tasks, 88 points. You will put an interval on a difference, seed by seed and clip by clip; mend a protocol and a training loop that run and are unfair; write an
# auditor that reads a study's log and names the rules it breaks; find out what the leader of a board is worth; and make a small study of your own, with a ruler in its table.
#
# - Write only where it says `YOUR CODE HERE` or `YOUR ANSWER HERE`, or, in tasks that say so, mend the code that is there. Add cells of your own anywhere.
# - The cells with checks are there to help you: when one raises, read its last line. When your work is graded, these checks and further ones run on shapes, seeds and types
#   of number that you have not seen. All checks of a cell must hold for its points.
# - No task needs another. Where one builds on an idea of an earlier one, the book's own version is given.
# - Do not print a lot and do not read or write files: your code is graded in a sandbox that stops it (`How to hand in`, in the book).
# - Before the deadline, run `make check-submission FILE=...` on your notebook.
#
# The protocol of chapter 13, to have it at hand: the same clips for all; the same number of updates; the same number of learning rates tried, with one seed that is never used again, chosen on
# *validation*; the epoch chosen on *validation*, for each run by itself; the test split scored once; all seeds reported, with an interval, compared seed by seed; and a ruler in the table.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
from functools import cache

import numpy as np
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## 1 · Seed by seed (5 + 6 points)
#
# Two designs were trained with the same seeds. A seed that draws a lucky order of the clips may be lucky for both; then the *differences* spread less than two independent scores would. Whether it is so or not, the interval belongs to the differences, seed by seed. For $n$ differences
# $d_s = a_s - b_s$ with mean $\bar d$ and standard deviation $\sigma$ (the one that divides by $n - 1$), the 95 % interval is $\bar d \pm t_{n-1}\,\sigma/\sqrt n$. `t_quantile(n)` gives $t_{n-1}$.
#
# The scores come as dictionaries `{seed: score}`. Runs finish in any order, so the seeds of the two need not be in the same order. A seed that only one design has, or fewer than two seeds, is an error: raise `ValueError`.


# %% nbgrader={"grade": false, "grade_id": "paired-t", "locked": true, "schema_version": 3, "solution": false, "task": false}
def t_quantile(n):
    """The t of a 95 % interval for the mean of n numbers."""
    return float(stats.t.ppf(0.975, n - 1))


# %% nbgrader={"grade": false, "grade_id": "paired-loop", "locked": false, "schema_version": 3, "solution": true, "task": false}
def paired(a, b):
    """Dictionaries {seed: score} of two designs -> (mean of a - b, half the width of its 95 % interval)."""
    ### BEGIN SOLUTION
    if set(a) != set(b) or len(a) < 2:
        raise ValueError("the two designs need the same seeds, two or more")
    differences = []
    for seed in a:
        differences.append(a[seed] - b[seed])
    n = len(differences)
    mean = sum(differences) / n
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1)
    return mean, t_quantile(n) * (variance / n) ** 0.5
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "paired-loop-test", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
_mean, _half = paired({0: 0.5, 1: 0.7, 2: 0.6}, {2: 0.4, 0: 0.4, 1: 0.4})
assert abs(_mean - 0.2) < 1e-9, f"the differences .1, .3 and .2 gave the mean {_mean}, expected 0.2"
assert abs(_half - 4.302653 * 0.1 / 3**0.5) < 1e-5, (
    f"the differences .1, .3 and .2 gave the half-width {_half}, expected 0.2484: t of two degrees of freedom is 4.303"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed)
for _n in (2, 3, 5, 9):
    _seeds = [int(s) for s in _rng.choice(100, _n, replace=False)]
    _luck = 0.2 * _rng.normal(size=_n)
    _a, _b = _luck + 0.02 * _rng.normal(size=_n), _luck + 0.02 * _rng.normal(size=_n)
    _of_a = dict(zip(_seeds, _a.tolist()))
    _of_b = {_seeds[i]: float(_b[i]) for i in _rng.permutation(_n)}
    _mean, _half = paired(_of_a, _of_b)
    _low, _high = stats.ttest_rel(_a, _b).confidence_interval(0.95)
    assert abs(_mean - (_low + _high) / 2) < 1e-9, (
        "the mean is not that of the differences, seed by seed"
    )
    assert abs(_half - (_high - _low) / 2) < 1e-9, (
        "the interval is not the t interval of the differences, seed by seed"
    )
for _a, _b in [
    ({0: 0.1, 1: 0.2}, {0: 0.1, 2: 0.2}),
    ({3: 0.1}, {3: 0.2}),
    ({0: 1, 1: 0, 2: 1}, {0: 1, 1: 0}),
]:
    try:
        paired(_a, _b)
    except ValueError:
        continue
    raise AssertionError("seeds that one design lacks, or a single seed, must raise ValueError")
### END HIDDEN TESTS

# %% [markdown]
# Now all pairs of designs at once, without a loop over them: scores `(designs, seeds)`, column by column of the same seed, to two arrays `(designs, designs)`; place `[i, j]` is about design `i` minus design `j`.


# %% nbgrader={"grade": false, "grade_id": "paired-fast", "locked": false, "schema_version": 3, "solution": true, "task": false}
def all_pairs(scores):
    """Scores (designs, seeds) -> means (designs, designs) and half-widths (designs, designs) of i - j."""
    ### BEGIN SOLUTION
    scores = np.asarray(scores)
    n = scores.shape[1]
    differences = scores[:, None] - scores[None]
    return differences.mean(-1), t_quantile(n) * differences.std(-1, ddof=1) / n**0.5
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "paired-fast-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_mean, _half = all_pairs(np.array([[0.5, 0.7, 0.6], [0.4, 0.4, 0.4]]))
_mean, _half = np.asarray(_mean), np.asarray(_half)
assert _mean.shape == _half.shape == (2, 2), (
    f"two designs gave the shapes {_mean.shape} and {_half.shape}"
)
assert abs(_mean[0, 1] - 0.2) < 1e-9, (
    f"[0, 1] is the first design minus the second: 0.2, not {_mean[0, 1]}"
)
assert abs(_half[0, 1] - 0.248413) < 1e-5, (
    f"the half-width at [0, 1] is {_half[0, 1]}, expected 0.2484"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 1)
for _designs, _n in [(2, 2), (3, 5), (6, 3), (4, 10)]:
    _scores = _rng.normal(size=(_designs, _n)) * 0.03 + 0.3 * _rng.normal(size=_n)
    _mean, _half = (np.asarray(x) for x in all_pairs(_scores))
    assert _mean.shape == _half.shape == (_designs, _designs), (
        "there must be one place for each pair"
    )
    assert np.allclose(np.diag(_mean), 0) and np.allclose(np.diag(_half), 0), (
        "a design does not differ from itself"
    )
    for _i in range(_designs):
        for _j in range(_designs):
            if _i != _j:
                _low, _high = stats.ttest_rel(_scores[_i], _scores[_j]).confidence_interval(0.95)
                assert abs(_mean[_i, _j] - (_low + _high) / 2) < 1e-9, "a mean is not that of i - j"
                assert abs(_half[_i, _j] - (_high - _low) / 2) < 1e-9, (
                    "an interval is not the t interval of i - j, seed by seed"
                )
### END HIDDEN TESTS

# %% [markdown]
# ## 2 · Clip by clip (8 points)
#
# With one trained model each, compare on the *clips*. Those on which both are right, or both wrong, say nothing. Of the $n$ on which exactly one is right, $k$ go to `a`. If the two were equally good, each of the $n$ would be the throw of a fair
# coin. Return the probability of a split at least as lopsided as yours, in either direction: the sum of $\binom{n}{j} / 2^n$ over all $j$ that are as far from $n/2$ as $k$, or farther. (This is McNemar's test in its exact form.) With $n = 0$ it is 1.


# %% nbgrader={"grade": false, "grade_id": "disagree", "locked": false, "schema_version": 3, "solution": true, "task": false}
def p_value(hits_a, hits_b):
    """Two arrays of 0 and 1 (was the clip answered rightly?) -> the probability described above."""
    ### BEGIN SOLUTION
    a, b = np.asarray(hits_a).astype(bool), np.asarray(hits_b).astype(bool)
    k, n = int((a & ~b).sum()), int((a ^ b).sum())
    ways = np.arange(n + 1)
    chances = stats.binom.pmf(ways, n, 0.5)
    return float(chances[abs(2 * ways - n) >= abs(2 * k - n)].sum())
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "disagree-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_got = float(p_value(np.array([1, 1, 1, 1, 0, 1]), np.array([0, 0, 0, 1, 0, 0])))
assert abs(_got - 0.125) < 1e-9, (
    f"four clips on which they disagree, all won by a: you gave {_got}, expected 2 / 16: all four heads or all four tails"
)
_got = float(p_value(np.array([1, 0, 1]), np.array([0, 1, 1])))
assert abs(_got - 1) < 1e-9, (
    f"one clip won by each: you gave {_got}, expected 1: no split is less lopsided"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 2)
for _n in (5, 30, 101, 400):
    for _gain in (0.0, 0.15):
        _b = (_rng.random(_n) < 0.5).astype(np.int64)
        _a = np.where(_rng.random(_n) < 0.3, (_rng.random(_n) < 0.5 + _gain).astype(np.int64), _b)
        _won, _lost = int((_a > _b).sum()), int((_a < _b).sum())
        _expected = stats.binomtest(_won, _won + _lost).pvalue if _won + _lost else 1.0
        _got = float(p_value(_a, _b))
        assert abs(_got - _expected) < 1e-6, (
            "it differs from the exact test of the clips on which they disagree"
        )
        assert abs(float(p_value(_b, _a)) - _got) < 1e-9, (
            "exchanging the two models must change nothing"
        )
        _same = np.ones(50, dtype=np.int64)
        _more = float(p_value(np.concatenate([_a, _same]), np.concatenate([_b, _same])))
        assert abs(_more - _got) < 1e-9, "clips on which both are right must change nothing"
        assert abs(float(p_value(_a.astype(bool), _b.astype(bool))) - _got) < 1e-9, (
            "booleans must do too"
        )
assert abs(float(p_value(_same, _same)) - 1) < 1e-9, (
    "models that never disagree: the probability is 1"
)
### END HIDDEN TESTS

# %% [markdown]
# ## 3 · Find the bug: who chooses? (10 points)
#
# All designs were trained with several learning rates and seeds, and after each epoch both splits were scored: arrays `(designs, rates, seeds, epochs)`. Along the third axis, **place 0 is the tuning seed**, the
# others are the reported ones. This function should return the protocol's test scores, `(designs, reported seeds)`: for each design the rate whose tuning run reaches the highest validation score at any
# epoch; for each reported run its epoch with the highest validation score. It runs, its numbers look good, and there is **one mistake** in it. Mend it.


# %% nbgrader={"grade": false, "grade_id": "select", "locked": false, "schema_version": 3, "solution": true, "task": false}
def protocol_scores(val, test):
    """Validation and test scores (designs, rates, seeds, epochs) -> reported test scores (designs, seeds - 1)."""
    table = []
    for design_val, design_test in zip(val, test):
        # BUG rate_on_test: rate = design_test[:, 0].max(-1).argmax()
        # BUG rate_by_all_seeds: rate = design_val.max(-1).mean(1).argmax()
        # BUG rate_by_last_epoch: rate = design_val[:, 0, -1].argmax()
        rate = design_val[:, 0].max(-1).argmax()
        row = []
        # BUG tuning_seed: for place in range(design_val.shape[1] - 1):
        for place in range(1, design_val.shape[1]):
            # BUG epoch_on_test: epoch = design_test[rate, place].argmax()
            # BUG epoch_of_tuning: epoch = design_val[rate, 0].argmax()
            # BUG epoch_last: epoch = design_val.shape[2] - 1
            epoch = design_val[rate, place].argmax()
            # BUG report_val: row.append(float(design_val[rate, place, epoch]))
            row.append(float(design_test[rate, place, epoch]))
        table.append(row)
    return np.array(table)


# %% nbgrader={"grade": true, "grade_id": "select-test", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_val, _test = np.zeros((1, 2, 3, 4)), np.zeros((1, 2, 3, 4))
_val[0, 1, 0, 2] = _val[0, 1, 1, 1] = _val[0, 1, 2, 3] = 0.9  # rate 1 wins; epochs 1 and 3 are kept
_test[0, 1, 1, 1], _test[0, 1, 2, 3] = 0.6, 0.7
_got = np.asarray(protocol_scores(_val, _test))
assert _got.shape == (1, 2), (
    f"one design, three seeds of which one is for tuning: the shape is {_got.shape}"
)
assert np.allclose(_got, [[0.6, 0.7]]), f"you report {_got.tolist()}, expected [[0.6, 0.7]]"
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 3)
for _ in range(25):
    _shape = tuple(int(n) for n in _rng.integers([1, 2, 2, 3], [4, 5, 6, 9]))
    _val, _test = _rng.random(_shape), _rng.random(_shape)
    _got, _kept = np.asarray(protocol_scores(_val, _test)), np.zeros(_shape, dtype=bool)
    assert _got.shape == (_shape[0], _shape[2] - 1), "one score for each design and reported seed"
    for _d in range(_shape[0]):
        _best = {max(_val[_d, r, 0].tolist()): r for r in range(_shape[1])}
        _rate = _best[max(_best)]
        for _s in range(1, _shape[2]):
            _run = _val[_d, _rate, _s].tolist()
            _kept[_d, _rate, _s, _run.index(max(_run))] = True
    assert np.allclose(_got.flatten(), _test[_kept]), (
        "a score is not that of the rate and epoch chosen on validation"
    )
    _other = np.where(_kept, _test, _rng.random(_shape) * 3)
    assert np.allclose(protocol_scores(_val, _other), _got), (
        "test scores of epochs that were not kept must not matter"
    )
    _val[:, :, 1:] += _rng.random(_shape)[:, :, 1:, :1] * 5  # a constant for each reported run
    assert np.allclose(protocol_scores(_val, _test), _got), (
        "reported runs must have no say in the rate"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 4 · Find the bug: an equal number of updates (10 points)
#
# Designs that need different batch sizes are comparable when each gets the same number of *updates*. This function trains a linear model by stochastic gradient descent for exactly `budget` updates:
#
# - it passes over the clips again and again, each time in a new order, in batches of `batch` (the last of a pass may be smaller and is used too);
# - update number `u`, counted from 0, has the learning rate `rate * (1 - u / budget)`;
# - the loss is the mean over the batch of the squared error;
# - it returns the weights and the list of the batches that it used, each a tensor of clip numbers, in the order of use.
#
# It trains, and there is **one mistake** in it. Mend it.


# %% nbgrader={"grade": false, "grade_id": "updates", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train(x, y, budget, batch, rate, seed):
    """Features (n, d), targets (n,) -> weights (d,) after `budget` updates, and the batches used."""
    g = torch.Generator().manual_seed(seed)
    weights, used = torch.zeros(x.shape[1], dtype=x.dtype), []
    while len(used) < budget:
        # BUG order: order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        # BUG replacement: order = torch.randint(len(x), (len(x),), generator=g)
        order = torch.randperm(len(x), generator=g)
        left = budget - len(used)
        # BUG last_batch: for chosen in [part for part in order.split(batch) if len(part) == batch][:left]:
        # BUG whole_passes: for chosen in order.split(batch):
        # BUG one_more: for chosen in order.split(batch)[: left + 1]:
        for chosen in order.split(batch)[:left]:
            # BUG by_pass: now = rate * (1 - len(used) * batch // len(x) * len(x) / batch / budget)
            # BUG constant: now = rate
            now = rate * (1 - len(used) / budget)
            error = x[chosen] @ weights - y[chosen]
            # BUG sum: gradient = 2 * x[chosen].T @ error
            # BUG factor: gradient = x[chosen].T @ error / len(chosen)
            # BUG size: gradient = 2 * x[chosen].T @ error / batch
            gradient = 2 * x[chosen].T @ error / len(chosen)
            weights = weights - now * gradient
            used.append(chosen)
    return weights, used


# %% nbgrader={"grade": true, "grade_id": "updates-test", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_g = torch.Generator().manual_seed(0)
_x, _y = torch.randn(10, 3, generator=_g), torch.randn(10, generator=_g)
_weights, _used = train(_x, _y, 5, 4, 0.1, 0)
assert len(_used) == 5, f"five updates were ordered and {len(_used)} were made"
_sizes = [len(part) for part in _used]
assert _sizes == [4, 4, 2, 4, 4], (
    f"10 clips in batches of 4, again and again, gave batches of {_sizes}"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 4)
_g = torch.Generator().manual_seed(INSTANCE.seed)
for _n, _batch, _passes in [(12, 4, 2.5), (11, 3, 3.2), (9, 5, 2.0), (7, 7, 4.0), (20, 8, 1.4)]:
    _per_pass = -(-_n // _batch)
    _budget, _dim = int(_passes * _per_pass), int(_rng.integers(2, 6))
    _x = torch.randn(_n, _dim, generator=_g, dtype=torch.float64)
    _y = torch.randn(_n, generator=_g, dtype=torch.float64)
    _weights, _used = train(_x, _y, _budget, _batch, 0.05, int(_rng.integers(1000)))
    assert len(_used) == _budget, "the number of updates is not what was ordered"
    _orders = []
    for _start in range(0, _budget, _per_pass):
        _pass = [int(i) for part in _used[_start : _start + _per_pass] for i in part]
        assert len(set(_pass)) == len(_pass), "within a pass a clip came twice"
        if _start + _per_pass <= _budget:
            assert sorted(_pass) == list(range(_n)), "a whole pass must use every clip"
        _orders.append(_pass)
    assert _orders[0][: len(_orders[1])] != _orders[1], "two passes had the same order"
    _expected = torch.zeros(_dim, dtype=torch.float64, requires_grad=True)
    for _number, _part in enumerate(_used):
        (_slope,) = torch.autograd.grad(F.mse_loss(_x[_part] @ _expected, _y[_part]), _expected)
        _now = 0.05 - 0.05 * _number / _budget
        _expected = (_expected - _now * _slope).detach().requires_grad_()
    assert torch.allclose(torch.as_tensor(_weights).double(), _expected.detach(), atol=1e-9), (
        "the weights are not those that autograd's gradient reaches on the same batches with a rate that falls by the update"
    )
    _again, _ = train(_x, _y, _budget, _batch, 0.05, 3)
    _twice, _ = train(_x, _y, _budget, _batch, 0.05, 3)
    assert torch.equal(_again, _twice), "the same seed must give the same weights"
### END HIDDEN TESTS

# %% [markdown]
# ## 5 · An auditor (12 points)
#
# Write a program that reads the log of a study and names what is unfair in it. A study is a dictionary:
#
# - `runs`: a list of runs, each with `design`, `rate`, `seed`, `tuning` (`True` for a run that served to choose the rate, `False` for one that is reported), `updates` (how many were made), `val` (a list: the validation score after
#   each epoch) and `kept` (which epoch's weights were kept, from 0);
# - `rulers`: a dictionary from the name of a ruler to its score;
# - `train`, `test`: lists of pairs `(clip, source)`: which source video each clip was cut from.
#
# Return the set of the names of all rules that are broken:
#
# | name | broken when |
# |---|---|
# | `"updates"` | not all runs of the study, tuning runs included, made the same number of updates |
# | `"seeds"` | the designs are not all reported with the same seeds, or one of them with fewer than three different ones |
# | `"tuning seed"` | a seed of any tuning run is also that of a reported run |
# | `"tries"` | not every design was tuned with the same number of different rates |
# | `"rate"` | a reported run has another rate than that of its design's tuning run with the highest validation score (over all epochs) |
# | `"epoch"` | a run, tuning or reported, kept another epoch than the one with its highest validation score |
# | `"ruler"` | there is no ruler |
# | `"source"` | a source video has clips in both splits |
#
# Each design has at least one tuning and one reported run, and no two scores are equal.


# %% nbgrader={"grade": false, "grade_id": "audit-study", "locked": true, "schema_version": 3, "solution": false, "task": false}
def fair_study():
    """Two designs, two rates, three seeds, and nothing unfair in it. Change it, and see what your auditor says."""

    def run(design, rate, seed, tuning, val):
        kept = val.index(max(val))
        return dict(
            design=design, rate=rate, seed=seed, tuning=tuning, updates=200, val=val, kept=kept
        )

    runs = []
    for number, design in enumerate(["early", "late"]):
        runs.append(run(design, 0.01, 100, True, [0.50 + 0.1 * number, 0.52, 0.51]))
        runs.append(run(design, 0.03, 100, True, [0.40 - 0.1 * number, 0.55 + 0.2 * number, 0.53]))
        for seed in range(3):
            runs.append(
                run(design, 0.03, seed, False, [0.30 + 0.01 * seed, 0.60 + 0.02 * seed, 0.58])
            )
    return dict(
        runs=runs,
        rulers={"frames side by side": 0.5},
        train=[("a-1", "a"), ("a-2", "a"), ("b-1", "b")],
        test=[("c-1", "c"), ("d-1", "d")],
    )


# %% nbgrader={"grade": false, "grade_id": "audit", "locked": false, "schema_version": 3, "solution": true, "task": false}
def broken_rules(study):
    """The set of names of the rules that a study breaks; empty for a fair one."""
    ### BEGIN SOLUTION
    runs, broken = study["runs"], set()
    tuned = [run for run in runs if run["tuning"]]
    reported = [run for run in runs if not run["tuning"]]
    designs = {run["design"] for run in runs}
    if len({run["updates"] for run in runs}) > 1:
        broken.add("updates")
    seeds = {d: {run["seed"] for run in reported if run["design"] == d} for d in designs}
    if any(s != seeds[run["design"]] or len(s) < 3 for s in seeds.values() for run in runs):
        broken.add("seeds")
    if {run["seed"] for run in tuned} & {run["seed"] for run in reported}:
        broken.add("tuning seed")
    rates = {d: {run["rate"] for run in tuned if run["design"] == d} for d in designs}
    if len({len(tried) for tried in rates.values()}) > 1:
        broken.add("tries")
    for design in designs:
        best = max((max(r["val"]), r["rate"]) for r in tuned if r["design"] == design)[1]
        if any(run["rate"] != best for run in reported if run["design"] == design):
            broken.add("rate")
    if any(run["val"][run["kept"]] < max(run["val"]) for run in runs):
        broken.add("epoch")
    if not study["rulers"]:
        broken.add("ruler")
    if {source for _, source in study["train"]} & {source for _, source in study["test"]}:
        broken.add("source")
    return broken
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "audit-test", "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
assert set(broken_rules(fair_study())) == set(), (
    f"the fair study breaks no rule; you found {broken_rules(fair_study())}"
)
_study = fair_study()
_study["runs"][-1]["updates"] = 201
assert set(broken_rules(_study)) == {"updates"}, (
    f"one run of 201 updates among runs of 200: you found {broken_rules(_study)}, expected {{'updates'}}"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 5)


def _fair():
    """A random fair study, its designs, rates and seeds."""
    _designs = ["gru", "fusion", "attention"][: _rng.integers(2, 4)]
    _rates, _seeds = (
        [0.001, 0.003, 0.01, 0.03][: _rng.integers(2, 5)],
        _rng.choice(50, 4, replace=False).tolist(),
    )
    _epochs, _runs = int(_rng.integers(3, 7)), []
    for _design in _designs:
        _tuning = [(_rate, 100, _rng.random(_epochs).tolist()) for _rate in _rates]
        _rate = max(_tuning, key=lambda t: max(t[2]))[0]
        _all = [(*t, True) for t in _tuning]
        _all += [(_rate, s, _rng.random(_epochs).tolist(), False) for s in _seeds]
        _runs += [
            dict(design=_design, rate=r, seed=s, tuning=t, updates=500, val=v, kept=v.index(max(v)))
            for r, s, v, t in _all
        ]
    _runs = [_runs[i] for i in _rng.permutation(len(_runs))]
    _clips = [[(f"{s}-{i}", f"{s}") for s in part for i in range(3)] for part in ("abc", "de")]
    return dict(runs=_runs, rulers={"mean": 0.1, "pixels": 0.2}, train=_clips[0], test=_clips[1])


def _pick(_study, **_wanted):
    """A random run that has these values."""
    _found = [r for r in _study["runs"] if all(r[k] == v for k, v in _wanted.items())]
    return _found[_rng.integers(len(_found))]


def _updates(_study):
    """Every run of one design longer: equal within each design."""
    _design = _pick(_study)["design"]
    for _run in _study["runs"]:
        _run["updates"] += 100 * (_run["design"] == _design)


def _one_long(_study):
    _pick(_study, tuning=True)["updates"] += 1


def _seeds(_study):
    _study["runs"].remove(_pick(_study, tuning=False))


def _other_seed(_study):
    """As many seeds as the others, but another one."""
    _pick(_study, tuning=False)["seed"] = 77


def _few(_study):
    """Two seeds for every design."""
    _gone = sorted({r["seed"] for r in _study["runs"] if not r["tuning"]})[:2]
    _study["runs"] = [r for r in _study["runs"] if r["seed"] not in _gone]


def _repeated(_study):
    """One seed reported four times."""
    for _run in _study["runs"]:
        _run["seed"] = _run["seed"] if _run["tuning"] else 7


def _reused(_study):
    """The tuning seed of one design is a reported seed of all."""
    _old = _pick(_study, tuning=False)["seed"]
    for _run in _study["runs"]:
        _run["seed"] = 100 if _run["seed"] == _old else _run["seed"]


def _tries(_study):
    """One rate less for one design, but not its best."""
    _design = _pick(_study)["design"]
    _best = _pick(_study, tuning=False, design=_design)["rate"]
    _study["runs"].remove(
        next(
            r
            for r in _study["runs"]
            if r["tuning"] and r["design"] == _design and r["rate"] != _best
        )
    )


def _twice(_study):
    """One design's worse rate is a second run of its best one: as many runs, fewer rates."""
    _best = _pick(_study, tuning=False)
    _worse = next(
        r
        for r in _study["runs"]
        if r["tuning"] and r["design"] == _best["design"] and r["rate"] != _best["rate"]
    )
    _worse["rate"] = _best["rate"]


def _rate(_study):
    _run = _pick(_study, tuning=False)
    _run["rate"] = next(
        r["rate"]
        for r in _study["runs"]
        if r["tuning"] and r["design"] == _run["design"] and r["rate"] != _run["rate"]
    )


def _high_start(_study):
    """The rate with the best average is not the rate with the best epoch."""
    _run = _pick(_study, tuning=False)
    for _other in _study["runs"]:
        if _other["tuning"] and _other["design"] == _run["design"]:
            _n = len(_other["val"])
            _best = _other["rate"] == _run["rate"]
            _other["val"] = [0.01 * i + (0.1 if _best else 0.5) for i in range(_n)]
            _other["val"][1] = 0.9 if _best else 0.6 + 0.1 * _rng.random()
            _other["kept"] = 1


def _epoch(_study, **_wanted):
    _run = _pick(_study, **_wanted)
    _run["kept"] = int(np.argsort(_run["val"])[-2])


def _last(_study):
    """The last epoch everywhere."""
    for _run in _study["runs"]:
        _run["val"][0] = 1.0 + 0.01 * _run["val"][0] if not _run["tuning"] else _run["val"][0]
        _run["kept"] = _run["kept"] if _run["tuning"] else len(_run["val"]) - 1


def _ruler(_study):
    _study["rulers"] = {}


def _source(_study):
    """Another clip of a test video is trained on."""
    _study["train"].append(("d-17", "d"))


def _alike(_study):
    """Clips of two sources that bear the same name are no overlap."""
    _study["train"].append(("e-0", "b"))


for _ in range(2):
    assert set(broken_rules(_fair())) == set(), "a fair study was accused"
    for _break, _rule in [
        (_updates, "updates"),
        (_one_long, "updates"),
        (_seeds, "seeds"),
        (_other_seed, "seeds"),
        (_few, "seeds"),
        (_repeated, "seeds"),
        (_reused, "tuning seed"),
        (_tries, "tries"),
        (_twice, "tries"),
        (_rate, "rate"),
        (_epoch, "epoch"),
        (lambda s: _epoch(s, tuning=True), "epoch"),
        (_last, "epoch"),
        (_ruler, "ruler"),
        (_source, "source"),
        (_alike, None),
        (_high_start, None),
    ]:
        _study = _fair()
        _break(_study)
        _found = set(broken_rules(_study))
        assert _rule is None or _rule in _found, (
            f"a study that breaks the rule '{_rule}' was not accused of it"
        )
        assert _found <= {_rule}, (
            f"a rule that is kept is called broken (the study breaks: {_rule or 'none'})"
        )
_study = _fair()
_ruler(_study), _source(_study), _one_long(_study)
assert set(broken_rules(_study)) == {"ruler", "source", "updates"}, (
    "a study can break several rules at once"
)
### END HIDDEN TESTS

# %% [markdown]
# ## 6 · Predict, run, explain: the leader of the board (6 + 8 points)
#
# INSTANCE.models models are equally good: each answers any clip rightly with probability INSTANCE.worth, independently of the others and of other clips. All are scored on the same number of test clips, and you report the best. Its **lead** is its
# score minus INSTANCE.worth, on average over all boards that could come out.
#
# **Predict** the four leads below on paper, as well as you can. Then **run** it: simulate some thousands of boards. Enter the four numbers as a dictionary `lead`, right to ±0.003:
#
# - `"board"`: the lead of the best of INSTANCE.models on INSTANCE.clips clips;
# - `"four times the clips"`: the same, with four times as many clips;
# - `"few models"`: the best of INSTANCE.few on INSTANCE.clips clips;
# - `"fresh clips"`: the leader of the first board, scored on INSTANCE.clips other clips.


# %% nbgrader={"grade": false, "grade_id": "leader", "locked": false, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
def simulated_lead(models, clips, boards=5000):
    """Average lead of the best of equal models, by simulation."""
    rng = np.random.default_rng(0)
    return (
        float(rng.binomial(clips, INSTANCE.worth, (boards, models)).max(1).mean()) / clips
        - INSTANCE.worth
    )


lead = {
    "board": simulated_lead(INSTANCE.models, INSTANCE.clips),
    "four times the clips": simulated_lead(INSTANCE.models, 4 * INSTANCE.clips),
    "few models": simulated_lead(INSTANCE.few, INSTANCE.clips),
    "fresh clips": 0.0,
}
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "leader-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_asked = {"board", "four times the clips", "few models", "fresh clips"}
assert isinstance(lead, dict) and set(lead) == _asked, (
    f"'lead' must be a dictionary with the keys {sorted(_asked)}"
)
assert all(-1 <= float(v) <= 1 for v in lead.values()), "each lead is a difference of two shares"
### BEGIN HIDDEN TESTS
for _name, _models, _clips in [
    ("board", INSTANCE.models, INSTANCE.clips),
    ("four times the clips", INSTANCE.models, 4 * INSTANCE.clips),
    ("few models", INSTANCE.few, INSTANCE.clips),
    ("fresh clips", 1, INSTANCE.clips),
]:
    # The mean of the largest is the sum over k of P(largest > k).
    _below = stats.binom.cdf(np.arange(_clips), _clips, INSTANCE.worth) ** _models
    _exact = (1 - _below).sum() / _clips - INSTANCE.worth
    assert abs(float(lead[_name]) - _exact) < 0.003, (
        f"the lead '{_name}' is not what simulated boards give"
    )
### END HIDDEN TESTS

# %% [markdown]
# **Explain**, in at most 200 words. (a) Why does the best of equal models lead, though nobody has done anything wrong with a single number? (b) How does the lead change with the number of clips, and how with the number of models? Which of the two
# helps more? (c) Real models are not independent: most err on the same difficult clips. Is the lead then larger or smaller, and why? (d) What should a table report instead of the leader's score?
#
# | points | for |
# |---|---|
# | 2 | (a): the leader is chosen *by* its luck on these clips; "variance" alone is 1 |
# | 2 | (b): falls with the root of the clips, grows slowly (about with the root of the logarithm) with the models |
# | 2 | (c): smaller, because what they share does not separate them |
# | 2 | (d): a score on clips that took no part in choosing, or all models with their interval; "more clips" alone is 1 |

# %% [markdown] nbgrader={"grade": true, "grade_id": "leader-why", "locked": false, "points": 8, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# (a) Each score is the common worth plus luck. Taking the largest takes the largest luck: the choice was made by the number that is then reported. (b) Luck on $n$ clips has the spread $\sqrt{p(1-p)/n}$, so four times the clips halve the lead. The largest
# of $m$ is about $\sqrt{2 \log m}$ spreads up, so ten times the models add little: more clips help more than fewer models. (c) Smaller. Clips that all models answer alike move all scores together and separate nobody; the lead comes from what models do *not* share.
# (d) The leader's score on clips that had no say in choosing it (on average it is the common worth), or the scores of all models with an interval.
# ### END SOLUTION

# %% [markdown]
# ## 7 · Measure: a small study (6 + 8 + 9 points)
#
# The world: a ring of INSTANCE.places places, a spot that walks one place a frame to the right (label 1) or to the left (label 0), four frames, noise. Two contestants and a ruler:
#
# - `"side by side"`: a network with one hidden layer on all four frames;
# - `"neighbours"`: a convolution over two neighbouring frames and three places, rectified, then averaged over places and moments;
# - the ruler: a linear model on the frames side by side, fitted exactly.
#
# `run(design, rate, seed)` trains one contestant for a fixed number of updates and returns two lists: the accuracy on validation, and on test, after each epoch. **Test scores of all epochs are in your hands; the protocol says which of them you may look at.**
#
# First the rate: `choose(run, design, rates, seed)` returns the rate of those offered whose run with the tuning seed reaches the highest validation accuracy at any epoch (the smaller rate if two are equal).


# %% nbgrader={"grade": false, "grade_id": "study-world", "locked": true, "schema_version": 3, "solution": false, "task": false}
def ring(n, seed):
    """Clips (n, 4, places) of a spot that walks round a ring, and labels (n,): 1 goes right."""
    g = torch.Generator().manual_seed(seed)
    start, labels = (
        torch.randint(INSTANCE.places, (n, 1), generator=g),
        torch.randint(2, (n,), generator=g),
    )
    at = (start + (2 * labels[:, None] - 1) * torch.arange(4)) % INSTANCE.places
    noise = 0.5 * torch.randn(n, 4, INSTANCE.places, generator=g)
    return F.one_hot(at, INSTANCE.places) + noise, labels


class Neighbours(nn.Module):
    """Relates neighbouring frames in its first layer."""

    def __init__(self):
        super().__init__()
        self.relate, self.answer = (
            nn.Conv2d(1, 12, (2, 3), padding=(0, 1), padding_mode="circular"),
            nn.Linear(12, 2),
        )

    def forward(self, clips):
        """(n, 4, places) -> (n, 2)."""
        return self.answer(self.relate(clips[:, None]).relu().mean((2, 3)))


def side_by_side():
    """One hidden layer on all frames."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(4 * INSTANCE.places, 12), nn.ReLU(), nn.Linear(12, 2)
    )


@cache
def _curves(design, rate, seed):
    torch.manual_seed(seed)
    model = Neighbours() if design == "neighbours" else side_by_side()
    (x, y), val, test = ring(320, 1), ring(200, 2), ring(400, 3)
    curves, speeds = ([], []), [torch.zeros_like(p) for p in model.parameters()]
    for _ in range(8):  # epochs of ten updates of gradient descent with momentum
        for part in torch.randperm(len(x)).split(32):
            loss = F.cross_entropy(model(x[part]), y[part])
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for p, speed, gradient in zip(model.parameters(), speeds, gradients):
                    p -= rate * speed.mul_(0.9).add_(gradient)
        with torch.no_grad():
            for curve, (clips, labels) in zip(curves, (val, test)):
                curve.append((model(clips).argmax(1) == labels).double().mean().item())
    return curves


def run(design, rate, seed):
    """Accuracy after each epoch: a list on validation, a list on test."""
    val, test = _curves(design, float(rate), int(seed))
    return list(val), list(test)


def ruler_accuracy():
    """Test accuracy of a linear model on the frames side by side."""
    (x, y), (x_test, y_test) = ring(320, 1), ring(400, 3)
    x, x_test = (F.pad(part.flatten(1), (0, 1), value=1.0).double() for part in (x, x_test))
    w = torch.linalg.solve(x.T @ x + torch.eye(x.shape[1]), x.T @ (2 * y - 1).double())
    return ((x_test @ w > 0) == (y_test == 1)).double().mean().item()


# %% nbgrader={"grade": false, "grade_id": "study-choose", "locked": false, "schema_version": 3, "solution": true, "task": false}
def choose(run, design, rates, seed):
    """The rate of those offered that validation likes best, with the tuning seed."""
    ### BEGIN SOLUTION
    best, chosen = -1.0, None
    for rate in sorted(rates):
        val, _ = run(design, rate, seed)
        if max(val) > best:
            best, chosen = max(val), rate
    return chosen
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "study-dice", "locked": true, "schema_version": 3, "solution": false, "task": false}
def dice(design, rate, seed):
    """As `run`, but nothing is trained: scores from a die, so that a check need not wait and ties are common."""
    rng = np.random.default_rng([len(design), int(1e5 * rate), seed])
    return (rng.integers(0, 12, 5) / 12).tolist(), (
        (rng.integers(0, 30, 5) + 16 * len(design)) / 120
    ).tolist()


# %% nbgrader={"grade": true, "grade_id": "study-choose-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_val, _ = zip(*(dice("early", rate, 100) for rate in (0.1, 0.2, 0.4)))
_got, _tops = choose(dice, "early", [0.1, 0.2, 0.4], 100), [max(v) for v in _val]
assert _got == (0.1, 0.2, 0.4)[_tops.index(max(_tops))], (
    f"the runs reach {_tops} on validation with the rates 0.1, 0.2 and 0.4; you chose {_got}"
)
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 6)
for _ in range(60):
    _rates = np.unique(_rng.integers(1, 400, int(_rng.integers(2, 6)))) / 1000
    _rates, _seed = _rng.permutation(_rates).tolist(), int(_rng.integers(INSTANCE.seed))
    _best = min(_rates, key=lambda rate: (-max(dice("gru", rate, _seed)[0]), rate))
    assert choose(dice, "gru", _rates, _seed) == _best, (
        "not the rate with the highest validation score at any epoch (the smaller one where two are equal)"
    )
### END HIDDEN TESTS

# %% [markdown]
# Now the comparison. `compare(run, rates, seeds, ruler)` gets the chosen rate of each of two designs (`rates`, a dictionary with two entries: design → rate), the seeds to report and the ruler's accuracy. It returns a dictionary:
#
# - `"scores"`: for each design (its name is the key) the list of test accuracies, one for each seed in their order, each of the epoch with the highest validation accuracy (the first if several are);
# - `"ahead"`: the pair (mean, half-width) of the 95 % t interval of the first design's score minus the second's, seed by seed;
# - `"verdict"`: the name of the design that is ahead if the interval leaves out 0, otherwise `"not separated"`;
# - `"beyond the ruler"`: the list of the designs whose accuracy is above the ruler's *on every seed*.


# %% nbgrader={"grade": false, "grade_id": "study-compare", "locked": false, "schema_version": 3, "solution": true, "task": false}
def compare(run, rates, seeds, ruler):
    """See above."""
    ### BEGIN SOLUTION
    scores = {}
    for design, rate in rates.items():
        scores[design] = []
        for seed in seeds:
            val, test = run(design, rate, seed)
            scores[design].append(test[val.index(max(val))])
    first, second = rates
    differences = np.subtract(scores[first], scores[second])
    mean = differences.mean()
    half = stats.t.ppf(0.975, len(seeds) - 1) * differences.std(ddof=1) / len(seeds) ** 0.5
    verdict = "not separated" if abs(mean) <= half else first if mean > 0 else second
    return {
        "scores": scores,
        "ahead": (mean, half),
        "verdict": verdict,
        "beyond the ruler": [design for design in rates if min(scores[design]) > ruler],
    }
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "study-compare-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_got = compare(run, {"neighbours": 0.1, "side by side": 0.1}, [0, 1, 2], ruler_accuracy())
assert set(_got) == {"scores", "ahead", "verdict", "beyond the ruler"}, (
    f"you returned the keys {sorted(_got)}"
)
assert (
    set(_got["scores"]) == {"neighbours", "side by side"} and len(_got["scores"]["neighbours"]) == 3
), "'scores' must have a list of three scores for each of the two designs"
### BEGIN HIDDEN TESTS
_rng = np.random.default_rng(INSTANCE.seed + 7)
for _trial in range(13):
    _seeds = _rng.choice(1000, int(_rng.integers(2, 6)), replace=False).tolist()
    _rates = dict(
        zip(
            _rng.permutation(["a", "bb", "ccc"])[:2].tolist(),
            (0.01 * _rng.integers(1, 50, 2)).tolist(),
        )
    )
    _how, _ruler = dice, float(0.1 + 0.6 * _rng.random())
    if _trial == 12:  # the world itself, with seeds that the visible check does not use
        _how, _ruler, _seeds = run, ruler_accuracy(), [INSTANCE.seed + i for i in range(3)]
        _rates = {"side by side": 0.03, "neighbours": 0.1}
    _got, _expected = compare(_how, _rates, _seeds, _ruler), {}
    for _design, _rate in _rates.items():
        _pairs = [list(zip(*_how(_design, _rate, s))) for s in _seeds]
        _expected[_design] = [next(t for v, t in p if v == max(v for v, _ in p)) for p in _pairs]
        assert np.allclose(_got["scores"][_design], _expected[_design]), (
            "a score is not the test accuracy of the epoch that validation likes best, seed by seed"
        )
    _a, _b = _expected.values()
    _d = np.subtract(_a, _b)
    _wide = stats.sem(_d) * stats.t(len(_seeds) - 1).isf(0.025)
    assert np.allclose(_got["ahead"], [_d.mean(), _wide]), (
        "'ahead' is not the paired t interval of the first design minus the second"
    )
    if abs(abs(_d.mean()) - _wide) > 1e-9:
        _verdict = "not separated" if abs(_d.mean()) < _wide else list(_rates)[int(_d.mean() < 0)]
        assert _got["verdict"] == _verdict, "the verdict does not follow from the interval"
    _beyond = [d for d in _rates if all(s > _ruler for s in _expected[d])]
    assert sorted(_got["beyond the ruler"]) == sorted(_beyond), (
        "a design is beyond the ruler when *every* seed is, and only then"
    )
### END HIDDEN TESTS

# %% [markdown]
# **Make the study** with your two functions: rates 0.03, 0.1 and 0.3, tuning seed 100, five seeds of your choice. *Before you run it*, write down in a cell of your own what you expect. Then **report**, in at most 250 words: (a) the prediction, and
# what would have refuted it; (b) the table: rate, mean and interval of each design, the paired difference with its interval, the ruler; (c) your reading of it: what may be said, and what may not; (d) one choice in this study that may favour one contestant, and how you would find out.
#
# | points | for |
# |---|---|
# | 2 | (a): a prediction with a number, and a refutation that could have come out |
# | 3 | (b): all five seeds, both intervals, the ruler, the number of updates; 1 off for each that is missing |
# | 2 | (c): follows the interval, says what the ruler shows about the world, and does not go beyond this world |
# | 2 | (d): a real one (equal updates but not equal parameters or multiply–adds; three rates, the best at the edge; one size of training set), with an experiment |

# %% [markdown] nbgrader={"grade": true, "grade_id": "study-why", "locked": false, "points": 9, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# (a) Predicted: "neighbours" is ahead by more than 0.05, since what decides is a relation between two frames and its first layer is made of just these, the same everywhere on the ring. Refuted if the paired interval reached below 0.05. (b) The table as `compare` prints it: five seeds a
# design, 80 updates a run, the chosen rates, means with intervals, the difference seed by seed, the ruler near one half. (c) If the interval leaves out 0: *in this world, at this size, with 80 updates* the one that shares its weights over places is ahead. The ruler at chance says that this linear sum over frames does not find the
# direction; the theorem of chapter 3 bounds the loss of such sums, not their accuracy. That a contestant far beyond it relates frames is likely; a loss below log 2 would show it. Nothing is said about real video, nor about longer training. (d) The best rate may lie at the edge of the three, so one contestant is tuned better than the other: add 1 and look whether the order holds. Or: updates are equal, parameters are not
# (110 against some four times as many): widen the smaller one.
# ### END SOLUTION
