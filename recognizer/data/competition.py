"""Downloads the competition's files and uploads a submission with Kaggle's own client (`pip install kaggle`)."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

from recognizer.base import environment
from recognizer.base.errors import UserError
from recognizer.base.reasons import reason

NAME = "digit-recognizer"
PAGE = f"https://www.kaggle.com/c/{NAME}"
SETTINGS = "https://www.kaggle.com/settings"


def fetch(folder: Path | str) -> Path:
    """Downloads digit-recognizer.zip into a folder and returns its path. Raises UserError that says what to do."""
    path = Path(folder) / f"{NAME}.zip"
    if path.exists():
        raise UserError(f"{path} is there already: remove it to download it anew")
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as part:  # an interrupted download leaves nothing
        with _client("downloaded") as client:
            client.competition_download_files(NAME, path=part, quiet=True)
        if not (Path(part) / path.name).is_file():
            raise UserError(f"Kaggle's client left no {path.name}: download it by hand from {PAGE}/data")
        os.replace(Path(part) / path.name, path)
    return path


def submit(path: Path | str, message: str) -> str:
    """Uploads a CSV as a submission and returns Kaggle's answer. Raises UserError that says what to do."""
    with _client(f"handed in; {path} is written; upload it at {PAGE}/submit") as client:
        response = client.competition_submit(str(path), message, NAME, quiet=True)
    told = getattr(response, "message", None) or str(response)
    if told.startswith("Could not submit"):
        raise UserError(f"Kaggle's client says {told!r}; {path} is written; upload it at {PAGE}/submit")
    return told


@contextlib.contextmanager
def _client(done):
    """Yields Kaggle's client, signed in. Raises UserError, which says "nothing was {done}", if it fails."""
    environment.need("kaggle", f"python -m pip install kaggle (nothing was {done})")
    try:
        with contextlib.redirect_stdout(io.StringIO()), environment.quiet():
            from kaggle.api.kaggle_api_extended import KaggleApi

            client = KaggleApi()
            client.authenticate()
            yield client
    except (Exception, SystemExit) as error:
        raise UserError(f"{_refusal(error)}; nothing was {done}") from error


def _refusal(error):
    """Returns what a failure of Kaggle's client means and what to do, as text."""
    if isinstance(error, SystemExit):
        return f"Kaggle's client has no credentials: make a token at {SETTINGS}, and save it where that page says"
    status = getattr(getattr(error, "response", None), "status_code", None) or getattr(error, "status", None)
    known = {
        403: f"Kaggle refuses: accept the competition's rules at {PAGE}/rules",
        401: f"Kaggle does not know the credentials: make a new token at {SETTINGS}",
    }
    return known.get(status, f"Kaggle's client failed ({reason(error)[:200]})")
