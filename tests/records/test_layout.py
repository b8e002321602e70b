"""The paths of a study's files: each defined once, all below its folder."""

from pathlib import Path

import pytest

from metabench.records.layout import RESULTS, Layout

HERE = Layout(RESULTS / "flux")
CELLS = ("fomaml/inner-0.02_meta-0.01", "reptile/inner-0.02_meta-0.1")
BLOCKS = ("0-9", "10-19")
GROUPS = ("standard", "robustness")


def every_path(layout):
    """A path of each kind for two of everything that it is made of."""
    yield from (layout.study, layout.lock, layout.tables, layout.provenance)
    yield from (layout.figures, layout.literature)
    yield from (layout.study_marker(store) for store in ("a", "b"))
    yield from (layout.baselines(group) for group in GROUPS)
    for cell in CELLS:
        for seeds in BLOCKS:
            yield layout.checkpoint(cell, seeds)
            yield layout.trained(cell, seeds)
            yield layout.log("train", cell, seeds)
            yield layout.benchmark("train", cell, seeds)
            for group in GROUPS:
                yield layout.evaluated(cell, group, seeds)
            for store in ("a", "b"):
                yield layout.marker(store, cell, seeds)


def test_no_two_files_share_a_path_and_all_lie_below_the_study():
    found = list(every_path(HERE))
    assert len(set(found)) == len(found)
    assert HERE.root == RESULTS / "flux"
    for path in found:
        assert path.is_relative_to(HERE.root)


def test_no_file_lies_where_another_has_its_folder():
    found = set(every_path(HERE))
    for path in found:
        assert not found & set(path.parents)


def test_another_folder_has_the_same_files(tmp_path):
    there = [path.relative_to(tmp_path) for path in every_path(Layout(tmp_path))]
    assert there == [path.relative_to(HERE.root) for path in every_path(HERE)]


@pytest.mark.parametrize("name", ["trained", "checkpoint"])
def test_parts_of_a_path_may_be_wildcards_of_snakemake(name):
    pattern = str(getattr(HERE, name)("{algorithm}/{cell}", "{seeds}"))
    filled = pattern.format(algorithm="reptile", cell="inner-0.02_meta-0.1", seeds="0-9")
    assert Path(filled) == getattr(HERE, name)(CELLS[1], "0-9")


def test_a_record_says_its_cell_and_its_seeds():
    assert str(HERE.trained(CELLS[1], "0-9")) == (
        "results/flux/train/reptile/inner-0.02_meta-0.1/0-9.safetensors"
    )
    assert str(HERE.evaluated(CELLS[1], "standard", "0-9")) == (
        "results/flux/evaluate/reptile/inner-0.02_meta-0.1/standard/0-9.safetensors"
    )
