"""The precision that nets compute in is the fastest that the processor has."""

import keras
import pytest

from recognizer.nn.precision import _native_precisions, native_precision


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("fpu sse2 avx512f avx512_bf16", True),
        ("fpu amx_bf16 amx_tile", True),
        ("fpu avx512f avx512_vnni", False),
        ("", False),
    ],
)
def test_bfloat16_is_chosen_where_the_processor_computes_it(flags, native, tmp_path):

    if any(not device.startswith("cpu") for device in keras.distribution.list_devices()):
        pytest.skip("a GPU decides for itself")
    cpuinfo = tmp_path / "cpuinfo"
    assert not _native_precisions(cpuinfo)  # a system that does not tell
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n")
    assert _native_precisions(cpuinfo) == ["bfloat16"] * native
    assert native_precision("float32") == "float32"
