"""Walk through game worlds and write what the walker sees as small mp4 files: the second data set.

    pip install vizdoom==1.3.2          # 150 MB; nothing else of this repository needs it
    python scripts/worlds.py --out data/worlds

Six movements of the camera in three pairs, in maps of Freedoom: training, validation and test maps are different maps.
The walker wanders, stands still, then holds one key for 16 frames. Walks against a wall are thrown away. The same seed
walks the same way; the card is in data/README.md.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import vizdoom
from tqdm.auto import tqdm

from sora_nb.files import digest
from sora_nb.ledger import ROOT
from sora_nb.video import write_video

# In alphabetical order, as a folder gives them: the twin of class c is c ^ 1.
KEYS = {
    "backward": "MOVE_BACKWARD",
    "forward": "MOVE_FORWARD",
    "strafe-left": "MOVE_LEFT",
    "strafe-right": "MOVE_RIGHT",
    "turn-left": "TURN_LEFT",
    "turn-right": "TURN_RIGHT",
}
SPLITS = {
    "train": [f"map{i:02d}" for i in range(1, 21)],
    "val": [f"map{i:02d}" for i in range(21, 25)],
    "test": [f"map{i:02d}" for i in (25, 26, 27, 29, 31)],  # 28 and 30 are odd places
}
EACH = {"train": 6, "val": 5, "test": 8}  # clips a class and map
FRAMES, SIZE, GAMMA = 16, (48, 64), 0.7  # the maps are dark
LEAST_MOVE, LEAST_TURN = 40, 10  # map units and degrees, from first to last frame
BUTTONS = [*KEYS.values(), "SPEED"]


def prepared(name: str, seed: int) -> vizdoom.DoomGame:
    """A map without weapon or display, not begun yet."""
    game = vizdoom.DoomGame()
    game.set_doom_game_path(str(Path(vizdoom.__file__).parent / "freedoom2.wad"))
    game.set_doom_map(name)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    for part in ("hud", "weapon", "crosshair"):
        getattr(game, f"set_render_{part}")(False)
    game.set_window_visible(False)
    game.set_mode(vizdoom.Mode.PLAYER)
    where = ("POSITION_X", "POSITION_Y", "ANGLE")
    game.set_available_game_variables([getattr(vizdoom.GameVariable, name) for name in where])
    game.set_seed(seed)
    game.set_episode_timeout(1_000_000)
    return game


def start(name: str, seed: int) -> vizdoom.DoomGame:
    """A map without monsters."""
    game = prepared(name, seed)
    game.add_game_args("-nomonsters")
    game.set_available_buttons([getattr(vizdoom.Button, name) for name in BUTTONS])
    game.init()
    return game


def press(game: vizdoom.DoomGame, keys: list[str], frames: int) -> None:
    """Hold keys; where the walker has died or left the map, begin anew."""
    game.make_action([name in keys for name in BUTTONS], frames)
    if game.is_episode_finished():
        game.new_episode()


def walk(game: vizdoom.DoomGame, key: str, rng: np.random.Generator) -> np.ndarray | None:
    """Wander, stand, hold the key: what was seen, uint8 (16, 48, 64, 3), or None if it led nowhere."""
    for _ in range(rng.integers(5, 25)):
        press(game, [BUTTONS[rng.choice([1, 1, 1, 4, 5])]], int(rng.integers(1, 8)))
    press(game, [], 12)
    keys, frames = [key] + ["SPEED"] * bool(rng.integers(2)), []
    before = game.get_state().game_variables
    for _ in range(FRAMES):
        frames.append(game.get_state().screen_buffer.copy())
        press(game, keys, 1)
    x, y, angle = game.get_state().game_variables - before
    turned, moved = abs((angle + 180) % 360 - 180), np.hypot(x, y)
    least = turned >= LEAST_TURN if "TURN" in key else LEAST_MOVE <= moved <= 600  # farther: it began anew
    return shrink(np.stack(frames)) if least else None


def shrink(frames: np.ndarray) -> np.ndarray:
    """160 × 120 to 64 × 48 by means over 2.5 pixels, and brighter."""
    fine = np.repeat(np.repeat(frames, 2, 1), 2, 2).astype(float) / 255
    rows, columns = SIZE
    small = fine.reshape(len(frames), rows, 5, columns, 5, 3).mean((2, 4))
    return np.rint(255 * small**GAMMA).astype(np.uint8)


def write(out: Path, split: str, name: str, each: int) -> list[str]:
    """The clips of one map; return the digests of their raw frames."""
    game, rng, found = start(name, seed=0), np.random.default_rng(int(name[3:])), []
    for label, key in KEYS.items():
        folder = out / split / label
        folder.mkdir(parents=True, exist_ok=True)
        number = 0
        while number < each:
            clip = walk(game, key, rng)
            if clip is not None:
                write_video(folder / f"{name}_{number}.mp4", clip, rate=35, options={"crf": "26"})
                found.append(digest(clip.tobytes()))
                number += 1
    game.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "worlds")
    parser.add_argument("--times", type=int, default=1, help="so many times as many clips a map")
    options = parser.parse_args()
    out = options.out.resolve()
    maps = [(split, name) for split, names in SPLITS.items() for name in names]
    record = {"vizdoom": vizdoom.__version__, "wad": "freedoom2", "maps": SPLITS, "raw frames": {}}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the engine leaves its settings where it runs
        for split, name in tqdm(maps, unit="map"):
            record["raw frames"][name] = digest(*write(out, split, name, EACH[split] * options.times))
    (out / "manifest.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
