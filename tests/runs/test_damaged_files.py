"""Any file of a run, however damaged, is read or refused in a line."""

import json
import shutil

import numpy as np
import pytest
from fuzz import any_json, edited, search
from hypothesis import strategies as st

from recognizer.base.errors import UserError
from recognizer.base.files import read_rows
from recognizer.reports import run_pictures
from recognizer.runs import checkpoints, run_folder


@pytest.mark.parametrize("name", ["net-01.checkpoint-1.npz", "seen.npy"])
def test_any_file_of_a_run_is_read_or_refused_in_a_line(name, digits, tmp_path):
    checkpoints.write(tmp_path, 1, {"variable_0000": np.ones(30, np.float32)}, {"epoch": 3, "log": []})
    np.save(tmp_path / "seen.npy", digits.train.image_hashes()[:20])

    def read(path):
        return run_folder.read_seen(path.parent) if name == "seen.npy" else checkpoints.read(path.parent, 1)

    search(edited((tmp_path / name).read_bytes()), read, 0.03, tmp_path, name)


def test_any_config_is_read_or_refused_in_a_line(trained, tmp_path):
    config = json.loads((trained / "runs" / "bag" / "config.json").read_text())
    keys = [*config, *config["schedule"], *config["augmentation"]]

    def changed(changes):
        return json.dumps(config | changes).encode()

    values = st.dictionaries(st.sampled_from(list(config)), any_json(keys), max_size=3).map(changed)
    contents = values | edited(json.dumps(config).encode())
    search(contents, lambda path: run_folder.read_config(path.parent), 0.1, tmp_path, "config.json")


LOG = b"epoch,learning_rate,accuracy,loss\n1,0.001,0.5,1.2\n2,0.001,0.75,0.5\n"
DAMAGED = {
    "empty": b"",
    "cut in the header": LOG[:15],
    "without rows": LOG[:34],
    "cut in a row": LOG[:-9],
    "a word": LOG.replace(b"0.5", b"half"),
    "a value too many": LOG + b"3,1,1,1,1\n",
    "a column lacks": LOG.replace(b"loss", b"lost"),
    "epoch 0": LOG.replace(b"\n1,", b"\n0,"),
    "not a number": LOG.replace(b"1.2", b"nan"),
    "other bytes": b"\xff\xfe\x00",
}


def test_any_log_is_read_or_refused_in_a_line(tmp_path):
    search(edited(LOG), lambda path: read_rows(path, "epoch", "loss"), 0.03, tmp_path, "net-01.csv")


@pytest.mark.parametrize("damage", [*DAMAGED, "gone"])
@pytest.mark.parametrize(("draw", "suffix"), [(run_pictures.curves, ".csv"), (run_pictures.steps, ".steps.csv")])
def test_a_picture_of_a_damaged_log_is_refused_by_the_name_of_the_file(draw, suffix, damage, trained, tmp_path):
    folder = shutil.copytree(trained / "runs" / "bag", tmp_path / "bag")
    path = run_folder.net_file(folder, 1, suffix)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(DAMAGED[damage].replace(b"epoch", run_pictures.COLUMNS[suffix][0].encode()))
    with pytest.raises(UserError, match=f"net-01{suffix} cannot be read"):
        draw(folder, run_folder.read_config(folder))
