"""Look at the objects of game worlds and write small mp4 files with boxes and persistent ids: the set of chapter 17.

    pip install vizdoom==1.3.2          # 150 MB; nothing else of this repository needs it
    python scripts/world_objects.py --out data/world_objects

The maps and their splits are those of scripts/worlds.py; here monsters are on. The walker is set down near an object, turns to
it, waits, and then drifts for eight frames. Boxes are those of the *visible pixels* in the engine's label buffer. The same
seed sees the same; the card is in data/README.md.
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import vizdoom
from tqdm.auto import tqdm
from worlds import GAMMA, SPLITS, prepared

from sora_nb.files import digest
from sora_nb.ledger import ROOT
from sora_nb.video import write_video

# The six most frequent things of the training maps that can be shot at ("count" in the manifest).
CLASSES = ("DoomImp", "ShotgunGuy", "Zombieman", "ChaingunGuy", "Demon", "ExplosiveBarrel")
EACH = {"train": 24, "val": 20, "test": 32}  # clips a map
FRAMES, TICS, SIZE, FINE = 8, 2, 64, 4  # 17.5 frames a second, drawn four times as large
LEAST = (5, 8)  # pixels of width and height from which a visible part gets a box
SEEN = 6  # frames in which an object must have a box, or the clip is thrown away
BUTTONS = ("MOVE_FORWARD_BACKWARD_DELTA", "MOVE_LEFT_RIGHT_DELTA", "TURN_LEFT_RIGHT_DELTA")
DRIFT = (10, 8, 2)  # at most so much of each button a tic


def start(name: str) -> vizdoom.DoomGame:
    """A map with its monsters, and with the labels of every pixel."""
    game = prepared(name, seed=0)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_320X256)
    game.set_render_screen_flashes(False)
    game.set_render_messages(False)
    game.set_render_effects_sprites(False)  # no blood, no smoke
    game.set_available_buttons([getattr(vizdoom.Button, button) for button in BUTTONS])
    game.set_labels_buffer_enabled(True)
    game.set_objects_info_enabled(True)
    game.set_doom_skill(4)
    game.init()
    return game


def approach(game: vizdoom.DoomGame, aim: vizdoom.Object, rng: np.random.Generator) -> None:
    """Stand 60 to 160 units away from an object, on any side, turn to it within 25 degrees, and wait a little."""
    bearing, far = rng.uniform(0, 2 * np.pi), rng.uniform(60, 160)
    x, y = aim.position_x + far * np.cos(bearing), aim.position_y + far * np.sin(bearing)
    game.send_game_command(f"warp {x:.0f} {y:.0f}")
    game.make_action([0, 0, 0], 20)  # who was set down cannot turn for half a second
    if game.is_episode_finished():
        return
    x, y, angle = game.get_state().game_variables
    wanted = np.degrees(np.arctan2(aim.position_y - y, aim.position_x - x)) + rng.uniform(-25, 25)
    game.make_action([0, 0, float((angle - wanted + 180) % 360 - 180)], 1)
    game.make_action([0, 0, 0], int(rng.integers(2, 40)))


def look(game: vizdoom.DoomGame, rng: np.random.Generator) -> tuple[np.ndarray, dict[int, dict]] | None:
    """Drift and look: frames, uint8 (8, 64, 64, 3), and the objects by id; None if the walker died."""
    drift = [float(rng.uniform(-most, most)) for most in DRIFT]
    frames, objects = [], {}
    for t in range(FRAMES):
        if game.is_episode_finished():
            return None
        state = game.get_state()
        middle = (state.screen_buffer.shape[1] - FINE * SIZE) // 2
        cut = slice(middle, middle + FINE * SIZE)
        frames.append(state.screen_buffer[:, cut].copy())
        for label in state.labels:
            box = visible(state.labels_buffer[:, cut] == label.value)
            if label.object_name in CLASSES and box:
                seen = {"class": CLASSES.index(label.object_name), "boxes": [None] * FRAMES}
                objects.setdefault(label.object_id, seen)["boxes"][t] = box
        game.make_action(drift, TICS)
    return shrink(np.stack(frames)), objects


def visible(mask: np.ndarray) -> list[float] | None:
    """Corners x0, y0, x1, y1 round the pixels of an object, in pixels of the small frame; None where too few show."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    box = [columns[0] / FINE, rows[0] / FINE, (columns[-1] + 1) / FINE, (rows[-1] + 1) / FINE]
    wide, high = box[2] - box[0], box[3] - box[1]
    return [float(x) for x in box] if wide >= LEAST[0] and high >= LEAST[1] else None


def shrink(frames: np.ndarray) -> np.ndarray:
    """256 × 256 to 64 × 64 by means over 4 × 4 pixels, and brighter."""
    small = frames.reshape(len(frames), SIZE, FINE, SIZE, FINE, 3).mean((2, 4)) / 255
    return np.rint(255 * small**GAMMA).astype(np.uint8)


def write(out: Path, split: str, name: str, counts: Counter) -> tuple[list[dict], list[str], Counter]:
    """The clips of one map, their objects, digests of their raw frames, and how many things the map holds."""
    game, rng = start(name), np.random.default_rng(int(name[3:]))
    held = Counter(thing.name for thing in game.get_state().objects)
    clips, raw = [], []
    (out / split).mkdir(parents=True, exist_ok=True)
    while len(clips) < EACH[split]:
        game.new_episode()
        things = [thing for thing in game.get_state().objects if thing.name in CLASSES]
        rare = min({thing.name for thing in things}, key=lambda n: (counts[n], n))
        things = [thing for thing in things if thing.name == rare or rng.random() < 0.1]
        approach(game, things[int(rng.integers(len(things)))], rng)
        seen = look(game, rng)
        long = [o for o in seen[1].values() if FRAMES - o["boxes"].count(None) >= SEEN] if seen else []
        if not long:
            continue
        counts.update(CLASSES[o["class"]] for o in long)
        path = f"{split}/{name}_{len(clips):02d}.mp4"
        write_video(out / path, seen[0], rate=35 / TICS, options={"crf": "26"})
        objects = [{"id": number, **thing} for number, thing in sorted(seen[1].items())]
        clips.append({"file": path, "objects": objects})
        raw.append(digest(seen[0].tobytes()))
    game.close()
    return clips, raw, held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "world_objects")
    out = parser.parse_args().out.resolve()
    record = {"vizdoom": vizdoom.__version__, "wad": "freedoom2", "maps": SPLITS, "classes": CLASSES}
    maps = [(split, name) for split, names in SPLITS.items() for name in names]
    record |= {"count": Counter(), "raw frames": {}}
    counts, boxes = {split: Counter() for split in SPLITS}, []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the engine leaves its settings where it runs
        for split, name in tqdm(maps, unit="map"):
            clips, raw, held = write(out, split, name, counts[split])
            boxes += clips
            record["raw frames"][name] = digest(*raw)
            record["count"] += held if split == "train" else Counter()
    record["count"] = {name: n for name, n in record["count"].most_common() if n >= 100}
    (out / "manifest.json").write_text(json.dumps(record, indent=1) + "\n")
    lines = ",\n".join(json.dumps(clip, separators=(",", ":")) for clip in boxes)
    (out / "boxes.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
