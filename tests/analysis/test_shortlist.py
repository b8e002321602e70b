"""The short list: which candidates of a wide study a narrow one uses."""

import pandas as pd
import pytest
import yaml
from small import ROOT, content, study

from metabench.analysis import frames, shortlist
from metabench.analysis.columns import HYPERPARAMETERS
from metabench.study.messages import ConfigError


def tables(folder, **columns):
    """Write tables of four cells of FOMAML, the second of which is only best by the common step."""
    names = ["a", "b", "c", "d"]
    cells = pd.DataFrame(
        {
            **dict.fromkeys(HYPERPARAMETERS),
            "algorithm": "fomaml",
            "cell": names,
            "meta_iterations": [10, 20, 30, 40],
            "meta_step_size": [0.1, 0.2, 0.3, 0.4],
            "inner_step_size": 0.02,
            "shots": 10,
            "inner_steps": [1, 5, 1, 5],
            "meta_clip": [None, 1.0, None, None],
            **columns,
        }
    )
    scores = {
        ("near", "own"): [0.2, 0.4, 0.3, 0.5],
        ("near", "common"): [0.9, 0.1, 0.9, 0.9],
        ("far", "own"): [0.3, 0.5, 0.4, 0.2],
    }
    selection = pd.concat(
        pd.DataFrame({"cell": names, "protocol": protocol, "step": step, "validation_score": found})
        for (protocol, step), found in scores.items()
    )
    frames.write(cells, folder / "cells.csv")
    frames.write(selection.assign(algorithm="fomaml"), folder / "selection.csv")
    return folder


@pytest.mark.parametrize(
    ("best", "kept"), [(1, [10, 40]), (2, [10, 30, 40]), (3, [10, 20, 30, 40])]
)
def test_each_protocol_keeps_its_best_cells_by_their_own_step(tmp_path, best, kept):
    found = shortlist.groups(tables(tmp_path), best)
    assert [group["meta_iterations"] for group in found] == kept


def test_a_group_says_what_differs_from_the_defaults(tmp_path):
    _, second, *_ = shortlist.groups(tables(tmp_path), 3)
    assert second == {
        "algorithm": "fomaml",
        "meta_iterations": 20,
        "inner_step_size": 0.02,
        "inner_steps": 5,
        "meta_clip": 1.0,
        "meta_step_size": 0.2,
    }


def test_what_is_printed_is_the_section_of_a_study_file(tmp_path):
    given = yaml.safe_load(shortlist.yaml_text(tables(tmp_path), 3))
    cells = study(content(**given)).cells
    assert [cell.meta_iterations for cell in cells] == [10, 20, 30, 40]
    assert [cell.hyperparameters.meta_clip for cell in cells] == [None, 1.0, None, None]


def test_cells_that_differ_in_their_network_are_no_short_list(tmp_path):
    found = tables(tmp_path, hidden=["8", "8", "16", "16"])
    with pytest.raises(ConfigError, match=r"hyperparameters alone; .* also differ in hidden"):
        shortlist.groups(found, 1)


def test_an_algorithm_that_lies_elsewhere_is_named(tmp_path):
    tables(tmp_path)
    for name in ("cells.csv", "selection.csv"):
        frames.write(frames.read(tmp_path, name).assign(algorithm="prox"), tmp_path / name)
    with pytest.raises(ConfigError, match="prox"):
        shortlist.groups(tmp_path, 1)


def test_the_study_of_all_algorithms_is_the_short_list_of_the_committed_search():
    listed = shortlist.groups(ROOT / "results" / "reference" / "search" / "tables", 2)
    narrow = yaml.safe_load((ROOT / "config" / "algorithms.yaml").read_text())["cells"]
    assert [group for group in narrow if "published" not in group] == listed
