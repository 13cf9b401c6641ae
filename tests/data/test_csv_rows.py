"""CSVs of pixels are read right, and each fault is one line with its row and column."""

import re

import pytest
from conftest import assert_one_line_error, script
from kaggle_files import assert_same

from recognizer.base.errors import UserError
from recognizer.data import sources

pytestmark = pytest.mark.usefixtures("alone")


def lines(edit):
    """A change of the list of lines of a CSV."""
    return lambda data: b"\n".join(edit(data.split(b"\n")))


def cell(row, column, value):
    """A change of one cell; row 0 is the header."""

    def edit(text):
        cells = text[row].split(b",")
        cells[column] = value
        return [*text[:row], b",".join(cells), *text[row + 1 :]]

    return lines(edit)


BAD = {
    "a missing column": (lines(lambda t: [line.rpartition(b",")[0] for line in t]), ["784 columns", "'pixel783'"]),
    "a misspelt column": (cell(0, 5, b"pixl4"), ["column 6 is 'pixl4' where 'pixel4' is needed"]),
    "a doubled column": (cell(0, 5, b"pixel3"), ["column 6 is 'pixel3' where 'pixel4' is needed"]),
    "reordered columns": (
        lambda d: d.replace(b"pixel3,pixel4,", b"pixel4,pixel3,"),
        ["column 5 is 'pixel4' where 'pixel3' is needed"],
    ),
    "no header and labels in the middle": (
        lines(lambda t: [line.partition(b",")[2] + b",255," + line[:1] for line in t[1:]]),
        ["786 columns without a header"],
    ),
    "text": (cell(2, 7, b"ink"), ["row 2 (line 3), column pixel6: 'ink'"]),
    "NaN": (cell(2, 7, b"NaN"), ["row 2 (line 3), column pixel6: 'NaN'"]),
    "nothing in a cell": (cell(2, 7, b""), ["row 2 (line 3), column pixel6: nothing"]),
    "a negative": (cell(40, 784, b"-1"), ["row 40 (line 41), column pixel783: '-1'"]),
    "256": (cell(3, 1, b"256"), ["row 3 (line 4), column pixel0: '256'"]),
    "a fraction": (cell(3, 1, b"1.5"), ["row 3 (line 4), column pixel0: '1.5'"]),
    "label 10": (cell(1, 0, b"10"), ["row 1 (line 2), column label: '10' is not a label"]),
    "a ragged row": (lines(lambda t: [*t[:4], t[4] + b",0", *t[5:]]), ["row 4 (line 5) has 786 columns"]),
    "a truncated file": (lambda d: d[:-900], ["row 40 (line 41)", "cut short"]),
    "an unclosed quotation": (cell(2, 7, b'"1'), ["row 2 (line 3): a quotation mark is not closed"]),
    "a blank line inside": (lines(lambda t: [*t[:4], b"", *t[4:]]), ["row 4 (line 5) is blank"]),
    "an empty file": (lambda d: b"", ["is empty"]),
    "a header alone": (lines(lambda t: t[:1]), ["a header and no rows"]),
    "a log-in page": (lambda d: b"<!DOCTYPE html><html>Sign in</html>", ["is a web page"]),
    "a PNG": (lambda d: b"\x89PNG\r\n\x1a\n" + bytes(100), ["is not a CSV"]),
    "UTF-16": (lambda d: d.decode().encode("utf-16"), ["UTF-16"]),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_csv_is_told_by_file_row_and_column(fault, kaggle_folder):
    change, told = BAD[fault]
    path = kaggle_folder / "train.csv"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError) as error:
        sources.load(str(kaggle_folder))
    for part in ["train.csv", *told]:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_test_csv_is_nothing_to_train_on_and_a_labelled_one_is_a_test_set(kaggle_folder, digits):
    told = r"has no labels, so nothing can be trained on it: predict it with predict\.py --test"
    with pytest.raises(UserError, match=told):
        sources.load(str(kaggle_folder / "test.csv"))
    test = sources.load_test(str(kaggle_folder / "train.csv"))
    assert test.y.tolist() == digits.train.y[:40].tolist()


def test_bom_crlf_quotes_and_blank_lines_at_the_end_are_accepted(kaggle_folder, digits):
    path = kaggle_folder / "train.csv"
    quoted = b"\n".join(
        b",".join(b'"' + cell + b'"' for cell in line.split(b",")) for line in path.read_bytes().split(b"\n")[:-1]
    )
    path.write_bytes(b"\xef\xbb\xbf" + quoted.replace(b"\n", b"\r\n") + b"\r\n\r\n\n")
    assert_same(sources.load(str(kaggle_folder)), digits)


def test_bad_data_ends_a_script_with_code_2_and_one_line(kaggle_folder, tmp_path):
    path = kaggle_folder / "train.csv"
    path.write_bytes(cell(3, 1, b"256")(path.read_bytes()))
    process = script("train.py", "--data", kaggle_folder, cwd=tmp_path)
    assert_one_line_error(process, "train.csv: row 3 (line 4), column pixel0: '256'")
    assert not (tmp_path / "runs").exists()
    process = script("train.py", "--data", tmp_path / "nowhere", cwd=tmp_path)
    assert_one_line_error(process, "no data at", "auto, kaggle, mnist, digits")
    for mistyped, meant in (("digit", "digits"), ("minst", "mnist"), (path.with_name("tran.csv"), path)):
        with pytest.raises(UserError, match=re.escape(f"(did you mean {meant}?)")):
            sources.load(str(mistyped))
