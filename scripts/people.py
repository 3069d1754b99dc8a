"""Film motion-captured people with a drawn camera and write small mp4 files: the third data set.

    pip install pybullet==3.2.7          # 100 MB; nothing else of this repository needs it
    python scripts/people.py --out data/people

Clips: every setting (a camera, a floor, a light, clothes) films each of fifteen recorded actions once, so that what a
setting looks like says nothing about the action. Films: one fixed camera over a floor that people walk across; in some of
them somebody runs, falls, jumps or turns a cartwheel, and the truth says when. The same seed draws the same pictures; the
card is in data/README.md.
"""

import argparse
import colorsys
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pybullet as bullet
import pybullet_data
from tqdm.auto import tqdm

from sora_nb.data import photographs
from sora_nb.data.motion_render import photo_columns
from sora_nb.files import digest
from sora_nb.ledger import ROOT
from sora_nb.video import write_video

MOTIONS = Path(pybullet_data.getDataPath()) / "data" / "motions"
TAKES = sorted(path.stem.split("_", 1)[1] for path in MOTIONS.glob("humanoid3d_*.txt"))
CYCLES = ("run", "walk")  # short takes of which the last pose leads to the first
SETTINGS = {"train": 18, "val": 6, "test": 10}
# What each split has of every sector of angles and of hues.
SHARES = {"train": (0.0, 0.55), "val": (0.55, 0.75), "test": (0.75, 1.0)}
FLOORS = ("brick", "grass", "gravel")
FRAMES, SPAN, SIZE, FINE = 16, 1.2, (48, 64), 2  # seconds from first to last frame; rendered twice as fine
JOINTS = (  # (joint, numbers) in the order of a take's rows, after time, place and rotation of the whole
    (1, 4), (2, 4), (9, 4), (10, 1), (11, 4), (3, 4), (4, 1), (12, 4), (13, 1), (14, 4), (6, 4), (7, 1)
)  # fmt: skip
FILMS = {"train": 8, "quiet": 4, "test": 12, "calm": 4}  # only those of "test" hold something unusual
RARE = ("backflip", "cartwheel", "crawl", "dance_a", "fall", "jump", "kick", "roll", "run", "spin")
LENGTH, STEP = 320, 0.08  # frames of a film, seconds between them
REACH, BLEND = 2.6, 4  # metres from the middle to where people come and go; frames from one take to the next
SHIRT, TROUSERS, SKIN = (-1, 0, 1, 3, 6), (9, 10, 12, 13), (2, 4, 5, 7, 8)  # links; the rest are shoes


class Take:
    """One recorded action: poses over time."""

    def __init__(self, name: str):
        self.name = name
        rows = np.array(json.loads((MOTIONS / f"humanoid3d_{name}.txt").read_text())["Frames"])
        self.times = np.concatenate([[0], np.cumsum(rows[:-1, 0])])
        self.poses, self.seconds = rows[:, 1:], self.times[-1]
        self.stride = np.where([True, False, True], self.poses[-1, :3] - self.poses[0, :3], 0)

    def at(self, time: float) -> np.ndarray:
        """The pose at a time, between its neighbours; a cycle goes on from where it ended."""
        rounds, time = divmod(time, self.seconds) if self.name in CYCLES else (0, time)
        after = int(np.clip(np.searchsorted(self.times, time), 1, len(self.times) - 1))
        share = (time - self.times[after - 1]) / (self.times[after] - self.times[after - 1])
        pose = between(self.poses[after - 1], self.poses[after], float(np.clip(share, 0, 1)))
        pose[:3] += rounds * self.stride
        return pose


def between(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """A pose between two: numbers mixed, rotations brought to the same side first and to length 1 after."""
    mixed = a + share * (b - a)
    at = 3
    for numbers in (4, *(n for _, n in JOINTS)):
        part = slice(at, at + numbers)
        if numbers == 4:
            near = b[part] if a[part] @ b[part] >= 0 else -b[part]
            turned = a[part] + share * (near - a[part])
            mixed[part] = turned / np.linalg.norm(turned)
        at += numbers
    return mixed


class Stage:
    """A floor, a person, a light: what there is to film."""

    def __init__(self):
        bullet.connect(bullet.DIRECT)
        bullet.setAdditionalSearchPath(pybullet_data.getDataPath())
        flat = bullet.getQuaternionFromEuler([-np.pi / 2, 0, 0])  # the takes' second axis points up
        self.floor = bullet.loadURDF("plane.urdf", [0, 0, 0], flat, useFixedBase=True)
        self.person = bullet.loadURDF("humanoid/humanoid.urdf", globalScaling=0.25, useFixedBase=True)

    def lay(self, path: Path, tint) -> None:
        texture = bullet.loadTexture(str(path))
        bullet.changeVisualShape(self.floor, -1, textureUniqueId=texture, rgbaColor=[*tint, 1])

    def dress(self, shirt, trousers, skin) -> None:
        for links, color in ((SHIRT, shirt), (TROUSERS, trousers), (SKIN, skin), ((11, 14), (0.1, 0.1, 0.1))):
            for link in links:
                bullet.changeVisualShape(self.person, link, rgbaColor=[*color, 1])

    def pose(self, pose: np.ndarray) -> None:
        bullet.resetBasePositionAndOrientation(self.person, pose[:3], np.roll(pose[3:7], -1))
        at = 7
        for joint, numbers in JOINTS:
            value = np.roll(pose[at : at + numbers], -1)  # of four numbers the engine wants the first last
            bullet.resetJointStateMultiDof(self.person, joint, value)
            at += numbers

    def picture(self, view: dict) -> np.ndarray:
        """What the camera sees, uint8 (48, 64, 3); where nothing is, the sky."""
        rows, columns = FINE * SIZE[0], FINE * SIZE[1]
        eye = bullet.computeViewMatrix(list(view["eye"]), list(view["aim"]), [0, 1, 0])
        lens = bullet.computeProjectionMatrixFOV(view["field"], columns / rows, 0.1, 60)
        seen = bullet.getCameraImage(
            columns, rows, eye, lens, lightDirection=view["light"], lightAmbientCoeff=view["ambient"], shadow=1,
            renderer=bullet.ER_TINY_RENDERER, flags=bullet.ER_NO_SEGMENTATION_MASK)  # fmt: skip
        colors = np.reshape(seen[2], (rows, columns, 4))[..., :3].astype(float)
        colors[np.reshape(seen[3], (rows, columns)) >= 1] = view["sky"]
        small = colors.reshape(SIZE[0], FINE, SIZE[1], FINE, 3).mean((1, 3)) * view["gain"]
        return np.rint(small.clip(0, 255)).astype(np.uint8)


# ------------------------------------------------------------------------------------------------ clips


def within(rng: np.random.Generator, split: str, sectors: int) -> float:
    """A share of a circle from the split's part of one of its sectors, so that no two splits share one."""
    low, high = SHARES[split]
    return (rng.integers(sectors) + rng.uniform(low, high)) / sectors


def clothes(rng: np.random.Generator, split: str) -> list[tuple[float, float, float]]:
    """Colours of shirt, trousers and skin."""
    hues = [(within(rng, split, 6), rng.uniform(0.3, 0.9), rng.uniform(0.3, 1)) for _ in range(2)]
    return [
        *(colorsys.hsv_to_rgb(*hue) for hue in hues),
        tuple(rng.uniform(0.35, 0.95) * np.array([1, 0.8, 0.68])),
    ]


def floor(rng: np.random.Generator, split: str, out: Path) -> Path:
    """A piece of the split's columns of a photograph, eight pixels made one, as a file that the engine reads."""
    from PIL import Image

    name = FLOORS[rng.integers(len(FLOORS))]
    columns = photo_columns(name, split)
    left, top = rng.integers(columns.start, columns.stop - 127), rng.integers(512 - 127)
    path = out / f"{name}-{top}-{left}.png"
    piece = photographs()[name][top : top + 128, left : left + 128]
    coarse = piece.reshape(16, 8, 16, 8, 3).mean((1, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((256, 256)).save(path)
    return path


def light(rng: np.random.Generator) -> dict:
    """Where the light comes from and how much there is of it; what the sky looks like."""
    angle, sky = rng.uniform(0, 2 * np.pi), rng.uniform(120, 235)
    where = [np.cos(angle), rng.uniform(1, 2.5), np.sin(angle)]
    tint = sky * np.array([rng.uniform(0.8, 1), rng.uniform(0.9, 1), 1])
    return dict(light=where, ambient=rng.uniform(0.4, 0.7), gain=rng.uniform(0.8, 1.3), sky=tint)


def film(stage: Stage, take: Take, camera: dict, rng: np.random.Generator) -> np.ndarray:
    """One action from a random moment on; the camera stands and pans evenly from where it begins to where it ends."""
    last = take.seconds if take.name in CYCLES else take.seconds - SPAN
    poses = [take.at(time) for time in rng.uniform(0, last) + np.linspace(0, SPAN, FRAMES)]
    ground = np.array([1, 0, 1])
    ends = poses[0][:3] * ground, poses[-1][:3] * ground
    eye, frames = (ends[0] + ends[1]) / 2 + camera["from"], []
    for share, pose in zip(np.linspace(0, 1, FRAMES), poses, strict=True):
        stage.pose(pose)
        aim = (1 - share) * ends[0] + share * ends[1] + [0, 0.75, 0]
        frames.append(stage.picture(dict(camera, eye=eye, aim=aim)))
    return np.stack(frames)


def setting(stage: Stage, split: str, number: int, out: Path, work: Path) -> str:
    """All actions in one setting; return the digest of their raw frames."""
    rng = np.random.default_rng([list(SETTINGS).index(split), number])
    angle, far = 2 * np.pi * within(rng, split, 8), rng.uniform(2.3, 3.2)
    where = np.array([far * np.cos(angle), rng.uniform(0.7, 2.2), far * np.sin(angle)])
    camera = light(rng) | {"from": where, "field": 45}
    stage.lay(floor(rng, split, work), rng.uniform(0.75, 1, 3))
    stage.dress(*clothes(rng, split))
    raw = []
    for name in TAKES:
        clip = film(stage, Take(name), camera, rng)
        folder = out / split / name.replace("_", "-")
        folder.mkdir(parents=True, exist_ok=True)
        write_video(folder / f"set{number:02d}.mp4", clip, rate=12.5, options={"crf": "30"})
        raw.append(clip.tobytes())
    return digest(*raw)


# ------------------------------------------------------------------------------------------------ films


def turned(pose: np.ndarray, angle: float) -> np.ndarray:
    """A pose, rotated about the upright axis through the origin."""
    c, s, (w, x, y, z) = np.cos(angle), np.sin(angle), pose[3:7]
    a, b = np.cos(angle / 2), np.sin(angle / 2)
    spot = [c * pose[0] + s * pose[2], pose[1], c * pose[2] - s * pose[0]]
    return np.concatenate([spot, [a * w - b * y, a * x + b * z, a * y + b * w, a * z - b * x], pose[7:]])


def act(kind: str) -> tuple[str, np.ndarray]:
    """The take of something that is done on the way, and its moments, one a frame."""
    if kind != "fall":
        return kind, np.arange(0, Take(kind).seconds, STEP)
    up = Take("getup_faceup").seconds  # a fall is getting up, backwards at twice the speed; then up it gets
    return "getup_faceup", np.r_[np.arange(0, up, 2 * STEP)[::-1], np.zeros(10), np.arange(0, up, STEP)]


def onto_path(take: Take) -> float:
    """The angle by which a take is turned so that it ends on the path, and not beside it; least for one that goes back."""
    x, _, z = take.poses[-1, :3] - take.poses[0, :3]
    angle = np.arctan2(z, x)
    return 0.0 if np.hypot(x, z) < 0.5 else angle - np.pi * np.sign(angle) * (abs(angle) > 0.75 * np.pi)


def crossing(kind: str, rng: np.random.Generator) -> tuple[list[np.ndarray], list[str]]:
    """Somebody crosses the floor from edge to edge: a pose a frame, and what is being done in it."""
    heading = rng.choice([0, np.pi]) + rng.normal(0, 0.15)
    ahead = np.array([np.cos(heading), 0, -np.sin(heading)])
    spot = -REACH * ahead + [0, 0, rng.uniform(-0.8, 0.8)]
    stroll = np.arange(rng.uniform(0, 1.2), 60, STEP * rng.uniform(1, 1.4))
    parts = [("walk", stroll, rng.uniform(-0.7, 0.5)), (*act(kind), None), ("walk", stroll, REACH)]
    parts = [(kind, stroll, REACH)] if kind in CYCLES else parts
    poses, done = [], []
    for name, times, edge in parts:
        take, before = Take(name), poses[-1] if poses else None
        facing = heading + onto_path(take)
        start = (spot - turned(take.at(times[0]), facing)[:3]) * [1, 0, 1]
        for count, time in enumerate(times, 1):
            pose = turned(take.at(time), facing)
            pose[:3] += start
            if before is not None and count <= BLEND:
                pose[3:] = between(before, pose, count / (BLEND + 1))[3:]
            poses.append(pose)
            done.append("walk" if name == "walk" else kind)
            if edge is not None and pose[:3] @ ahead > edge:
                break
        spot = poses[-1][:3]
    return poses, done


def street(stage: Stage, split: str, number: int, out: Path) -> tuple[list, str]:
    """One long film of the fixed camera: what was done in which frames, and the digest of its raw frames."""
    rng = np.random.default_rng([9, list(FILMS).index(split), number])
    view = light(rng) | {"eye": [0.0, 2.6, 5.2], "aim": [0.0, 0.8, 0.0], "field": 34}
    kinds = [RARE[(2 * number + n) % len(RARE)] for n in range(2)] if split == "test" else []
    when = dict(zip(rng.choice(3, 2, replace=False).tolist(), kinds, strict=False))
    nobody = turned(Take("walk").at(0), 0) + np.eye(43)[1] * -50
    stage.pose(nobody)
    frames, done, people = [stage.picture(view)], ["nobody"], 0
    while len(frames) < LENGTH:
        frames += [frames[0]] * int(rng.integers(3, 15))
        done += ["nobody"] * (len(frames) - len(done))
        stage.dress(*clothes(rng, "train" if split in ("train", "quiet") else "test"))
        for pose, doing in zip(*crossing(when.get(people, "walk"), rng), strict=True):
            stage.pose(pose)
            frames.append(stage.picture(view))
            done.append(doing)
        people += 1
    (out / "street").mkdir(parents=True, exist_ok=True)
    raw = np.stack(frames[:LENGTH])
    write_video(out / "street" / f"{split}_{number:02d}.mp4", raw, rate=12.5, options={"crf": "30"})
    borders = [0, *(t for t in range(1, LENGTH) if done[t] != done[t - 1]), LENGTH]
    return [[done[a], a, b] for a, b in zip(borders, borders[1:])], digest(raw.tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "people")
    parser.add_argument("--times", type=int, default=1, help="so many times as many settings and films")
    options = parser.parse_args()
    out, stage = options.out.resolve(), Stage()
    record = {"pybullet": version("pybullet"), "takes": TAKES, "settings": {}, "films": {}, "doing": {}}
    plans = {kind: [(split, n) for split, each in table.items() for n in range(each * options.times)]
             for kind, table in (("settings", SETTINGS), ("films", FILMS))}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for split, number in tqdm(plans["settings"], unit="setting"):
            found = setting(stage, split, number, out, Path(folder))
            record["settings"][f"{split}/set{number:02d}"] = found
        stage.lay(floor(np.random.default_rng(5), "train", Path(folder)), (1, 1, 1))  # one street
        for split, number in tqdm(plans["films"], unit="film"):
            name = f"{split}_{number:02d}"
            record["doing"][name], record["films"][name] = street(stage, split, number, out)
    (out / "manifest.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
