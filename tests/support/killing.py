"""Kills commands that write, and gives them again. Run as a script, it prints what was tried and the faults as JSON.

python killing.py FOLDER SEED COUNT [COMMAND…]     COUNT kills, shared by the commands
"""

import json
import random
import sys
from pathlib import Path

from writing import WRITING, Scene


def kill(scene: Scene, name: str, chance: random.Random, changes: int, seconds: float) -> list[tuple[str, str]] | None:
    """Kill a command at a random change of the disk, or at any moment, and give it again.

    Returns:
        The faults; None if it ended before.
    """
    scene.fresh(name)
    if chance.random() < 0.6:
        moment = f"at change {(at := chance.randrange(changes))}"
        answer = scene.type(*scene.words(name), kill_at=at)
    else:
        moment = f"after {(after := chance.uniform(0.01, seconds)):.3f} s"
        answer = scene.type(*scene.words(name), kill_after_s=after)
    if not answer.killed:
        return None
    faults = [*scene.faults_of(name), *scene.faults_of_again(name)]
    return [(kind, f"{moment}: {what}") for kind, what in faults]


def main(folder: str, seed: str, count: str, *names: str) -> None:
    chance, scene = random.Random(int(seed)), Scene(Path(folder), Path(folder) / "copy")
    tried, faults = 0, []
    shares = {name: (scene.count_changes(name), scene.seconds(name)) for name in names or WRITING}
    while tried < int(count):
        for name in names or WRITING:
            changes, seconds = shares[name]
            found = kill(scene, name, chance, changes, seconds)
            if found is not None:
                tried += 1
                faults += found
    sys.stdout.write(json.dumps({"tried": tried, "faults": faults}))


if __name__ == "__main__":
    main(*sys.argv[1:])
