"""Flows against exact solutions, the latent grid and its transformer by their properties, scores against references."""

import pytest
import torch
from scipy import linalg
from torch.nn import functional as F
from torch.testing import assert_close
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from sora_nb.evaluation import generation
from sora_nb.layers.patches import tubelets
from sora_nb.models.flow import AdaptiveBlock, FlowTransformer, LatentVideo, from_tubelets
from sora_nb.objectives.flow import flow_loss, guided, integrate, path


def exact_field(points):
    """Mean velocity of all straight paths through x at time t to finitely many points."""

    def field(x, t):
        t = t[:, None]
        weight = (-torch.cdist(x, t[:1] * points).square() / (2 * (1 - t) ** 2)).softmax(1)
        return (weight @ points - x) / (1 - t)

    return field


def test_the_path_runs_from_noise_to_data_at_a_constant_velocity():
    data, noise = torch.randn(3, 2, 4).double(), torch.randn(3, 2, 4).double()
    t = torch.tensor([0.0, 0.25, 1.0]).double()
    x, velocity = path(data, noise, t)
    for i in range(3):
        assert_close(x[i], (1 - t[i]) * noise[i] + t[i] * data[i])
        assert_close(x[i] + (1 - t[i]) * velocity[i], data[i])


def test_the_mean_velocity_has_the_least_loss_and_it_is_not_zero():
    torch.manual_seed(0)
    points = torch.randn(5, 2).double()
    data, noise, t = (
        points[torch.randint(0, 5, (4000,))],
        torch.randn(4000, 2).double(),
        torch.rand(1).double() * 0.8,
    )
    t = t.expand(4000)
    field = exact_field(points)
    least = flow_loss(field, data, noise, t)
    bent = flow_loss(lambda x, t: 1.1 * field(x, t), data, noise, t)
    shifted = flow_loss(lambda x, t: field(x, t) + 0.1, data, noise, t)
    assert 0.1 < least < min(bent, shifted)


def test_the_exact_field_leads_to_the_points():
    torch.manual_seed(0)
    points = 2 * torch.randn(6, 2).double()
    made = integrate(exact_field(points), torch.randn(50, 2).double(), 200)
    assert torch.cdist(made, points).min(1).values.max() < 0.05


@pytest.mark.parametrize(("heun", "factor"), [(False, 2), (True, 4)])
def test_the_error_falls_with_the_order_of_the_method(heun, factor):
    start = torch.randn(3, 2).double()
    errors = [
        (integrate(lambda x, t: 2 * t[:, None] * x, start, steps, heun=heun) - start * torch.e).abs().max()
        for steps in (20, 40)
    ]
    assert errors[0] / errors[1] == pytest.approx(factor, rel=0.15)


def test_backwards_undoes_forwards():
    start, turn = torch.randn(4, 2).double(), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double()
    there = integrate(lambda x, t: x @ turn, start, 50, heun=True)
    back = integrate(lambda x, t: x @ turn, there, 50, start=1.0, end=0.0, heun=True)
    assert (there - start).abs().max() > 0.3
    assert_close(back, start, atol=1e-3, rtol=0)


def test_a_walk_backwards_begins_where_it_is_told():
    seen = []
    integrate(lambda x, t: seen.append(t[0].item()) or x, torch.ones(1, 1), 4, start=1.0, end=0.0)
    assert seen == [1.0, 0.75, 0.5, 0.25]


def test_guidance_by_hand():
    x, t = torch.zeros(1, 2), torch.zeros(1)
    without, told = (lambda x, t: x + torch.tensor([1.0, 0.0])), (lambda x, t: x + torch.tensor([2.0, 1.0]))
    for scale, wanted in ((0, [1, 0]), (1, [2, 1]), (3, [4, 3])):
        assert guided(told, without, scale)(x, t)[0].tolist() == wanted
    with pytest.raises(ValueError, match="at least 1"):
        integrate(told, x, 0)


def test_blocks_go_back_where_they_were():
    x = torch.randn(2, 8, 3, 8, 12)
    assert torch.equal(from_tubelets(tubelets(x, (4, 2, 3)), (4, 2, 3)), x)


def test_untrained_the_latents_are_principal_components_and_standardized():
    torch.manual_seed(0)
    clips = F.interpolate(torch.rand(12 * 8, 3, 4, 4), size=(16, 16), mode="bilinear").view(12, 8, 3, 16, 16)
    model = LatentVideo(channels=6, size=(4, 4, 4), width=4)
    model.fit_linear(clips)
    model.standardize(clips)
    z = model.encode(clips)
    assert z.shape == (12, 2, 6, 4, 4)
    assert_close(z.mean((0, 1, 3, 4)), torch.zeros(6), atol=1e-4, rtol=0)
    assert_close(z.std((0, 1, 3, 4)), torch.ones(6), atol=1e-4, rtol=0)
    blocks = tubelets(clips, (4, 4, 4))
    linear = model.linear.back(model.linear(blocks))
    assert_close(model.decode(z), from_tubelets(linear, (4, 4, 4)), atol=1e-4, rtol=0)
    assert_close(model.first(clips[:, 0]), model.encode(clips[:, :1].expand(-1, 4, -1, -1, -1))[:, 0])


def test_a_block_starts_as_the_identity_and_each_gate_opens_one_branch():
    torch.manual_seed(0)
    block, x, c = AdaptiveBlock(8, 2), torch.randn(2, 5, 8), torch.randn(2, 8)
    assert torch.equal(block(x, c), x)
    bias = block.condition[1].bias.data.view(6, 8)
    bias[2] = 1  # the gate of attention
    assert_close(block(x, c), x + block.attention(block.norm(x)))
    bias[2], bias[5], bias[3], bias[4] = 0, 2, 0.5, 1  # gate, shift and scale of the feed-forward layer
    assert_close(block(x, c), x + 2 * block.feed(2 * block.norm(x) + 0.5))


def trained_alike(model):
    """A model whose zeros have become small numbers, as after training."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_the_transformer_starts_at_zero_and_then_minds_time_class_and_first_frame():
    model = FlowTransformer(3, channels=2, grid=(2, 4, 4), dim=16, depth=2, heads=2)
    x, t, labels = torch.randn(2, 2, 2, 4, 4), torch.tensor([0.1, 0.8]), torch.tensor([0, 1])
    first, given = torch.randn(2, 2, 4, 4), torch.tensor([True, False])
    assert not model(x, t, labels).any()
    model = trained_alike(model)
    plain = model(x, t, labels)
    assert plain.shape == x.shape
    assert (model(x, t.flip(0), labels) - plain).abs().min() > 0
    assert (model(x, t, labels + 1) - plain).abs().mean() > 1e-3
    told = model(x, t, labels, first, given)
    assert (told[0] - plain[0]).abs().mean() > 1e-3
    assert_close(told[1], plain[1])  # what is not given is not seen
    assert (model(x, t, labels, first)[1] - plain[1]).abs().mean() > 1e-3


def test_times_are_told_apart_from_slow_to_fast_waves():
    waves = FlowTransformer(3, channels=2, grid=(2, 4, 4), dim=16, depth=1, heads=2).waves(
        torch.tensor([0.0, 0.5])
    )
    assert_close(waves[0], torch.cat((torch.zeros(8), torch.ones(8))))
    assert_close(waves[1, [0, 8]], torch.tensor([0.5, 0.5]).sin().new_tensor([0.479426, 0.877583]))


def test_psnr_and_ssim_equal_torchmetrics():
    torch.manual_seed(0)
    true = torch.rand(4, 3, 24, 20)
    restored = (true + 0.1 * torch.randn_like(true)).clamp(0, 1)
    for i in range(4):
        assert_close(
            generation.psnr(restored, true)[i], peak_signal_noise_ratio(restored[i], true[i], data_range=1.0)
        )
    reference = structural_similarity_index_measure(restored, true, data_range=1.0, reduction="none")
    assert_close(generation.ssim(restored, true), reference, atol=1e-4, rtol=0)


def test_psnr_counts_the_named_places_alone():
    true, restored = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    restored[0, 0, 0, 0] = 0.1
    where = torch.zeros(2, 1, 2, 2, dtype=torch.bool)
    where[0, 0, 0] = True
    scores = generation.psnr(restored, true, where)
    assert scores[0] == pytest.approx(23.0103, abs=1e-3)  # 0.01 over two places
    assert scores[1].isnan()


def test_frechet_distance_equals_scipys_root_and_a_closed_form():
    torch.manual_seed(0)
    a, b = torch.randn(200, 6).double() @ torch.randn(6, 6).double(), torch.randn(150, 6).double() + 1
    root = linalg.sqrtm(torch.cov(a.T).numpy() @ torch.cov(b.T).numpy()).real
    wanted = (a.mean(0) - b.mean(0)).square().sum() + torch.cov(a.T).trace() + torch.cov(b.T).trace()
    assert generation.frechet_distance(a, b) == pytest.approx(wanted.item() - 2 * root.trace(), rel=1e-6)
    assert generation.frechet_distance(a, a + 2) == pytest.approx(
        6 * 4, rel=1e-6
    )  # means apart, nothing else
    with pytest.raises(ValueError, match="at least 2"):
        generation.frechet_distance(a[:1], b)
