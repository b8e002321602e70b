"""YAML and JSON are read into mappings, and ambiguous input is rejected."""

from datetime import date

import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import accepted_or_refused, in_one_line

from metabench.study import config, limits
from metabench.study.config import ConfigError

checked = settings(deadline=None, derandomize=True, database=None)

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))

# Text of a file, and what the message must say.
FILES = {
    "a duplicate key": ("seeds: 3\nstudy: flux\nseeds: 4\n", ["duplicate key 'seeds'", "line 3"]),
    "a duplicate key inside": (
        "tasks:\n  phase: [0, 1]\n  phase: [0, 2]\n",
        ["duplicate key 'phase'", "line 3"],
    ),
    "a duplicate key in another spelling": (
        "seeds: 3\n'seeds': 4\n",
        ["duplicate key 'seeds'", "line 2"],
    ),
    "an alias": ("cells: &a [1]\nprotocols: *a\n", ["aliases are not allowed", "*a", "line 2"]),
    "an alias of itself": ("cells: &a [*a]\n", ["aliases are not allowed", "*a", "line 1"]),
    "aliases that double sixty times": (BOMB, ["aliases are not allowed", "*a0", "line 2"]),
    "a merged mapping": ("<<: {seeds: 3}\n", ["a key must be a word", "line 1"]),
    "a list": ("- study: flux\n", ["must be a mapping", "list"]),
    "a word": ("flux\n", ["must be a mapping", "str"]),
    "nothing": ("", ["must be a mapping", "NoneType"]),
    "a comment": ("# study: flux\n", ["must be a mapping", "NoneType"]),
    "two documents": ("study: flux\n---\nstudy: smoke\n", ["cannot read", "single document"]),
    "no YAML": ("study: [flux\n", ["cannot read"]),
    "a tab": ("study:\n\t- flux\n", ["cannot read"]),
    "an object of Python": (
        "study: !!python/object/apply:os.getcwd []\n",
        ["tags are not allowed", "line 1"],
    ),
    "a template that runs Python": (
        "__use_yte__: true\nstudy: ?print(1)\n",
        ["templates are not allowed"],
    ),
    "a control character": ("study: \x00flux\n", ["cannot read"]),
    "a list as key": ("? [a, b]\n: 1\n", ["a key must be a word", "line 1"]),
    "a mapping as key": ("? {a: b}\n: 1\n", ["a key must be a word", "line 1"]),
    "a date as key": ("2019-01-01: 1\n", ["a key must be a word", "line 1"]),
    "a truth value as key": ("study: flux\non: 1\n", ["a key must be a word", "line 2"]),
    "nothing as key": ("~: 1\n", ["a key must be a word", "line 1"]),
    "a day that is no day": ("study: 2019-13-45\n", ["cannot read"]),
    "a truth value that is none": ("seeds: !!bool three\n", ["tags are not allowed", "bool"]),
    "a time that is none": ("study: !!timestamp three\n", ["tags are not allowed", "timestamp"]),
    "bytes": ("study: !!binary aGk=\n", ["tags are not allowed", "binary"]),
    "a tag of its own": ("study: !flux x\n", ["tags are not allowed", "!flux"]),
    "the sign of a default value": ("study: =\n", ["cannot read"]),
    "an octal number": ("seeds: 010\n", ["decimal digits", "got 010 in line 1"]),
    "a number to the base of sixty": ("seeds: 1:30\n", ["decimal digits", "got 1:30 in line 1"]),
    "a fraction to the base of sixty": (
        "showcase: {phase: 1:30.5}\n",
        ["decimal digits", "got 1:30.5 in line 1"],
    ),
    "a number with underscores": ("seeds: 1_000\n", ["decimal digits", "got 1_000 in line 1"]),
    "a hexadecimal number": ("seeds: 0x1f\n", ["decimal digits", "got 0x1f in line 1"]),
    "a binary number": ("seeds: 0b11\n", ["decimal digits", "got 0b11 in line 1"]),
    "a number of 5000 digits": (f"seeds: {'9' * 5000}\n", ["cannot read"]),
    "a thousand brackets": (f"seeds: {'[' * 1000}{']' * 1000}\n", ["cannot read"]),
    "a thousand braces": (f"seeds: {'{a: ' * 1000}1{'}' * 1000}\n", ["cannot read"]),
    "more than anybody writes": (f"# {'x' * limits.LARGEST}\n", ["100000 bytes at most"]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used_is_refused_with_one_clear_error(name, tmp_path):
    text, expected = FILES[name]
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    message = in_one_line(caught.value)
    missing = [text for text in (*expected, "study.yaml") if text not in message]
    assert not missing, message


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(ConfigError, match=f"cannot read {path}"):
            config.load(path)
    binary = tmp_path / "binary.yaml"
    for content in (b"study: \xff\xfe", bytes(range(256)), "study: flux".encode("utf-16")):
        binary.write_bytes(content)
        with pytest.raises(ConfigError, match="cannot read"):
            config.load(binary)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_is_no_study(device):
    with pytest.raises(ConfigError, match=device):
        config.load(device)


@pytest.mark.parametrize(
    "name", ["a b.v1.yaml", "it's.yaml", '"x".yaml', "$(id).yaml", "a;b", ".yaml", "-n", "ü.yaml"]
)
def test_a_file_may_have_any_name(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(small.FLUX.read_bytes())
    assert config.load(path) == small.flux().config


@pytest.mark.parametrize(
    ("before", "after"), [(b"\xef\xbb\xbf", b""), (b"%YAML 1.1\n---\n", b""), (b"", b"...\n")]
)
def test_a_byte_order_mark_and_the_marks_of_a_document_change_nothing(before, after, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes(before + small.FLUX.read_bytes().replace(b"\n", b"\r\n") + after)
    assert config.load(path) == small.flux().config


# How a file may spell what stands for `seeds`, and what is read.
WORDS = {
    "3": 3,
    "+3": 3,
    "-0": 0,
    "0.5": 0.5,
    ".5": 0.5,
    "1.": 1.0,
    "-1.5e+3": -1500.0,
    "1.0e-4": 0.0001,
    "1e3": "1e3",
    "1e-4": "1e-4",
    "'010'": "010",
    "on": True,
    "off": False,
    "yes": True,
    "no": False,
    "y": "y",
    "'on'": "on",
    "~": None,
    "2019-01-01": date(2019, 1, 1),
    ".inf": float("inf"),
}


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_a_file_is_read_as_this(word, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(f"seeds: {word}\n")
    assert repr(config.read(path)["seeds"]) == repr(WORDS[word])


def read_or_refused(path):
    try:
        content = config.read(path)
    except ConfigError as error:
        return str(path) in str(error) and "\n" not in str(error)
    return accepted_or_refused(content)


PIECES = [
    *":-?[]{},&*!|>'\"%@`#=~. \n\t",
    "- ",
    ": ",
    "<<",
    "...",
    "---",
    "0x1",
    "1:2",
    "1e3",
    "on",
    "!!int",
    "study",
]


@settings(checked, max_examples=200)
@given(
    content=st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | st.lists(st.sampled_from(PIECES)).map(lambda pieces: "".join(pieces).encode())
)
def test_any_bytes_give_a_study_or_a_config_error(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    assert read_or_refused(path)


@settings(checked, max_examples=50)
@given(
    at=st.integers(0, 2000),
    cut=st.integers(0, 5),
    piece=st.sampled_from(PIECES) | st.text(max_size=3),
)
def test_any_slip_in_a_good_file_gives_a_study_or_a_config_error(at, cut, piece, tmp_path_factory):
    text, path = small.FLUX.read_text(), tmp_path_factory.getbasetemp() / "slip.yaml"
    path.write_text(text[:at] + piece + text[at + cut :])
    assert read_or_refused(path)


# Text that stands for a JSON object, and what the message must say.
TEXTS = {
    "nothing": ("", "not a JSON text"),
    "a word": ("flux", "not a JSON text"),
    "YAML": ("study: flux", "not a JSON text"),
    "a list": ("[1]", "a JSON object, got list"),
    "a number": ("1", "a JSON object, got int"),
    "null": ("null", "a JSON object, got NoneType"),
    "NaN": ('{"a": NaN}', "a number must be finite, got NaN"),
    "infinity": ('{"a": [1, -Infinity]}', "a number must be finite, got -Infinity"),
    "a duplicate key": ('{"a": 1, "b": 2, "a": 1}', "the duplicate key 'a'"),
    "a duplicate key inside": ('{"a": {"b": 1, "b": 2}}', "the duplicate key 'b'"),
    "a number of 5000 digits": (f'{{"a": {"9" * 5000}}}', "not a JSON text"),
    "a thousand brackets": (f'{{"a": {"[" * 9000}{"]" * 9000}}}', "not a JSON text"),
    "two objects": ("{} {}", "not a JSON text"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_no_json_object_is_refused(name):
    text, expected = TEXTS[name]
    with pytest.raises(ConfigError, match=expected) as caught:
        config.read_json(text, "study.json")
    assert in_one_line(caught.value).endswith("(study.json)")


def test_a_json_object_is_read_as_it_is():
    assert config.read_json('{"a": [1, 0.5, null, "x"]}', "study.json") == {
        "a": [1, 0.5, None, "x"]
    }
