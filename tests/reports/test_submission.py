"""What predict.py writes is a whole submission of the right rows, overwrites nothing else, and measures honestly."""

import errno
import json
import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_one_line_error, copied, read_submission, script, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import predict
from recognizer.base.errors import UserError
from recognizer.data import arrays, sources
from recognizer.reports import report_page, run_table, submission
from recognizer.runs import run_folder
from recognizer.training import predicting


def unnamed(n):
    return arrays.Images(np.zeros((n, 28, 28), np.uint8), None, "")


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=3000), st.from_regex(r"[\w][\w .+-]{0,30}", fullmatch=True))
def test_a_submission_has_every_row_once_in_order_under_any_name(labels, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.csv")
        for some in (labels[:1], labels):  # the second time over the first
            submission.check_out(path)
            submission.write_submission(path, np.array(some), unnamed(len(some)))
            np.testing.assert_array_equal(read_submission(path), some)
        assert [p.name for p in Path(folder).iterdir()] == [path.name]


@pytest.mark.parametrize("step", range(1, 4))
def test_a_submission_that_cannot_be_written_leaves_the_one_before_whole(step, tmp_path, monkeypatch):
    path = tmp_path / "s.csv"
    submission.write_submission(path, np.array([1, 2, 3]), unnamed(3))
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*[(Path, "write_bytes"), (os, "fsync"), (os, "replace")][step - 1], full)
    with pytest.raises(
        UserError, match=r"s\.csv cannot be written \(No space left on device\): an existing file is unchanged"
    ):
        submission.write_submission(path, np.array([4, 5, 6, 7]), unnamed(4))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.csv"]


def test_on_kaggle_the_submission_is_also_where_kaggle_expects_it(trained, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    copied(trained, tmp_path, "bag")
    write_csv(tmp_path / "kaggle.csv", digits.test.x[:30])
    monkeypatch.setattr(arrays, "KAGGLE_TEST_ROWS", 30)
    working = tmp_path / "working"
    monkeypatch.setattr(submission, "WORKING", working)
    monkeypatch.setattr(
        predicting, "mean_probabilities", lambda folders, configs, test, what: np.eye(10)[np.arange(len(test.x)) % 10]
    )
    told, kaggles = f"Submission: {working / 'submission.csv'}", working / "submission.csv"

    def predicted(*arguments):
        predict.main(["bag", *map(str, arguments)])
        return capsys.readouterr()

    elsewhere = predicted("--test", "kaggle.csv").out  # not on Kaggle
    assert told not in elsewhere
    assert f"kaggle.csv (upload it at {submission.UPLOAD}, or add --submit)\n" in elsewhere
    assert not working.exists()
    working.mkdir()
    others = predicted().out
    assert told not in others
    assert "bag.csv (not for Kaggle: these are not the competition's test rows)\n" in others
    assert list(working.iterdir()) == []
    for _ in range(2):  # the second time over the first
        assert told in predicted("--test", "kaggle.csv").out
        assert kaggles.read_bytes() == (tmp_path / "submissions" / "bag-kaggle.csv").read_bytes()
        assert [path.name for path in working.iterdir()] == ["submission.csv"]
    kaggles.write_text("precious")
    said = predicted("--test", "kaggle.csv")
    assert said.err.endswith(f"{kaggles} is not a submission, so it was not overwritten\n")
    assert kaggles.read_text() == "precious"
    kaggles.unlink()
    assert predicted("--test", "kaggle.csv", "--out", kaggles).out.count(str(kaggles)) == 1
    assert len(read_submission(kaggles)) == 30
    kaggles.unlink()
    write_csv(tmp_path / "kaggle.csv", digits.train.x[:30])
    assert told not in predicted("--test", "kaggle.csv", "--allow-leak").out
    assert not kaggles.exists()


def test_test_images_whose_labels_the_run_has_seen_are_refused_and_marked_when_allowed(
    trained, digits, monkeypatch, capsys
):
    monkeypatch.chdir(trained)
    mixed = np.concatenate([digits.test.x[:20], digits.train.x[[3, 700, 1400]]])
    write_csv(trained / "mixed.csv", mixed)
    process = script("predict.py", "bag", "--test", "mixed.csv", "--out", "submissions/mixed.csv", cwd=trained)
    assert_one_line_error(process, "3 of these 23 test images", "among the labelled images of bag", "--allow-leak")
    assert not (trained / "submissions" / "mixed.csv").exists()
    predict.main(["bag", "--test", "mixed.csv", "--allow-leak", "--out", "submissions/mixed.csv"])
    assert "3 of its images were among the labelled images" in capsys.readouterr().out
    assert len(read_submission(trained / "submissions" / "mixed-leak.csv")) == 23
    assert not (trained / "submissions" / "mixed.csv").exists()
    # An image in which one pixel differs is another image.
    mixed[20:, 0, 0] += 1
    write_csv(trained / "near.csv", mixed)
    predict.main(["bag", "--test", "near.csv"])
    assert len(read_submission(trained / "submissions" / "bag-near.csv")) == 23


@pytest.mark.parametrize("result", [{"accuracy": 0.9}, {"accuracy": "high", "rows": 3}], ids=["rows", "text"])
def test_a_result_that_is_no_runs_is_told_in_one_line(result, trained, tmp_path):
    (folder,) = copied(trained, tmp_path, "bag")
    (folder / "result.json").write_text(json.dumps({"ensemble_validation": result}))
    with pytest.raises(UserError, match=r"result\.json is not the result of a run"):
        submission.print_validation(folder, run_folder.read_config(folder))


# What a folder's test.csv begins with (a column of ids or of file names), and the submission.
NAMED = [
    ("id", "label", "id,label"),
    ("ImageId", "Label", "ImageId,Label"),
    ("", "label", ",label"),
    ("Unnamed: 0", "label", "Unnamed: 0,label"),
    ("filename", "digit", "filename,digit"),
]


@pytest.mark.parametrize(("ids", "label", "header"), NAMED)
@pytest.mark.parametrize("labelled", [False, True])
def test_ids_and_file_names_go_into_the_submission_as_they_are(
    ids, label, header, labelled, trained, digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    copied(trained, tmp_path, "bag")
    test, names = digits.test, [f"{40 + i}.png" for i in range(12)]
    if ids != "filename":
        names = [f"{907 - 3 * i}" for i in range(12)]
        write_csv(tmp_path / "set.csv", test.x[:12], test.y[:12] if labelled else None)
        lines = (tmp_path / "set.csv").read_text().replace("label,", f"{label},").splitlines()
        (tmp_path / "set.csv").write_text("".join(f"{a},{b}\n" for a, b in zip([ids, *names], lines, strict=True)))
    else:
        for name, x in zip(names, test.x, strict=False):
            Image.fromarray(x).save(tmp_path / name)
        rows = zip(["filename", *names], [label, *map(str, test.y[:12])], strict=True)
        (tmp_path / "set.csv").write_text("".join(f"{a},{b}\n" if labelled else f"{a}\n" for a, b in rows))
    monkeypatch.setattr(predicting, "mean_probabilities", lambda *_: np.eye(10)[test.y[:12]])
    for _ in range(2):  # the second time over the first, and from the cache
        predict.main(["bag", "--test", "set.csv"])
        rows = (tmp_path / "submissions" / "bag-set.csv").read_text().splitlines()
        assert rows[0] == (header if labelled or ids != "filename" else "filename,label")
        assert rows[1:] == [f"{name},{y}" for name, y in zip(names, test.y[:12], strict=True)]
        assert ("Test accuracy: 100.00%" in capsys.readouterr().out) == labelled


def test_a_csv_like_a_submission_is_overwritten_only_where_predictions_were_written(tmp_path):
    (tmp_path / "train.csv").write_text("filename,label\na.png,3\n")
    with pytest.raises(UserError, match="is not a submission"):
        submission.check_out(tmp_path / "train.csv")


@pytest.mark.parametrize("names", [["a\udce9.png", "b.png"], ["\udcff", "\udcfe"], ["写.png", "é.png"]], ids=ascii)
def test_names_of_files_that_are_not_utf_8_are_written_into_tables_and_pages(names, digits, tmp_path):
    written = arrays.images("", digits.train.x[:2], ids=np.array(names), columns=("file", "label"))
    submission.write_submission(tmp_path / "s.csv", np.array([3, 8]), written)
    told = [name.encode(errors="backslashreplace").decode() for name in names]
    assert (tmp_path / "s.csv").read_text(encoding="utf-8") == f"file,label\n{told[0]},3\n{told[1]},8\n"
    run_table.write(
        tmp_path / "runs.html", report_page.render("runs.html", title="", columns=names, numbers=[], rows=[])
    )
    assert told[0] in (tmp_path / "runs.html").read_text(encoding="utf-8")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(write_csv(tmp_path / "a.csv", digits.train.x[:9], digits.train.y[:9]), f"{names[0]}.csv")
    np.testing.assert_array_equal(sources.load(str(tmp_path / "set.tar")).train.x, digits.train.x[:9])


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("kaggle", "bag-kaggle"),
        ("sets/mnist.npz", "bag-mnist"),
        ("sets/train.csv.GZ", "bag-train"),
        ("t10k-images.idx3-ubyte.gz", "bag-t10k-images.idx3-ubyte"),
        ("scans/2024.01.05", "bag-2024.01.05"),
        ("scans/2024.01.06.zip", "bag-2024.01.06"),
        ("own/test.csv", "bag-own-test"),
        (".", "bag-{}"),
        ("own/..", "bag-{}"),
    ],
)
def test_the_predictions_of_each_test_set_have_a_file_of_their_own(test, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = predict.parser().parse_args(["bag", "--test", test])
    assert predict.output(arguments, "bag") == Path("submissions", f"{name.format(tmp_path.name)}.csv")


@pytest.mark.parametrize("options", [[], ["--test", "kaggle"], ["--images", "a.png"]], ids=str)
def test_the_names_of_many_runs_need_a_name_for_their_file(options):
    name = "+".join(f"deotte-sweep-1-{i}" for i in range(15))
    with pytest.raises(UserError, match=r"^deotte-sweep-1-0.*\.\.\. is too long for the name of a file: .* --out$"):
        predict.output(predict.parser().parse_args(options), name)
    assert predict.output(predict.parser().parse_args([*options, "--out", "a.csv"]), name) == Path("a.csv")
