"""The tutorial shows the example file unchanged, and its statements about it are true."""

import re

import small
import yaml

from metabench import check_algorithm

TEXT = (small.ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def test_the_tutorial_shows_an_algorithm_of_less_than_40_lines():
    source = (small.ROOT / "examples" / "prox.py").read_text(encoding="utf-8")
    assert f"```python\n{source}```" in TEXT
    lines = len(source.splitlines())
    assert lines < 40
    assert f"write it in {lines} lines" in (small.ROOT / "README.md").read_text(encoding="utf-8")


def test_the_study_in_the_tutorial_has_the_cells_that_it_names(monkeypatch):
    monkeypatch.chdir(small.ROOT)  # where snakemake runs
    (cells,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    study = small.study(small.tiny(**yaml.safe_load(cells)))
    assert len(study.cells) == 9
    assert study.cell("prox/published").hyperparameters.strength == 0.5
    (named,) = re.findall(r"names such as `(.*?)`", TEXT)
    assert named in [cell.title for cell in study.cells]


def test_the_tutorial_counts_the_checks():
    assert f"It runs {len(check_algorithm.CHECKS)} checks" in TEXT
