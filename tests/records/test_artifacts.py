import json
import os
import subprocess
import sys

import numpy as np
import pytest
import small

from metabench.records.artifacts import (
    ArtifactError,
    content_digest,
    read,
    replacing,
    require,
    write,
)

ARRAYS = {
    "theta": np.array([[1.5, -0.0], [np.nan, np.inf]], dtype=np.float32),
    "diverged_at": np.array([0, 7]),
    "test/standard/own": np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    "none": np.zeros((0, 2)),
}
HEADER = {
    "kind": "train",
    "config": "0123456789abcdef",
    "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
}


def file(tmp_path, name="record.safetensors"):
    path = tmp_path / name
    write(path, ARRAYS, HEADER)
    return path


def test_what_is_written_is_read_again_bit_for_bit(tmp_path):
    arrays, header = read(file(tmp_path))
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()
    assert header == {**HEADER, "content": content_digest(ARRAYS)}


WRITER = """
import numpy as np
from metabench.records.artifacts import write
names = {names!r}
header = {{name: {{"b": 1, "a": [2, name]}} for name in names}}
write({path!r}, {{name: np.full((2, 3), len(name), np.float32) for name in names}}, header)
"""


def test_the_bytes_of_a_file_do_not_depend_on_the_process_or_on_the_order_of_names(tmp_path):
    names, contents = ["theta", "diverged_at", "z", "a/b", "validation_loss"], []
    for seed, order in ((1, names), (2, names[::-1])):
        path = tmp_path / f"{seed}.safetensors"
        code = WRITER.format(names=order, path=str(path))
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(small.ROOT)}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    path = file(tmp_path)
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 7), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ArtifactError, match=str(path)):
            read(path)


def test_a_file_that_goes_on_too_long_is_refused(tmp_path):
    path = file(tmp_path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ArtifactError):
        read(path)


def test_a_flipped_bit_of_an_array_is_refused(tmp_path):
    path = file(tmp_path)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for position in range(start, len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        with pytest.raises(ArtifactError):
            read(path)


def test_a_flipped_bit_anywhere_is_refused_before_the_file_is_used(tmp_path):
    path = tmp_path / "small.safetensors"
    write(path, {"a": np.ones(1, np.float32)}, {"kind": "train"})
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bit in range(8):
            path.write_bytes(
                whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :]
            )
            with pytest.raises(ArtifactError):
                require(path, read(path)[1], {"kind": "train"})


def test_what_is_not_an_artefact_is_refused(tmp_path):
    from safetensors.numpy import save_file

    foreign, text = tmp_path / "foreign.safetensors", tmp_path / "text.safetensors"
    save_file({"theta": np.zeros(3)}, foreign)
    text.write_text("a,b\n1,2\n")
    for path in (foreign, text, tmp_path, tmp_path / "absent.safetensors"):
        with pytest.raises(ArtifactError, match=str(path)):
            read(path)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "{"])
def test_a_header_of_another_form_is_refused(text, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "record.safetensors"
    save_file({"theta": np.zeros(3)}, path, metadata={"metabench": text})
    with pytest.raises(ArtifactError):
        read(path)


def test_an_artefact_made_from_something_else_is_refused_with_the_entry_that_differs(tmp_path):
    path = file(tmp_path)
    _, header = read(path)
    require(path, header, HEADER)
    with pytest.raises(ArtifactError, match=r"different config: expected fedc.*found 0123"):
        require(path, header, {**HEADER, "config": "fedc"})
    with pytest.raises(ArtifactError, match="different code"):
        require(path, header, {**HEADER, "code": "0123"})


def test_the_digest_of_a_content_covers_names_types_shapes_and_bytes():
    base = content_digest({"a": np.arange(6)})
    assert content_digest({"a": np.arange(6)}) == base
    others = [
        {"b": np.arange(6)},
        {"a": np.arange(6.0)},
        {"a": np.arange(6).reshape(2, 3)},
        {"a": np.arange(6) + 1},
    ]
    assert base not in {content_digest(other) for other in others}


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = file(tmp_path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="disk full"), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("disk full")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_header_that_is_not_json_leaves_the_old_file(tmp_path):
    path = file(tmp_path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write(path, ARRAYS, {"kind": object()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_as_a_whole_and_its_folder_is_made(tmp_path):
    path = tmp_path / "new" / "folder" / "table.csv"
    for text in ("first", "second"):
        with replacing(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.suffix == path.suffix
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_the_header_stands_in_the_file_as_json(tmp_path):
    from safetensors import safe_open

    with safe_open(file(tmp_path), framework="numpy") as opened:
        metadata = opened.metadata()
    assert list(metadata) == ["metabench"], "one key: the library writes several in random order"
    assert json.loads(metadata["metabench"])["kind"] == "train"
