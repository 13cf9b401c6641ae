"""Any saved net, however damaged, is read or refused in a line."""

import io
import zipfile

import keras
from fuzz import edited, search
from hypothesis import strategies as st

from recognizer.nn import saved_net


def test_any_saved_net_is_read_or_refused_in_a_line(tmp_path):
    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    model.save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def zipped(parts):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        return file.getvalue()

    one = st.sampled_from(sorted(members)).flatmap(
        lambda name: edited(members[name]).map(lambda content: zipped(members | {name: content}))
    )
    search(one | edited(zipped(members)), saved_net.read_net, 0.01, tmp_path, "net.keras")
