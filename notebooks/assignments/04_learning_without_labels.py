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
temperature = draw.choice([0.1, 0.15, 0.2])
places = draw.choice([10, 12, 14])
half = places // 2
round_trip = places - 1
keeping = [
    "all places shifted by one random number for the whole clip",
    "the first frames left out",
    "reversed in time and mirrored",
    "the negative, 1 - x",
    "brightness times one random number between 0.5 and 1",
    "every frame shown twice",
    "one frame in 3 kept",
]
losing = [
    "mirrored",
    "reversed in time",
    "frames in a random order",
    "each frame shifted by a random number of its own",
    "the first frame repeated",
    f"one frame in {half} kept",
    f"one frame in {round_trip} kept",
]
asked = draw.sample(keeping, 3) + draw.sample(losing, 3)
draw.shuffle(asked)
keeps = {name: name in keeping for name in asked}
questions = "\n".join(f"- `{name}`" for name in asked)

# %% [markdown]
# # Problem set 4: Learning without labels
#
# Chapter 11. Eight tasks, 83 points. You will write the contrastive loss from its definition and as matrices, and its gradient without autograd; mend a queue, a nearest-neighbour vote and a probe that run and are wrong; measure whether a representation has collapsed; find out which
# views keep a label; and teach a network a direction without telling it any.
#
# - Write only where it says `YOUR CODE HERE` or `YOUR ANSWER HERE`, or, in tasks that say so, mend the code that is there. Add cells of your own anywhere.
# - The cells with checks are there to help you: when one raises, read its last line. When your work is graded, these checks and further ones run on shapes, seeds and types
#   of number that you have not seen. All checks of a cell must hold for its points.
# - No task needs another. Where one builds on an idea of an earlier one, the book's own version is given.
# - Do not print a lot and do not read or write files: your code is graded in a sandbox that stops it (`How to hand in`, in the book).
# - Before the deadline, run `make check-submission FILE=...` on your notebook.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math

import torch
from torch import nn
from torch.nn import functional as F

from sora_nb import objectives

# %% [markdown]
# ## 1 · Every view asks (4 + 8 points; chapter 11)
#
# NT-Xent from its definition. `first[i]` and `second[i]` are two views of clip $i$. Put all $2N$ in one list. Each in turn is the question; its partner is the right answer and the other $2N-2$ are wrong ones. The loss of a question is minus the logarithm of the
# softmax probability of the right answer, with cosines divided by the temperature for scores; return the mean over the $2N$ questions. As loops, with `math` and dot products of two vectors: no product of matrices here.


# %% nbgrader={"grade": false, "grade_id": "xent-loop", "locked": false, "schema_version": 3, "solution": true, "task": false}
def nt_xent_by_loop(first, second, temperature):
    """First and second views, (N, D) each -> a number."""
    ### BEGIN SOLUTION
    views = [v / v.norm() for v in (*first, *second)]
    n, total = len(first), 0.0
    for i, question in enumerate(views):
        partner = (i + n) % (2 * n)
        scores = {c: float(question @ views[c]) / temperature for c in range(2 * n) if c != i}
        top = max(scores.values())
        everyone = sum(math.exp(score - top) for score in scores.values())
        total += top + math.log(everyone) - scores[partner]
    return total / (2 * n)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "xent-loop-test", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
_same = torch.ones(4, 3)
_got = float(nt_xent_by_loop(_same, _same, 0.5))
assert abs(_got - math.log(7)) < 1e-4, (
    f"four clips whose views are all the same gave {_got:.3f}; all 7 answers are alike then, so log 7 = 1.946 is expected"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed)
for _n, _d, _tau in [(3, 4, 0.5), (5, 2, 0.1), (2, 6, 1.0), (4, 3, INSTANCE.temperature)]:
    _one, _two = (torch.randn(_n, _d, generator=_g, dtype=torch.float64) for _ in range(2))
    _z = F.normalize(torch.cat([_one, _two]), dim=1)
    _scores = (_z @ _z.T / _tau).fill_diagonal_(-math.inf)
    _expected = F.cross_entropy(_scores, torch.arange(2 * _n).roll(_n)).item()
    _got = float(nt_xent_by_loop(_one, _two, _tau))
    assert abs(_got - _expected) < 1e-5, "the loss is not that of the definition"
    _scaled = float(nt_xent_by_loop(5 * _one, 0.1 * _two, _tau))
    assert abs(_scaled - _expected) < 1e-5, "cosines do not know the lengths of the vectors"
### END HIDDEN TESTS

# %% [markdown]
# Now as matrices, without a loop, for training: gradients pass, the type of the numbers is kept, and at a temperature of 0.001 nothing overflows.


# %% nbgrader={"grade": false, "grade_id": "xent-fast", "locked": false, "schema_version": 3, "solution": true, "task": false}
def nt_xent(first, second, temperature):
    """First and second views, (N, D) each -> a scalar tensor."""
    ### BEGIN SOLUTION
    z = F.normalize(torch.cat([first, second]), dim=1)
    scores = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool)
    partners = torch.arange(len(z)).roll(len(first))
    return F.cross_entropy(scores.masked_fill(itself, -math.inf), partners)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "xent-fast-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_same = torch.ones(4, 3)
_got = nt_xent(_same, _same, 0.5)
assert _got.shape == (), f"the loss has the shape {tuple(_got.shape)}, expected one number"
assert abs(float(_got) - math.log(7)) < 1e-4, (
    f"views that are all the same gave {float(_got):.3f}, expected log 7"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 1)
for _n, _d, _tau in [
    (3, 4, 0.5),
    (6, 3, 0.1),
    (2, 5, 1.0),
    (1, 3, 0.2),
    (4, 3, INSTANCE.temperature),
]:
    for _dtype in (torch.float64, torch.float32):
        _a, _b = (
            [t.clone().requires_grad_() for t in pair]
            for pair in [torch.randn(2, _n, _d, generator=_g, dtype=_dtype)] * 2
        )
        _expected, _all = 0.0, [*_b[0], *_b[1]]
        for _i, _view in enumerate(_all):  # question by question
            _scores = torch.stack(
                [F.cosine_similarity(_view, v, dim=0) / _tau for c, v in enumerate(_all) if c != _i]
            )
            _right = F.cosine_similarity(_view, _all[(_i + _n) % (2 * _n)], dim=0) / _tau
            _expected = _expected + (_scores.logsumexp(0) - _right) / (2 * _n)
        _got = nt_xent(*_a, _tau)
        assert _got.shape == () and _got.dtype == _dtype, "one number of the type that came in"
        assert torch.allclose(_got, _expected, atol=1e-5), "the loss is not that of the definition"
        assert _got.requires_grad, "the gradient does not pass"
        _got.backward()
        _expected.backward()
        for _one, _two in zip(_a, _b):
            assert torch.allclose(_one.grad, _two.grad, atol=1e-4), "a gradient is wrong"
_x, _y = torch.randn(2, 5, 4, generator=_g)
assert torch.isfinite(nt_xent(_x, _y, 0.001)), "at a temperature of 0.001 the loss must be finite"
assert torch.allclose(nt_xent(_x, _y, 0.2), nt_xent(_y, _x, 0.2)), "first and second may be swapped"
### END HIDDEN TESTS

# %% [markdown]
# ## 2 · Push and pull (8 points; chapter 11)
#
# InfoNCE of queries $q_1, \dots, q_N$ and keys $k_1, \dots, k_N$, all of length 1 already: $\ell = \frac1N\sum_i -\log p_{ii}$ with $p_{ic} = \operatorname{softmax}_c(q_i^\top k_c/\tau)$. Differentiate it on paper, then return the gradients for the queries *and* for the keys, without autograd. (Take the
# vectors as they are: nothing is normalised again.)


# %% nbgrader={"grade": false, "grade_id": "push", "locked": false, "schema_version": 3, "solution": true, "task": false}
def gradients(q, k, temperature):
    """Queries and keys (N, D) -> the gradients of the loss for both, (N, D) each."""
    ### BEGIN SOLUTION
    surprise = (q @ k.T / temperature).softmax(1) - torch.eye(len(q), dtype=q.dtype)  # (N, N)
    surprise = surprise / (temperature * len(q))
    return surprise @ k, surprise.T @ q
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "push-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
_got = gradients(_q, _q, 1.0)
assert _got[0].shape == _got[1].shape == (2, 2), "expected two gradients of the shape (2, 2)"
_wrong = 1 / (1 + math.e) / 2  # the probability of the one wrong answer, over N
assert torch.allclose(_got[0], _wrong * torch.tensor([[-1.0, 1.0], [1.0, -1.0]]), atol=1e-4), (
    f"two orthogonal pairs at temperature 1: the gradient for the queries is {_got[0].tolist()}"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 2)
for _n, _d, _tau in [(4, 3, 0.5), (7, 5, INSTANCE.temperature), (2, 6, 1.0), (1, 3, 0.3)]:
    _q, _k = F.normalize(torch.randn(2, _n, _d, generator=_g, dtype=torch.float64), dim=2)
    _a, _b = _q.clone().requires_grad_(), _k.clone().requires_grad_()
    _expected = torch.autograd.grad(F.cross_entropy(_a @ _b.T / _tau, torch.arange(_n)), (_a, _b))
    _got = gradients(_q, _k, _tau)
    assert torch.allclose(_got[0], _expected[0]), "the gradient for the queries is wrong"
    assert torch.allclose(_got[1], _expected[1]), "the gradient for the keys is wrong"
### END HIDDEN TESTS

# %% [markdown]
# ## 3 · Find the bug: a queue of keys (10 points; chapter 11)
#
# One step of MoCo, with linear encoders so that you see everything. In this order: the slow weights trail behind the fast ones; the keys are made with the *new* slow weights; each query is asked against its own key and the whole queue *as it was*; then the new keys go to the front of the queue and the oldest drop
# off its end. Queries and keys have length 1, and so has what is in the queue. No gradient flows into keys or slow weights. It runs, the loss falls, and there is **one mistake** in it. Mend it.


# %% nbgrader={"grade": false, "grade_id": "queue", "locked": false, "schema_version": 3, "solution": true, "task": false}
def moco_step(x_q, x_k, w_fast, w_slow, queue, momentum, temperature):
    """Two views (N, D_in), weights (D, D_in), queue (K, D) -> loss, new slow weights, new queue."""
    # BUG reversed: w_slow = ((1 - momentum) * w_slow + momentum * w_fast).detach()
    # BUG leak: w_slow = momentum * w_slow + (1 - momentum) * w_fast
    # BUG frozen: w_slow = w_slow.detach()
    w_slow = (momentum * w_slow + (1 - momentum) * w_fast).detach()
    # BUG long: q = x_q @ w_fast.T
    q = F.normalize(x_q @ w_fast.T, dim=1)
    # BUG fast: k = F.normalize(x_k @ w_fast.detach().T, dim=1)
    k = F.normalize(x_k @ w_slow.T, dim=1)
    # BUG early: wrong = q @ torch.cat([k, queue])[: len(queue)].T
    # BUG batch: wrong = (q @ k.T).masked_fill(torch.eye(len(q), dtype=torch.bool), -1.0)
    # BUG empty: wrong = q @ queue[len(q) :].T
    wrong = q @ queue.T
    # BUG cold: logits = torch.cat([(q * k).sum(1, keepdim=True), wrong / temperature], 1)
    logits = torch.cat([(q * k).sum(1, keepdim=True), wrong], 1) / temperature
    # BUG diagonal: loss = F.cross_entropy(logits, torch.arange(len(q)))
    loss = F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))
    # BUG newest: return loss, w_slow, torch.cat([k, queue])[-len(queue) :]
    return loss, w_slow, torch.cat([k, queue])[: len(queue)]


# %% nbgrader={"grade": true, "grade_id": "queue-test", "locked": true, "points": 10, "schema_version": 3, "solution": false, "task": false}
_g = torch.Generator().manual_seed(0)
_x, _queue = torch.randn(2, 3, 5, generator=_g), F.normalize(torch.randn(8, 4, generator=_g), dim=1)
_fast, _slow = torch.randn(2, 4, 5, generator=_g)
_loss, _new, _after = moco_step(*_x, _fast, _slow, _queue, 0.9, 0.2)
assert _loss.shape == () and _new.shape == (4, 5), (
    "the loss is one number, the slow weights keep their shape"
)
assert _after.shape == _queue.shape, (
    f"the queue had the shape (8, 4) and has {tuple(_after.shape)} now"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 3)
for _n, _d_in, _d, _size, _m, _tau in [
    (3, 5, 4, 9, 0.9, 0.2),
    (2, 3, 3, 4, 0.99, INSTANCE.temperature),
    (4, 6, 2, 12, 0.7, 1.0),
]:
    _x_q, _x_k = torch.randn(2, _n, _d_in, generator=_g, dtype=torch.float64)
    _fast, _slow = torch.randn(2, _d, _d_in, generator=_g, dtype=torch.float64)
    _queue = F.normalize(torch.randn(_size, _d, generator=_g, dtype=torch.float64), dim=1)
    _a, _b = _fast.clone().requires_grad_(), _fast.clone().requires_grad_()
    _loss, _new, _after = moco_step(_x_q, _x_k, _a, _slow, _queue, _m, _tau)
    assert torch.allclose(_new, _slow + (1 - _m) * (_fast - _slow)), (
        "the slow weights must move to the fast ones by the share 1 - momentum"
    )
    _keys = F.normalize(_x_k @ (_slow + (1 - _m) * (_fast - _slow)).T, dim=1)
    assert torch.allclose(_after[:_n], _keys), (
        "the new keys, made with the new slow weights, must stand at the front of the queue"
    )
    assert torch.allclose(_after[_n:], _queue[: _size - _n]), (
        "the oldest keys must drop off the end"
    )
    _expected = 0.0
    for _i in range(_n):
        _question = _b @ _x_q[_i]
        _question = _question / _question.norm()
        _scores = torch.stack([_question @ key for key in (_keys[_i], *_queue)]) / _tau
        _expected = _expected + (_scores.logsumexp(0) - _scores[0]) / _n
    assert torch.allclose(_loss, _expected), (
        "the loss is not that of each query against its own key and the queue as it was"
    )
    _loss.backward()
    _expected.backward()
    assert torch.allclose(_a.grad, _b.grad), "the gradient is wrong: none may flow into the keys"
    assert not _new.requires_grad and not _after.requires_grad, (
        "slow weights and queue must not carry a gradient into the next step"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 4 · Find the bug: ask the neighbours (8 points; chapter 11)
#
# The protocol of the chapter: each test clip gets the class for which its $k$ nearest training clips vote, by cosine; a vote weighs $\exp(\cos/0.07)$. It runs, it is far above chance, and there is **one mistake** in it. Mend it.


# %% nbgrader={"grade": false, "grade_id": "near", "locked": false, "schema_version": 3, "solution": true, "task": false}
def neighbours(train, labels, test, k, classes):
    """Training features (N, D), their labels (N), test features (M, D) -> predicted classes (M)."""
    # BUG axis: train, test = F.normalize(train, dim=0), F.normalize(test, dim=0)
    # BUG long: train, test = train / train.norm(dim=1).mean(), test / test.norm(dim=1).mean()
    train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
    cosines = test @ train.T  # (M, N)
    # BUG skipped: near = cosines.topk(k + 1, dim=1).indices[:, 1:]
    # BUG far: near = cosines.topk(k, dim=1, largest=False).indices
    # BUG one: near = cosines.topk(1, dim=1).indices.expand(-1, k)
    near = cosines.topk(k, dim=1).indices  # (M, k)
    # BUG equal: votes = torch.ones_like(near, dtype=cosines.dtype)
    # BUG distance: votes = torch.exp((1 - cosines.gather(1, near)) / 0.07)
    votes = torch.exp(cosines.gather(1, near) / 0.07)
    # BUG largest: tally = torch.zeros(len(test), classes, dtype=votes.dtype).scatter_reduce(1, labels[near], votes, "amax")
    tally = torch.zeros(len(test), classes, dtype=votes.dtype).scatter_add(1, labels[near], votes)
    # BUG mean: return (tally / F.one_hot(labels[near], classes).sum(1).clamp(min=1)).argmax(1)
    return tally.argmax(1)


# %% nbgrader={"grade": true, "grade_id": "near-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_train = torch.tensor([[1.0, 0.0], [3.0, 0.3], [0.0, 2.0], [-0.1, 1.0]])
_got = neighbours(_train, torch.tensor([0, 0, 1, 1]), torch.tensor([[5.0, 1.0], [0.2, 0.3]]), 2, 2)
assert _got.shape == (2,), (
    f"two test clips need two classes, you gave the shape {tuple(_got.shape)}"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 4)
for _n, _m, _d, _k, _classes in [
    (60, 80, 3, 7, 3),
    (40, 60, 2, 5, 4),
    (30, 50, 5, 1, 3),
    (80, 80, 4, 20, 2),
]:
    _train, _test = (
        torch.randn(n, _d, generator=_g, dtype=torch.float64)
        * (0.2 + 3 * torch.rand(n, 1, generator=_g, dtype=torch.float64))
        for n in (_n, _m)
    )
    _labels = torch.randint(0, _classes, (_n,), generator=_g)
    _got = torch.as_tensor(neighbours(_train, _labels, _test, _k, _classes)).long()
    for _i in range(_m):
        _cos = F.cosine_similarity(_test[_i], _train, dim=1)
        _for = [0.0] * _classes
        for _j in _cos.argsort(descending=True)[:_k].tolist():
            _for[int(_labels[_j])] += math.exp(float(_cos[_j]) / 0.07)
        assert int(_got[_i]) == _for.index(max(_for)), (
            "a clip does not get the class for which its k nearest by cosine vote, with weights exp(cos/0.07)"
        )
### END HIDDEN TESTS

# %% [markdown]
# ## 5 · Find the bug: an honest probe (8 points; chapter 11)
#
# A linear probe on frozen features: standardise by the *training* features; for each strength fit a ridge classifier on the training set; take the strength that is best on the *validation* set (the first of them in a tie); answer for the test features. The answer for one test clip may not depend on the other test clips. It runs,
# its accuracy looks fine, and there is **one mistake** in it. Mend it.


# %% nbgrader={"grade": false, "grade_id": "probe", "locked": false, "schema_version": 3, "solution": true, "task": false}
def probe(train, train_labels, val, val_labels, test, strengths):
    """Features (N, D) and labels (N) of three splits, no test labels -> predicted test classes."""
    known = train
    # BUG all: known = torch.cat([train, val, test])
    mean, std = known.mean(0), known.std(0) + 1e-6
    x, x_val = (train - mean) / std, (val - mean) / std
    # BUG apart: x_test = (test - test.mean(0)) / (test.std(0) + 1e-6)
    # BUG raw: x_test = test
    x_test = (test - mean) / std
    x, x_val, x_test = (F.pad(part, (0, 1), value=1.0) for part in (x, x_val, x_test))
    targets, best, answer = F.one_hot(train_labels).to(x.dtype), -1.0, None
    for strength in strengths:
        # BUG weak: w = torch.linalg.solve(x.T @ x + strength, x.T @ targets)
        ridge = strength * torch.eye(x.shape[1], dtype=x.dtype)
        w = torch.linalg.solve(x.T @ x + ridge, x.T @ targets)
        # BUG known: right = ((x @ w).argmax(1) == train_labels).double().mean().item()
        right = ((x_val @ w).argmax(1) == val_labels).double().mean().item()
        # BUG last: if answer is None or strength == strengths[-1]:
        # BUG worst: if answer is None or right < best:
        # BUG late: if right >= best:
        if right > best:
            best, answer = right, (x_test @ w).argmax(1)
    return answer


# %% nbgrader={"grade": true, "grade_id": "probe-test", "locked": true, "points": 8, "schema_version": 3, "solution": false, "task": false}
_g = torch.Generator().manual_seed(0)
_labels = torch.arange(3).repeat(20)
_x = F.one_hot(_labels, 3).float() + 0.3 * torch.randn(60, 3, generator=_g)
_got = probe(_x, _labels, _x, _labels, _x[:6], [1.0])
assert _got.shape == (6,), f"six test clips, and the answer has the shape {tuple(_got.shape)}"


### BEGIN HIDDEN TESTS
def _features(n, d, classes, g):
    labels = torch.arange(n) % classes
    x = 3.0 + 2.0 * torch.randn(n, d, generator=g, dtype=torch.float64)
    x[:, :classes] += 1.6 * F.one_hot(labels, classes)
    return x * torch.logspace(-1, 1, d, dtype=torch.float64), labels


def _expected(train, labels, val, val_labels, test, strengths):
    middle, spread = train.mean(0), train.std(0) + 1e-6
    rows = [
        torch.cat([(p - middle) / spread, torch.ones(len(p), 1)], 1) for p in (train, val, test)
    ]
    answers, scores = [], []
    for strength in strengths:  # ridge as least squares with rows of its own
        more = strength**0.5 * torch.eye(rows[0].shape[1], dtype=torch.float64)
        aims = torch.cat(
            [F.one_hot(labels).double(), torch.zeros(len(more), int(labels.max()) + 1)]
        )
        w = torch.linalg.lstsq(torch.cat([rows[0], more]), aims).solution
        scores.append(int(((rows[1] @ w).argmax(1) == val_labels).sum()))
        answers.append((rows[2] @ w).argmax(1))
    return answers[scores.index(max(scores))]


_g = torch.Generator().manual_seed(INSTANCE.seed + 5)
_strengths = [0.01, 1.0, 1.0001, 30.0, 300.0, 3000.0]
for _n, _d, _classes in [(48, 30, 3), (60, 45, 4), (40, 12, 2)] * 2:
    _parts = [t for size in (_n, 90) for t in _features(size, _d, _classes, _g)]
    _test = _features(200, _d, _classes, _g)[0][: int(torch.randint(60, 200, (), generator=_g))]
    _got = torch.as_tensor(probe(*_parts, _test, _strengths))
    assert (_got == _expected(*_parts, _test, _strengths)).all(), (
        "the answers are not those of the strength that is best on validation, on features standardised by the training set"
    )
    _few = _test[torch.randperm(len(_test), generator=_g)[:5]] * 1.0
    _got = torch.as_tensor(probe(*_parts, _few, _strengths))
    assert (_got == _expected(*_parts, _few, _strengths)).all(), (
        "the answer for a clip depends on the other clips of the test set"
    )
_train, _pool, _asked = (_features(n, 45, 4, _g) for n in (60, 200, 200))
_two = [_expected(*_train, *_pool, _pool[0], [s]) == _pool[1] for s in (0.01, 3000.0)]
_val = [part[_two[0] & _two[1]][:6] for part in _pool]  # both strengths are right on these
for _order in ([0.01, 3000.0], [3000.0, 0.01]):
    _got = torch.as_tensor(probe(*_train, *_val, _asked[0], _order))
    assert (_got == _expected(*_train, *_val, _asked[0], _order)).all(), (
        "of two strengths that are equally good on validation the first must be taken"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 6 · Signs of life (5 + 6 points; chapter 11)
#
# Two numbers from the projections of a batch, all vectors scaled to length 1 first. **Alignment**: the mean over clips of the squared distance of its two views. **Uniformity** of the *first* views: the logarithm of the mean of $e^{-2\lVert z_i - z_j\rVert^2}$ over all pairs $i \ne j$.


# %% nbgrader={"grade": false, "grade_id": "signs-two", "locked": false, "schema_version": 3, "solution": true, "task": false}
def alignment_and_uniformity(first, second):
    """First and second views (N, D) -> two numbers."""
    ### BEGIN SOLUTION
    z, partners = F.normalize(first, dim=1), F.normalize(second, dim=1)
    alike = (z - partners).square().sum(1).mean()
    return alike, torch.pdist(z).square().mul(-2).exp().mean().log()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "signs-two-test", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
_z = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
_got = [float(v) for v in alignment_and_uniformity(_z, _z.flip(0))]
assert abs(_got[0] - 2) < 1e-4 and abs(_got[1] + 4) < 1e-4, (
    f"two directions at right angles, partners swapped, gave {_got}; the squared distance is 2 everywhere, so [2, -4] is expected"
)
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 6)
for _n, _d in [(5, 3), (12, 4), (2, 2), (30, 6)]:
    _one, _two = (torch.randn(_n, _d, generator=_g, dtype=torch.float64) for _ in range(2))
    _got = [float(v) for v in alignment_and_uniformity(_one, 3 * _two)]
    _near, _pairs = 0.0, []
    for _i in range(_n):
        _near += 2 - 2 * float(F.cosine_similarity(_one[_i], _two[_i], dim=0))
        _pairs += [
            math.exp(4 * float(F.cosine_similarity(_one[_i], _one[j], dim=0)) - 4)
            for j in range(_n)
            if j != _i
        ]
    assert abs(_got[0] - _near / _n) < 1e-5, (
        "alignment is not the mean squared distance of partners"
    )
    assert abs(_got[1] - math.log(sum(_pairs) / len(_pairs))) < 1e-5, (
        "uniformity is not that of all pairs of different clips"
    )
_one = torch.randn(1, 4, generator=_g).expand(6, -1) * torch.rand(6, 1, generator=_g)
_got = [float(v) for v in alignment_and_uniformity(_one, _one)]
assert abs(_got[0]) < 1e-5 and abs(_got[1]) < 1e-4, (
    "a collapsed batch has alignment 0 and uniformity 0"
)
### END HIDDEN TESTS

# %% [markdown]
# The **effective rank** says along how many directions the batch is spread: subtract the mean vector, take the singular values, turn them into shares that add up to 1, and return $\exp$ of the entropy of these shares ($0\log 0$ counts as 0). No scaling to length 1 here.


# %% nbgrader={"grade": false, "grade_id": "signs-rank", "locked": false, "schema_version": 3, "solution": true, "task": false}
def effective_rank(z):
    """Vectors (N, D) -> a number from 1 to min(N - 1, D)."""
    ### BEGIN SOLUTION
    values = torch.linalg.svdvals(z - z.mean(0))
    shares = values / values.sum()
    return torch.special.entr(shares).sum().exp()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "signs-rank-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_square = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
for _z, _expected in [(_square, 2.0), (torch.arange(5.0)[:, None] * torch.ones(1, 3), 1.0)]:
    _got = float(effective_rank(_z + 7))
    assert abs(_got - _expected) < 1e-2, (
        f"{_z.tolist()}, moved by 7, gave an effective rank of {_got:.3f}, expected {_expected:.0f}"
    )
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 7)
for _n, _d in [(9, 4), (20, 6), (5, 8), (12, 12)]:
    _z = torch.randn(_n, _d, generator=_g, dtype=torch.float64)
    _z = _z * torch.logspace(0, -2, _d, dtype=torch.float64)
    _got = float(effective_rank(_z))
    _centered = _z - _z.mean(0)
    _values = torch.linalg.eigvalsh(_centered @ _centered.T).clamp(min=0).sqrt()
    _entropy = -sum(
        float(v / _values.sum() * (v / _values.sum()).log()) for v in _values if v > 1e-12
    )
    assert abs(_got - math.exp(_entropy)) < 1e-3, (
        "it is not exp of the entropy of the values' shares"
    )
    _moved = _z * 30 - torch.randn(_d, generator=_g, dtype=torch.float64)
    assert abs(float(effective_rank(_moved)) - _got) < 1e-4, (
        "it may not depend on the scale or the middle"
    )
    _turn = torch.linalg.qr(torch.randn(_d, _d, generator=_g, dtype=torch.float64)).Q
    assert abs(float(effective_rank(_z @ _turn)) - _got) < 1e-4, "a rotation may not change it"
for _r in (1, 3, 5):
    _flat = torch.linalg.qr(torch.randn(11, _r + 1, generator=_g, dtype=torch.float64)).Q
    _flat = torch.linalg.qr(_flat - _flat.mean(0)).Q[:, :_r]
    _flat = F.pad(torch.linalg.qr(_flat - _flat.mean(0)).Q, (0, 3))
    _got = float(effective_rank(_flat))
    assert math.isfinite(_got), "directions with no spread at all must not make it not-a-number"
    assert abs(_got - _r) < 1e-4, "an even spread along r directions has an effective rank of r"
### END HIDDEN TESTS

# %% [markdown]
# ## 7 · Predict, run, explain: which views keep the label? (6 + 8 points; chapter 11)
#
# A toy video: a ring of INSTANCE.places places, a bright spot that walks one place a frame, right or left, for 40 frames; it starts anywhere. The label is the direction. A **view** keeps the label if in *every* viewed clip the spot moves, and each time it does (by the shorter way round, from frame to frame; it may rest between) it goes in the direction it had.
#
# INSTANCE.questions
#
# ("Mirrored" is place $p$ become place INSTANCE.round_trip − $p$; "one frame in $n$ kept" keeps the frames 0, $n$, 2$n$, …; random numbers are drawn anew for each clip.) **Predict** first, on paper. Then **run** it: make such clips and their views in a cell of your own. Enter what is true as a dictionary `keeps` whose keys are the six names, spelled as above: `True` for a view that keeps
# the label.

# %% nbgrader={"grade": false, "grade_id": "views", "locked": false, "schema_version": 3, "solution": true, "task": false}
### BEGIN SOLUTION
keeps = INSTANCE.keeps
### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "views-test", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
_asked = INSTANCE.asked
assert isinstance(keeps, dict) and set(keeps) == set(_asked), (
    f"'keeps' must be a dictionary with these six keys, spelled as here: {_asked}"
)
assert all(isinstance(v, bool) for v in keeps.values()), "each value must be True or False"
### BEGIN HIDDEN TESTS
_g = torch.Generator().manual_seed(INSTANCE.seed + 8)
_p = INSTANCE.places


def _any(high):
    return int(torch.randint(high, (), generator=_g))


_views = {
    "all places shifted by one random number for the whole clip": lambda x: x.roll(_any(_p), 1),
    "the first frames left out": lambda x: x[1 + _any(9) :],
    "reversed in time and mirrored": lambda x: x.flip(0, 1),
    "the negative, 1 - x": lambda x: 1 - x,
    "brightness times one random number between 0.5 and 1": lambda x: x * (0.5 + 0.05 * _any(11)),
    "every frame shown twice": lambda x: x.repeat_interleave(2, 0),
    "one frame in 3 kept": lambda x: x[::3],
    "mirrored": lambda x: x.flip(1),
    "reversed in time": lambda x: x.flip(0),
    "frames in a random order": lambda x: x[torch.randperm(len(x), generator=_g)],
    "each frame shifted by a random number of its own": lambda x: torch.stack(
        [frame.roll(_any(_p), 0) for frame in x]
    ),
    "the first frame repeated": lambda x: x[:1].expand_as(x),
    f"one frame in {INSTANCE.half} kept": lambda x: x[:: INSTANCE.half],
    f"one frame in {INSTANCE.round_trip} kept": lambda x: x[:: INSTANCE.round_trip],
}


def _direction(x):
    """1 or -1 if the spot always walks that way (or rests), else 0."""
    x = (x - x.mean(1, keepdim=True)).abs()  # the spot stands out, bright or dark
    steps = (x.argmax(1).diff() + _p // 2) % _p - _p // 2
    steps = steps[steps != 0]
    return (
        int(steps[0].sign())
        if len(steps) and (steps.sign() == steps[0].sign()).all() and (2 * steps.abs() != _p).all()
        else 0
    )


for _name, _answer in keeps.items():
    _right = True
    for _ in range(12):
        for _way in (1, -1):
            _clip = F.one_hot((_any(_p) + _way * torch.arange(40)) % _p, _p).double()
            _right &= _direction(_views[_name](_clip)) == _way
    assert _right == _answer, "not all six are right: try each on clips of both directions"
### END HIDDEN TESTS

# %% [markdown]
# **Explain**, in at most 200 words. (a) A network is pretrained with two random views of each clip. Why does a view that loses the label destroy what you want, although no label is used? (b) Mirroring half of the views loses left and right. What would the network still learn of the twelve motions of the motion set?
# Give a task for which this view is right. (c) A colleague drops frames to save time and keeps one in five. What should you ask about the fastest motion in the clips?
#
# | points | for |
# |---|---|
# | 3 | (a): the loss rewards what two views of one clip share, 1, and pays for throwing away what differs between them, 2 |
# | 3 | (b): left and right become one class, and so do other pairs that a mirror exchanges, such as the two turns, 1; up, down, shrink, grow stay, 1; a task that does not ask for the direction, 1 |
# | 2 | (c): whether anything moves, or repeats, faster than half a turn (or half its period) between the frames kept: then it seems to stand or to run backwards |

# %% [markdown] nbgrader={"grade": true, "grade_id": "views-why", "locked": false, "points": 8, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# (a) Two views of one clip must come out alike, and views of other clips different. If one view shows the spot walking left and the other right, the only way to make them alike is to ignore the direction. Whatever differs between partners is noise to the loss, and throwing it away is rewarded; whatever they share is worth keeping. So the choice of views *is* the
# teaching. (b) A mirror exchanges left with right and the two ways to turn; the network learns each of these pairs as one class. Up and down, shrink and grow, vanish and appear are untouched by a mirror and remain. For "does something move sideways?", or for naming the digit's motion regardless of side, or for scenes where left and right mean nothing, it is the right view: it doubles the data.
# (c) How far does the fastest thing move, or what is the shortest period, between the frames that are kept? Above half a period per kept frame a periodic motion looks slower, still, or backwards: the label is lost before the network sees the clip, and no loss can bring it back.
# ### END SOLUTION

# %% [markdown]
# ## 8 · Measure: a direction nobody named (12 points; chapter 11)
#
# The same ring, four frames, with noise. `teach` trains a small network with NT-Xent on two views of each of 1,024 clips, without labels; `view` is all that you decide. Then come a few labels: for each of 200 new clips the five nearest of 200 labelled ones vote. The catch: the labelled clips start in the first half of the ring, the new ones in the other. Without a
# view worth the name the network learns *where* the spot walks, and the neighbours are no help.
#
# Write `view`, which makes a random view of each clip of a batch $(n, 4, \text{INSTANCE.places})$; all that is random must follow from `seed`, which is another one at every call. The accuracy should be at least **0.9** for every seed. A run takes about half a second of processor time.


# %% nbgrader={"grade": false, "grade_id": "teach-world", "locked": true, "schema_version": 3, "solution": false, "task": false}
def walks(n, seed, start=0, stop=INSTANCE.places):
    """Clips (n, 4, places) of a spot that starts in a stretch of the ring, and directions (n): 1 is right."""
    g = torch.Generator().manual_seed(seed)
    first = torch.randint(start, stop, (n, 1), generator=g)
    labels = torch.randint(0, 2, (n,), generator=g)
    at = (first + (2 * labels[:, None] - 1) * torch.arange(4)) % INSTANCE.places
    spots = F.one_hot(at, INSTANCE.places)
    return spots + 0.12 * torch.randn(spots.shape, generator=g), labels


def relations(clips):
    """What the network reads: products of all places of neighbouring frames, summed over time: (n, places²)."""
    return torch.einsum("ntp,ntq->npq", clips[:, :-1], clips[:, 1:]).flatten(1)


def teach(view, seed):
    """Accuracy of the five nearest neighbours after training on views without labels."""
    torch.manual_seed(seed)
    g, (clips, _) = torch.Generator().manual_seed(seed), walks(1024, seed + 1)
    network = nn.Sequential(nn.Linear(INSTANCE.places**2, 64), nn.ReLU(), nn.Linear(64, 8))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(120):
        batch = clips[torch.randint(len(clips), (128,), generator=g)]
        draws = torch.randint(2**31, (2,), generator=g).tolist()
        views = (torch.as_tensor(view(batch, draw)).float() for draw in draws)
        first, second = (network(relations(part)) for part in views)
        optimizer.zero_grad()
        objectives.nt_xent(first, second, 0.2).backward()
        optimizer.step()
    known, labels = walks(200, seed + 2, 0, INSTANCE.half)
    new, truth = walks(200, seed + 3, INSTANCE.half, INSTANCE.places)
    with torch.no_grad():
        h, h_new = (F.normalize(network(relations(part)), dim=1) for part in (known, new))
    votes = labels[(h_new @ h.T).topk(5).indices].float().mean(1)
    return ((votes > 0.5).long() == truth).float().mean().item()


# %% nbgrader={"grade": false, "grade_id": "teach", "locked": false, "schema_version": 3, "solution": true, "task": false}
def view(clips, seed):
    """Clips (n, 4, places) -> a random view of each, of the same shape."""
    ### BEGIN SOLUTION
    g = torch.Generator().manual_seed(seed)
    shift = torch.randint(clips.shape[2], (len(clips), 1, 1), generator=g)
    places = (torch.arange(clips.shape[2]) + shift) % clips.shape[2]
    return clips.gather(2, places.expand(-1, clips.shape[1], -1))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "teach-test", "locked": true, "points": 12, "schema_version": 3, "solution": false, "task": false}
_got = teach(view, 0)
assert _got >= 0.9, (
    f"with your view the accuracy is {_got:.2f}, asked for are 0.90; without a view it is near one half"
)
### BEGIN HIDDEN TESTS
for _seed in range(INSTANCE.seed, INSTANCE.seed + 2):
    assert teach(view, _seed) >= 0.9, "the accuracy is below 0.9 for another seed"
### END HIDDEN TESTS
