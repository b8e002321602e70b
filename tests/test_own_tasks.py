"""The page on task families shows the example file, which becomes one by the steps it names."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import small
import yaml

EXAMPLE = small.ROOT / "examples" / "square.py"
PAGE = (small.ROOT / "docs" / "own-tasks.md").read_text(encoding="utf-8")

STEPS = {
    "from metabench.learning.tasks.sine_or_line import SineOrLine, SineOrLineDistribution\n": (
        "from metabench.learning.tasks.square import SquareDistribution\n"
    ),
    "    | DigitsDistribution": "\n    | SquareDistribution",
    "        DigitsDistribution,\n": "        SquareDistribution,\n",
}
"""What is added after which lines of the registry: the import, `AnyDistribution`, `FAMILIES`."""

PROGRAM = """
import json, sys
from metabench.learning.tasks import FAMILIES, Bank, TaskStream
from metabench.study import config

study = config.parse(json.loads(sys.argv[1]))
assert study.tasks == FAMILIES["square"](amplitude=(1.0, 5.0))
stream, bank = TaskStream(study.tasks, (0, 1), 3), Bank(0, "test-bank", study.tasks, 50)
heights = bank.drawn(study.tasks.grid).abs().amax(-2)
assert heights.min() >= 1 and heights.max() <= 5 and (heights > 3).double().mean() > 0.3
assert stream.block(0).support(5).y.isfinite().all()
print("done")
"""


def test_the_page_shows_the_whole_file() -> None:
    assert f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```" in PAGE


def test_a_study_has_these_tasks_once_the_steps_are_taken(tmp_path: Path) -> None:
    shutil.copytree(small.ROOT / "metabench", tmp_path / "metabench")
    folder = tmp_path / "metabench" / "learning" / "tasks"
    shutil.copy(EXAMPLE, folder / "square.py")
    registry = (folder / "__init__.py").read_text()
    for before, added in STEPS.items():
        assert registry.count(before) == 1
        registry = registry.replace(before, before + added)
    (folder / "__init__.py").write_text(registry)
    (keys,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    text = json.dumps(small.tiny(**yaml.safe_load(keys)))
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.stdout == "done\n", answer.stderr
