"""Any file of a run, however damaged, is read or refused in a line."""

import json

import numpy as np
import pytest
from fuzz import any_json, edited, search
from hypothesis import strategies as st

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
