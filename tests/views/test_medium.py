"""Figures for a paper: as wide as its columns, in its letters, with captions in place of titles."""

from functools import partial
from pathlib import Path

import handmade
import matplotlib
import pytest
import rendered
from click.testing import CliRunner
from matplotlib.figure import Figure
from matplotlib.text import Text

from metabench.cli import main
from metabench.records import manifests
from metabench.views import figures
from metabench.views.drawing import medium
from metabench.views.drawing.reading import Tables
from metabench.views.figures import Picture

PICTURES = figures.of_study(handmade.FIELDS)
of_each = pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return Tables(handmade.write(handmade.tables(), tmp_path_factory.mktemp("made") / "tables"))


@pytest.fixture(scope="module")
def drawn(tables: Tables) -> dict[tuple[str, str], Figure]:
    """Every figure by its stem and what it is drawn for."""
    return {
        (picture.stem, look): rendered.drawn(partial(picture.draw, tables), look)
        for picture in PICTURES
        for look in medium.MEDIA
    }


def written(figure: Figure) -> list[Text]:
    """Return all that can be read in a figure."""
    found = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


@of_each
def test_a_figure_for_a_paper_is_as_wide_as_a_column_and_nothing_leaves_it(
    picture: Picture, drawn: dict[tuple[str, str], Figure]
) -> None:
    figure = drawn[picture.stem, "paper"]
    one = picture.family.key in ("adaptation", "distance", "profiles")
    assert figure.get_figwidth() == (3.5 if one else 7.2)
    for name, box in rendered.boxes(figure).items():
        assert rendered.within(box), name


@of_each
def test_letters_of_a_paper_can_be_read_at_their_size(
    picture: Picture, drawn: dict[tuple[str, str], Figure]
) -> None:
    found = written(drawn[picture.stem, "paper"])
    assert {text.get_fontname() for text in found} == {"STIXGeneral"}
    assert min(text.get_fontsize() for text in found) >= 7
    assert max(text.get_fontsize() for text in found) == 9


@of_each
def test_what_a_title_says_on_a_screen_is_kept_for_the_caption_in_a_paper(
    picture: Picture, drawn: dict[tuple[str, str], Figure]
) -> None:
    screen, paper = (drawn[picture.stem, look] for look in medium.MEDIA)
    label = str(screen.get_label())
    assert label == str(paper.get_label())
    if label:
        assert label in {text.get_text() for text in written(screen)}
        assert label not in {text.get_text() for text in written(paper)}


def test_a_paper_has_a_caption_of_every_figure_and_a_screen_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = handmade.write(handmade.tables(), tmp_path / "tables")
    few = [picture for picture in PICTURES if picture.stem in ("profiles_standard", "trials")]
    monkeypatch.setattr(figures, "of_study", lambda *_: few)
    for style in ("screen", "paper"):
        line = ["figures", "--tables", str(folder), "--out", str(tmp_path / style)]
        answer = CliRunner().invoke(main, [*line, "--format", "pdf", "--style", style])
        assert answer.exit_code == 0, answer.output
        kept = set(manifests.read(tmp_path / style)["files"])
        assert kept - {figures.CAPTIONS} == {"profiles_standard.pdf", "trials.pdf"}
        assert (figures.CAPTIONS in kept) == (style == "paper")
    captions = (tmp_path / "paper" / figures.CAPTIONS).read_text()
    for picture in few:
        assert f"## {picture.stem}\n" in captions and picture.caption.strip() in captions
    assert f"Title: standard protocol: {handmade.SEEDS} seeds × {handmade.TASKS} tasks." in captions


def test_a_screen_is_drawn_for_again_once_a_paper_was() -> None:
    with pytest.raises(ZeroDivisionError), medium.settings("paper"):
        assert medium.medium() is medium.PAPER
        raise ZeroDivisionError
    assert medium.medium() is medium.SCREEN
    assert matplotlib.rcParams["font.family"] != ["STIXGeneral"]
