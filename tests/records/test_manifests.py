import json

import pytest

from metabench.records import manifests
from metabench.records.artifacts import ArtifactError

HEADER = {"kind": "tables", "config": "0123"}


@pytest.fixture
def folder(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"{name}\n1\n")
    manifests.write(tmp_path, ["b.csv", "a.csv"], HEADER)
    return tmp_path


def test_a_manifest_says_what_its_files_were_made_from_and_has_the_same_bytes_each_time(folder):
    found, before = manifests.read(folder), (folder / manifests.NAME).read_bytes()
    assert {key: found[key] for key in HEADER} == HEADER and set(found["files"]) == {
        "a.csv",
        "b.csv",
    }
    manifests.write(folder, ["a.csv", "b.csv"], HEADER)
    assert (folder / manifests.NAME).read_bytes() == before


def test_the_content_is_that_of_the_files_whatever_they_were_made_from(folder):
    content = manifests.read(folder)["content"]
    manifests.write(folder, ["a.csv", "b.csv"], {"kind": "tables", "config": "4567"})
    assert manifests.read(folder)["content"] == content
    (folder / "a.csv").write_text("a.csv\n2\n")
    manifests.write(folder, ["a.csv", "b.csv"], HEADER)
    assert manifests.read(folder)["content"] != content


def test_a_file_that_is_missing_or_has_other_bytes_is_named(folder):
    (folder / "b.csv").write_text("b.csv\n2\n")
    with pytest.raises(ArtifactError, match=r"b\.csv is damaged or was changed"):
        manifests.read(folder)
    (folder / "b.csv").unlink()
    with pytest.raises(ArtifactError, match=r"b\.csv is missing"):
        manifests.read(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": 3}', '{"files": {}, "content": "0"}', "\udcff"]
)
def test_what_is_no_manifest_is_refused_with_its_place(folder, text):
    (folder / manifests.NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ArtifactError, match=manifests.NAME):
        manifests.read(folder)
    (folder / manifests.NAME).unlink()
    with pytest.raises(ArtifactError, match=manifests.NAME):
        manifests.read(folder)


def test_a_changed_digest_in_a_manifest_is_noticed(folder):
    content = json.loads((folder / manifests.NAME).read_text())
    content["files"]["a.csv"] = "0" * 64
    (folder / manifests.NAME).write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="does not match its own digest"):
        manifests.read(folder)
