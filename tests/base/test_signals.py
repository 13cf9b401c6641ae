"""A signal ends a script within five seconds, in one line, whatever the script does at that moment."""

import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

SCRIPT = """
import sys; sys.path.insert(0, sys.argv[1])
import hashlib, os, time
from recognizer.base import environment, program


class Deleted:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[3]))
        time.sleep(0.01)


def sleeps():
    time.sleep(60)

def computes():
    '''Without a return to Python, as TensorFlow's steps and XLA's compiler.'''
    with environment.quiet():
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

def ignores():
    '''Python ignores what is raised in `__del__`.'''
    Deleted()
    for _ in range(60):
        time.sleep(0.1)

def main():
    print("begun")  # not flushed
    sys.stderr.write("begun")
    sys.stderr.flush()
    with program.stopping("stopped; go on"):
        globals()[sys.argv[2]]()
    print("went on")

what, sys.argv[0] = sys.argv[0], "train.py"
program.run(main)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("what", ["sleeps", "computes", "ignores"])
def test_a_signal_ends_a_script_in_five_seconds_and_one_line(what, number, code):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(ROOT), what, str(int(number))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr.read(5) == "begun"
    time.sleep(0.3)
    if what != "ignores":
        process.send_signal(number)
    started = time.monotonic()
    out, told = process.communicate(timeout=60)
    assert time.monotonic() - started < 5
    assert (process.returncode, out, told) == (code, "begun\n", "\ntrain.py: stopped; go on\n")
