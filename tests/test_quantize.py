import math

import pytest
import torch
from safetensors.torch import load, save

from sora_nb.layers.quantize import (
    ProductQuantizer,
    VectorQuantizer,
    kmeans,
    nearest_code,
    perplexity,
    usage,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def started(codes=4, dim=3, **options):
    quantizer = VectorQuantizer(dim, codes, **options)
    quantizer.initialise(codebook=torch.randn(codes, dim))
    return quantizer


def blobs(n=400, spread=0.1):
    """Vectors around four far centres, and which centre each belongs to."""
    centers = torch.tensor([[3.0, 0], [-3, 0], [0, 3], [0, -3]])
    member = torch.arange(n) % 4
    return centers[member] + spread * torch.randn(n, 2), member


def test_nearest_code_equals_a_loop():
    x, codebook = torch.randn(6, 5, 3), torch.randn(7, 3)
    codes = nearest_code(x, codebook)
    for i in range(6):
        for j in range(5):
            assert codes[i, j] == min(range(7), key=lambda k: (x[i, j] - codebook[k]).norm().item())


def test_forward_equals_a_loop():
    quantizer, x = started(commitment=0.4).eval(), torch.randn(2, 5, 3)
    out = quantizer(x)
    error = 0.0
    for b in range(2):
        for t in range(5):
            row = quantizer.codebook[out.codes[b, t]]
            torch.testing.assert_close(out.vectors[b, t], row)
            error += (x[b, t] - row).square().sum().item()
    assert out.loss.item() == pytest.approx(0.4 * error / 30)


def test_gradient_passes_straight_through():
    quantizer, x = started(), torch.randn(2, 5, 3, requires_grad=True)
    weight = torch.randn(2, 5, 3)
    (gradient,) = torch.autograd.grad((quantizer(x).vectors * weight).sum(), x)
    torch.testing.assert_close(gradient, weight)


def test_commitment_pulls_features_towards_their_codes_only():
    quantizer, x = started().eval(), torch.randn(4, 3, requires_grad=True)
    out = quantizer(x)
    (gradient,) = torch.autograd.grad(out.loss, x)
    torch.testing.assert_close(gradient, 0.25 * 2 * (x - quantizer.codebook[out.codes]) / x.numel())
    assert not list(quantizer.parameters())


def test_update_equals_the_equations():
    quantizer = started(decay=0.9, restart=0.0)
    x = torch.randn(20, 3)
    count, total, codebook = (b.clone() for b in (quantizer.count, quantizer.total, quantizer.codebook))
    codes = quantizer(x).codes
    for k in range(4):
        count[k] = 0.9 * count[k] + 0.1 * (codes == k).sum()
        total[k] = 0.9 * total[k] + 0.1 * x[codes == k].sum(0)
    everyone = count.sum()
    for k in range(4):
        codebook[k] = total[k] / ((count[k] + 1e-5) / (everyone + 4 * 1e-5) * everyone)
    torch.testing.assert_close(quantizer.count, count)
    torch.testing.assert_close(quantizer.total, total)
    torch.testing.assert_close(quantizer.codebook, codebook)


def test_without_memory_a_code_is_the_mean_of_the_batch():
    quantizer, x = started(codes=1, decay=0.0), torch.randn(20, 3)
    quantizer(x)
    torch.testing.assert_close(quantizer.codebook[0], x.mean(0))


def test_codes_converge_to_cluster_means():
    x, member = blobs()
    quantizer = VectorQuantizer(2, 4, decay=0.9)
    quantizer.initialise(codebook=torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]))
    for _ in range(100):
        quantizer(x)
    means = torch.stack([x[member == k].mean(0) for k in range(4)])
    torch.testing.assert_close(quantizer.codebook, means, atol=1e-3, rtol=0)


def test_kmeans_finds_the_blobs():
    x, member = blobs()
    centers = kmeans(x, 16)  # more centres than blobs, so that each blob gets some
    assert (x - centers[nearest_code(x, centers)]).square().mean() < 0.05**2 * 2
    torch.testing.assert_close(
        kmeans(x[:4], 4).sort(0).values, x[:4].sort(0).values
    )  # a row each: nothing moves


def test_kmeans_keeps_a_center_that_loses_its_rows():
    assert kmeans(torch.ones(8, 2), 4).eq(1).all()  # all rows alike: one centre takes them all


def test_a_dead_code_restarts_on_the_data():
    quantizer = started(decay=0.9)
    lost = quantizer.codebook[2] = torch.full((3,), 50.0)
    quantizer.total[2] = lost
    for _ in range(60):
        x = torch.randn(64, 3)
        quantizer(x)
    assert quantizer.codebook.abs().max() < 5
    assert usage(quantizer.eval()(torch.randn(500, 3)).codes, 4) == 1


def test_without_restart_a_dead_code_stays_dead_but_finite():
    quantizer = started(decay=0.9, restart=0.0)
    quantizer.initialise(codebook=torch.tensor([[50.0] * 3, [0.0] * 3, [1.0] * 3, [-1.0] * 3]))
    for _ in range(20):
        quantizer(torch.randn(64, 3))
    assert usage(quantizer.eval()(torch.randn(500, 3)).codes, 4) == 0.75
    quantizer.count[0] = 0  # nobody for so long that the average is zero: smoothing must carry the division
    quantizer.train()(torch.randn(64, 3))
    assert quantizer.codebook.isfinite().all()


def test_a_restarted_code_starts_with_an_equal_share():
    quantizer, x = started(), torch.randn(1, 3)
    quantizer.count.copy_(torch.tensor([4.0, 4.0, 0.01, 0.01]))
    quantizer.restart_dead(x)  # one vector, so one of the two restarts
    torch.testing.assert_close(quantizer.codebook[2], x[0])
    torch.testing.assert_close(quantizer.total[2] / quantizer.count[2], x[0])
    assert quantizer.count[2] == pytest.approx(8.02 / 4) and quantizer.count[3] == pytest.approx(0.01)


def test_evaluation_does_not_learn():
    quantizer, x = started().eval(), torch.randn(20, 3)
    before = {name: buffer.clone() for name, buffer in quantizer.state_dict().items()}
    first, second = quantizer(x), quantizer(x)
    assert all(torch.equal(before[name], buffer) for name, buffer in quantizer.state_dict().items())
    assert torch.equal(first.codes, second.codes) and torch.equal(first.vectors, second.vectors)


def test_loading_keeps_the_codebook():
    quantizer, copy = started(), VectorQuantizer(3, 4)
    assert quantizer.initialised and not copy.initialised
    copy.load_state_dict(load(save(quantizer.state_dict())))  # as safetensors keep it: tensors only
    assert copy.initialised
    x = torch.randn(20, 3)
    assert torch.equal(copy.train()(x).codes, quantizer.train()(x).codes)
    assert torch.equal(copy.codebook, quantizer.codebook)


def product(groups=3):
    quantizer = ProductQuantizer(6, 5, groups, commitment=0.4)
    quantizer.initialise(codebook=torch.randn(groups, 5, 6 // groups))
    return quantizer


def test_a_product_code_quantizes_each_part_by_itself():
    quantizer, x = product().eval(), torch.randn(2, 7, 6, requires_grad=True)
    out = quantizer(x)
    for g, part in enumerate(x.chunk(3, -1)):
        codes = nearest_code(part, quantizer.codebook[g])
        assert torch.equal(out.codes[..., g], codes) and torch.equal(quantizer.codes(x)[..., g], codes)
        torch.testing.assert_close(out.vectors[..., 2 * g : 2 * g + 2], quantizer.codebook[g][codes])
    torch.testing.assert_close(out.loss, 0.4 * (x - out.vectors).detach().square().mean())
    (gradient,) = torch.autograd.grad(out.vectors.sum(), x)
    assert gradient.eq(1).all()


def test_a_product_code_of_one_group_is_a_vector_quantizer():
    one, plain, x = product(1), VectorQuantizer(6, 5, commitment=0.4), torch.randn(30, 6)
    plain.initialise(codebook=one.codebook[0])
    ours, theirs = one(x), plain(x)
    torch.testing.assert_close(ours.vectors, theirs.vectors)
    assert torch.equal(ours.codes[..., 0], theirs.codes) and torch.equal(ours.loss, theirs.loss)
    torch.testing.assert_close(one.codebook[0], plain.codebook)  # both have learned the same


def test_a_product_code_learns_from_its_part_of_the_features():
    quantizer = ProductQuantizer(4, 4, 2)
    assert not quantizer.initialised
    x = torch.cat([blobs(400, 0.05)[0], 10 * blobs(400, 0.05)[0].flip(0)], -1)
    quantizer.initialise(x)
    assert quantizer.initialised
    assert quantizer.codebook[0].abs().max() < 4 < 25 < quantizer.codebook[1].abs().max()


def test_kmeans_looks_at_a_sample_of_many_rows():
    x = torch.cat([torch.zeros(5000, 2), torch.ones(5000, 2)])
    centers = kmeans(x, 8, sample=50)
    assert centers.unique(dim=0).tolist() == [[0, 0], [1, 1]]


def test_each_restarted_code_gets_a_vector_of_its_own():
    quantizer, x = started(), torch.randn(9, 3)
    quantizer.count.copy_(torch.tensor([4.0, 0.01, 0.01, 0.01]))
    quantizer.restart_dead(x)
    chosen = torch.cdist(quantizer.codebook[1:], x)
    assert torch.equal(chosen.min(1).values, torch.zeros(3)) and chosen.argmin(1).unique().numel() == 3


def test_initialise_starts_counting_afresh():
    quantizer, rows = started(), torch.randn(4, 3)
    quantizer(torch.randn(20, 3))
    quantizer.initialise(codebook=rows)
    assert torch.equal(quantizer.codebook, rows) and torch.equal(quantizer.total, rows)
    assert quantizer.count.eq(1).all()


def test_perplexity_and_usage():
    assert perplexity(torch.arange(8).repeat(3), 8) == pytest.approx(8)
    assert perplexity(torch.zeros(9, dtype=torch.int64), 8) == pytest.approx(1)
    codes = torch.tensor([[0, 0], [1, 2]])
    assert perplexity(codes, 8) == pytest.approx(math.exp(0.5 * math.log(2) + 0.5 * math.log(4)))
    assert usage(codes, 8) == 3 / 8


def test_bfloat16_features_keep_their_dtype():
    assert started()(torch.randn(6, 3, dtype=torch.bfloat16)).vectors.dtype == torch.bfloat16


def test_mixed_precision_chooses_and_averages_in_full_precision():
    full, mixed, x = started(codes=64), VectorQuantizer(3, 64), torch.randn(500, 3)
    mixed.load_state_dict(full.state_dict())
    expected = full(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mixed(x).codes, expected.codes)
    assert torch.equal(mixed.total, full.total)


def test_errors():
    with pytest.raises(ValueError, match="at least 1 code, got 0"):
        VectorQuantizer(3, 0)
    with pytest.raises(ValueError, match=r"in \[0, 1\), got 1.0"):
        VectorQuantizer(3, 4, decay=1.0)
    for empty in (VectorQuantizer(3, 4), VectorQuantizer(3, 4).eval()):
        with pytest.raises(ValueError, match="codebook is empty"):
            empty(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="5 words a vector do not divide a width of 12"):
        ProductQuantizer(12, 4, 5)
    with pytest.raises(ValueError, match="width 2, but the codebook has 3"):
        started()(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="needs at least 4 feature vectors, got 3"):
        VectorQuantizer(3, 4).initialise(torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"shape \(4, 2\), expected \(4, 3\)"):
        started().initialise(codebook=torch.zeros(4, 2))
