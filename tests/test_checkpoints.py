"""Files of weights and checkpoints: whole, of this run, or refused in a sentence that says why."""

import inspect
import warnings

import pytest
import torch
from safetensors.torch import save_file
from test_training import equal, model, toy
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from sora_nb import checkpoints, training


def test_weights_go_into_a_folder_that_is_not_there_yet(tmp_path):
    checkpoints.save_weights(model(), tmp_path / "new" / "er" / "weights.safetensors")
    fresh = model(seed=1)
    checkpoints.load_weights(fresh, tmp_path / "new" / "er" / "weights.safetensors")
    assert equal(fresh, model())


def test_weights_survive_a_round_trip_and_a_wrong_model_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    net, other = model(0), model(1)
    checkpoints.save_weights(net, path)
    checkpoints.load_weights(other, path)
    assert equal(net, other)
    with pytest.raises(ValueError, match=r"does not fit this Linear.*'0\.bias'"):
        checkpoints.load_weights(nn.Linear(6, 2), path)


def other_step(net, batch):
    """Another loss than cross-entropy."""
    loss, score = training.classify(net, batch)
    return 2 * loss, score


def other_beginning(net, epoch):
    """Does nothing."""


def kept(path, net=None, train=None, val=None, **options):
    """A short run with a checkpoint; with the same file it is done already."""
    options = {"epochs": 1, "checkpoint": path, "progress": False} | options
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return training.fit(net or model(), train or toy(), val, **options)


CHANGED = {
    "epochs": 2,
    "lr": 1e-3,
    "batch_size": 16,
    "weight_decay": 0.0,
    "seed": 1,
    "step": other_step,
    "before_epoch": other_beginning,
    "precision": "bf16",
    "workers": 1,
}


def test_every_argument_of_fit_belongs_to_the_run():
    found = inspect.signature(training.fit).parameters
    assert set(CHANGED) == set(found) - {"model", "train", "val", "checkpoint", "progress"}


def test_a_finished_run_comes_back_only_with_the_arguments_it_had(tmp_path):
    first = kept(tmp_path / "c")
    assert kept(tmp_path / "c") == first
    for name, value in CHANGED.items():
        with pytest.raises(
            ValueError, match=rf"c belongs to a run with {name} [^ ]+, not {name} [^ ]+; delete it"
        ):
            kept(tmp_path / "c", **{name: value})
    with pytest.raises(ValueError, match=r"with epochs 1 and lr 0\.002, not epochs 3 and lr 0\.1; delete it"):
        kept(tmp_path / "c", epochs=3, lr=0.1)


def frozen():
    net = model()
    training.freeze(net[1])
    return net


def without_gradient():
    net = model()
    net[0].bias.requires_grad_(False)
    return net


def with_setting(value):
    net = model()
    net.pooling = value
    return net


@pytest.mark.parametrize(
    "other",
    [
        lambda: nn.Sequential(*model(), nn.Identity()),
        lambda: nn.Sequential(*list(model())[:3], nn.Dropout(0.3), model()[4]),
        lambda: nn.Sequential(*list(model())[:4], nn.Linear(8, 3)),
        lambda: model().double(),
        frozen,
        without_gradient,
        lambda: with_setting("max"),
    ],
    ids=["layer", "setting of a layer", "width", "dtype", "frozen", "no gradient", "setting"],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, other):
    kept(tmp_path / "c")
    with pytest.raises(ValueError, match="belongs to a run with model Sequential .* not model Sequential "):
        kept(tmp_path / "c", other())


def test_a_model_is_known_by_what_it_is_not_by_what_it_has_learned(tmp_path):
    net = model()
    training.freeze(net, False)
    assert checkpoints.model_digest(net) == checkpoints.model_digest(model(1).eval())
    assert checkpoints.model_digest(with_setting("max")) == checkpoints.model_digest(with_setting("max"))
    assert checkpoints.model_digest(with_setting(("a", 1))) != checkpoints.model_digest(
        with_setting(("a", 2))
    )


def test_other_weights_to_begin_with_are_replaced_with_a_warning(tmp_path):
    done, other = model(0), model(1)
    kept(tmp_path / "c", done)
    with pytest.warns(UserWarning, match="c holds a run that began from other weights than this model has"):
        training.fit(other, toy(), epochs=1, checkpoint=tmp_path / "c", progress=False)
    assert equal(done, other)


def broken_off(path, stop=None):
    """Six epochs, of which the first is the best; from the third on a part is frozen."""
    net, now = model(), []

    def begin(m, epoch):
        now.append(epoch)
        if epoch == 2:
            training.freeze(m[:2])
        if epoch == stop:
            raise KeyboardInterrupt

    def step(m, batch):
        loss, score = training.classify(m, batch)
        return (loss if m.training else loss * 0 + now[-1]), score

    options = {"epochs": 6, "lr": 1e-2, "step": step, "before_epoch": begin, "val": toy(40)}
    try:
        return net, kept(path, net, **options)
    except KeyboardInterrupt:
        return None


def test_a_run_goes_on_with_its_moments_its_best_weights_and_its_frozen_parts(tmp_path):
    whole, history = broken_off(tmp_path / "whole")
    assert broken_off(tmp_path / "c", stop=4) is None
    before = [v.clone() for v in checkpoints._read(tmp_path / "c")[0].values()]
    assert len(before) > 2 * len(whole.state_dict())
    again, second = broken_off(tmp_path / "c")
    assert history.best_epoch == second.best_epoch == 0 and history.train_loss == second.train_loss
    assert history.val_loss == second.val_loss == [0, 1, 2, 3, 4, 5]
    assert equal(whole, again)
    assert [p.requires_grad for p in again.parameters()] == [False] * 4 + [True] * 2
    first, last = (checkpoints._read(tmp_path / name)[0] for name in ("whole", "c"))
    assert first.keys() == last.keys() and all(torch.equal(first[name], last[name]) for name in first)


def test_items_are_known_by_their_shapes_too():
    shapes = [TensorDataset(torch.zeros(4, *shape)) for shape in ((2, 3), (3, 2), (6,))]
    shapes += [TensorDataset(torch.zeros(4, 3, dtype=torch.double))]
    assert len({checkpoints.data_digest(data) for data in shapes}) == 4


def relabelled(i):
    data = toy()
    data.tensors[1][i] = 1 - data.tensors[1][i]
    return data


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("train", {"train": toy(97)}),
        ("train", {"train": relabelled(0)}),
        ("train", {"train": relabelled(48)}),
        ("train", {"train": relabelled(-1)}),
        ("val", {"val": toy(40)}),
        ("val", {"val": None}),
    ],
)
def test_a_checkpoint_of_other_data_is_refused(tmp_path, name, data):
    kept(tmp_path / "c", val=toy(seed=1))
    with pytest.raises(ValueError, match=rf"belongs to a run with {name} [^;]*, not {name} [^;]*; delete it"):
        kept(tmp_path / "c", **{"val": toy(seed=1)} | data)


class Files(Dataset):
    """Items that are read from files."""

    def __init__(self, folder, sizes):
        folder.mkdir(parents=True)
        self.data, self.files = toy(len(sizes)), [folder / f"{i}.bin" for i in range(len(sizes))]
        for file, size in zip(self.files, sizes, strict=True):
            file.write_bytes(bytes(size))

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index]


def test_files_are_known_by_their_names_and_sizes_wherever_they_lie(tmp_path):
    sizes = list(range(20, 32))
    first = Files(tmp_path / "a" / "clips", sizes)
    moved = Files(tmp_path / "b" / "clips", sizes)
    other = Files(tmp_path / "c" / "clips", [*sizes[:5], 99, *sizes[6:]])
    kept(tmp_path / "k", train=first)
    kept(tmp_path / "k", train=moved)
    with pytest.raises(ValueError, match="run with train 12 items [^;]*, not train 12 items "):
        kept(tmp_path / "k", train=other)
    kept(tmp_path / "s", train=Subset(first, [0, 5, 1]))
    with pytest.raises(ValueError, match="run with train 3 items "):
        kept(tmp_path / "s", train=Subset(other, [0, 5, 1]))


def test_files_that_are_not_one_for_each_item_are_not_used():
    data = toy(3)
    assert checkpoints.files_of(data) is None
    data.files = ["a", "b"]
    assert checkpoints.files_of(data) is None
    data.files = ["a", "b", "c"]
    assert checkpoints.files_of(Subset(data, [2, 0])) == ["c", "a"]


class Drawn(Dataset):
    """Items that are another each time, by torch's generator or by one of their own."""

    kind = "clip"

    def __init__(self, own=False):
        self.generator = torch.Generator().manual_seed(0) if own else None

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"x": torch.rand(6, generator=self.generator), "name": f"{self.kind} {index}"}, index % 2


@pytest.mark.parametrize("own", [False, True])
def test_items_that_are_drawn_do_not_keep_a_run_from_going_on(tmp_path, own):
    def step(net, batch):
        return training.classify(net, (batch[0]["x"], batch[1]))

    data = Drawn(own)
    first = kept(tmp_path / "c", train=data, step=step)
    assert kept(tmp_path / "c", train=data, step=step) == first
    data.kind = "film"
    if own:  # nothing can be known of it but its length
        assert kept(tmp_path / "c", train=data, step=step) == first
    else:
        with pytest.raises(ValueError, match="belongs to a run with train 8 items"):
            kept(tmp_path / "c", train=data, step=step)


def damaged(kind, path):
    """A file that is no checkpoint, or only a part of one."""
    kept(path)
    whole = path.read_bytes()
    if kind == "foreign":
        save_file({"a": torch.zeros(3)}, path)
    elif kind == "foreign with words":
        save_file({"a": torch.zeros(3)}, path, {"format": "pt"})
    elif kind == "weights":
        checkpoints.save_weights(model(), path)
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(
            {"empty": b"", "cut": whole[:-9], "cut early": whole[:60], "text": b"hello " * 30}[kind]
        )


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", r"no safetensors file, or not a whole one \(.*\); delete it or name another file\.$"),
        ("cut", r"no safetensors file, or not a whole one \(.*\); delete it or name another file\.$"),
        ("cut early", r"no safetensors file, or not a whole one \(.*\); delete it or name another file\.$"),
        ("text", r"no safetensors file, or not a whole one \(.*\); delete it or name another file\.$"),
        ("foreign", r"no checkpoint of a training run; delete it or name another file\.$"),
        ("foreign with words", r"no checkpoint of a training run; delete it or name another file\.$"),
        ("weights", r"no checkpoint of a training run; delete it or name another file\.$"),
        ("folder", r"a folder; name a file in it\.$"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_in_one_sentence(tmp_path, kind, said):
    damaged(kind, tmp_path / "c")
    with pytest.raises(ValueError, match=rf"^\S*c is {said}"):
        kept(tmp_path / "c")
    if kind != "weights":
        with pytest.raises(ValueError, match=r"^\S*c (is no|is a folder|does not fit)"):
            checkpoints.load_weights(model(), tmp_path / "c")
