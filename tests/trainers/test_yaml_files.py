"""No YAML file runs anything or keeps the reader busy; each mistake has its file and line."""

import datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dassl.utils import UserError
from runs.folder import read_settings
from runs.merging import read_yaml
from tools.studies.file import read_study
from trainers.errors import MethodError
from trainers.exported import trained_settings
from trainers.prompts.pool import load_pool
from trainers.yaml_files import DEPTH, SIZE, VALUES, load, load_written

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)
# each anchor is 40 levels around the one before
TOWER = "".join(f"a{n}: &a{n} {'[' * 40}{f'*a{n - 1}' if n else 'x'}{']' * 40}\n" for n in range(9))
MISTAKES = {
    "nested aliases": (LAUGHS, f"line 5: more than {VALUES:,} values, each alias counted"),
    "many values": ("- 1\n" * (VALUES + 9), f"line {VALUES + 1}: more than {VALUES:,} values"),
    "aliases that nest": (TOWER, f"line 2: nested deeper than {DEPTH} levels"),
    "deep lists": ("a:\n  " + "[" * 100_000, f"line 2: nested deeper than {DEPTH} levels"),
    "deep dashes": ("- " * 100_000, f"line 1: nested deeper than {DEPTH} levels"),
    "deep mappings": ("{a: " * 100_000, f"line 1: nested deeper than {DEPTH} levels"),
    "deep keys": ("? " * 100_000, f"line 1: nested deeper than {DEPTH} levels"),
    "list in itself": ("a: 1\nb: &b [1, *b]", "line 2: an anchor contains itself"),
    "mapping in itself": ("&b\na: {<<: *b}", "line 2: an anchor contains itself"),
    "key in itself": ("&b\n? [*b]\n: 1", "line 2: an anchor contains itself"),
    "unknown alias": ("a: *b", "line 1, column 4: not valid YAML, found undefined alias 'b'"),
    "large file": ("a: " + "x" * SIZE, "more than 2 MiB"),
    "Latin-1": ("a: 1\n# caf\xe9".encode("latin-1"), "line 2: not UTF-8. Save the file as UTF-8."),
    "UTF-16": ("a: 1".encode("utf-16"), "line 1: not UTF-8. Save the file as UTF-8."),
    "UTF-16 unmarked": ("a: 1".encode("utf-16-le"), "line 1: U+0000 is no text"),
    "control character": ("a: 1\nb: \x07", "line 2: U+0007 is no text. Remove it."),
    "no such date": ("a: 1\nb: 2024-13-45", "line 2: '2024-13-45' is no valid timestamp"),
    "no such year": ("a: 0000-01-01", "line 1: '0000-01-01' is no valid timestamp"),
    "long number": ("a:\n- " + "1" * 5000, "line 2: a number of more than 100 digits"),
    "long number to the base 60": ("a: " + ":".join("1" * 10**6), "line 1: a number of more than"),
    "long float": ("a: " + "1:" * 9**6 + "1.5", "line 1: a number of more than"),
    "number without digits": ("a: 0x_", "line 1: '0x_' is no valid int"),
    "list as a key": ("{[]: 1}", "line 1, column 2: not valid YAML, found unhashable key"),
    "mapping as a key": ("? {a: 1}\n: 1", "line 1, column 3: not valid YAML, found unhashable"),
    "command in a tag": (
        "a: 1\nb: !!python/object/apply:os.system ['touch executed']",
        "line 2: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not known here.",
    ),
    "own tag": ("a: !mine 1", "line 1: the tag '!mine' is not known here. Remove it."),
    "tag of another kind": ("a: !!int x", "line 1: 'x' is no valid int"),
    "tag of a date": ("a: !!timestamp x", "line 1: 'x' is no valid timestamp"),
    "tag of a truth": ("a: !!bool x", "line 1: 'x' is no valid bool"),
    "merge of a text": ("a: {<<: x}", "line 1, column 9: not valid YAML, expected a mapping"),
    "key twice": ("a: 1\nb: {c: 1,\n  c: 2}", "line 3: key 'c' appears twice, first in line 2."),
    "two documents": ("a: 1\n---\nb: 1", "line 2, column 1: not valid YAML, but found another"),
    "no such character": (r'a: "\UFFFFFFFF"', "not valid YAML ("),
    "no such code point": (r'a: "\U00110000"', "line 1: not valid YAML ("),
    "half a character": (r'a: "\ud800"', r"line 1: '\ud800' is half a character. Write the char"),
    "character in halves": ('a:\n- "\\ud83d\\ude00": 1', r"line 2: '\ud83d' is half a character."),
    "no such version": ("%YAML " + "1" * 5000 + ".0\n---\na: 1", "not valid YAML ("),
    "a single =": ("a: =", "line 1: the tag 'tag:yaml.org,2002:value' is not known here."),
}


class Mistake(Exception):
    """What the caller wants to be raised."""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file in the working folder; its path."""
    monkeypatch.chdir(tmp_path)

    def written(content, name="x.yaml"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return written


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_on_one_line_with_file_and_line(write, tmp_path, case):
    content, message = MISTAKES[case]
    path = write(content)
    with pytest.raises(Mistake) as error:
        load(path, Mistake)
    told = str(error.value)
    assert told.startswith("x.yaml") and message in told and told.endswith(".")
    assert "\n" not in told and len(told) < 200
    assert [file.name for file in tmp_path.iterdir()] == ["x.yaml"]


@pytest.mark.parametrize("case", ["nested aliases", "deep lists", "list in itself", "Latin-1"])
def test_every_reader_has_its_own_kind_of_mistake(write, tmp_path, case):
    content, message = MISTAKES[case]
    path = write(content, "config.yaml")
    for read, kind in (
        (lambda: read_yaml(path), UserError),
        (lambda: read_settings(path), UserError),
        (lambda: read_study(path, tmp_path, tmp_path), UserError),
        (lambda: load_pool(str(path), "OxfordPets"), MethodError),
        (lambda: trained_settings(tmp_path, MethodError), MethodError),
    ):
        with pytest.raises(kind) as error:
            read()
        assert type(error.value) is kind and message in str(error.value)


def test_what_is_within_the_bounds_is_read_as_by_pyyaml(write):
    text = (
        "\ufeffbase: &base {a: 1, b: [x, 2024-02-29]}\n"
        "one: &one {<<: *base, a: 2}\ntwo: {<<: [*one, *base], c: *base}\n"
        "n: [0x1f, 1_000, 1:30, 1e3, 1.5, .inf, yes, ~, '1']\ncaf\u00e9: '\U0001f600'\n"
    )
    found = load(write(text), Mistake)
    assert found == yaml.safe_load(text)
    assert found["two"]["c"] == {"a": 1, "b": ["x", datetime.date(2024, 2, 29)]}
    levels = "[" * (DEPTH - 1) + "x" + "]" * (DEPTH - 1)
    assert load(write(levels), Mistake) == yaml.safe_load(levels)
    values = "- x\n" * (VALUES - 1)
    assert len(load(write(values), Mistake)) == VALUES - 1
    for empty in ("", "# nothing\n"):
        assert load(write(empty), Mistake) is None


VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.dates(),
    st.lists(st.one_of(st.text(), st.integers()), max_size=3),
)  # fmt: skip


@given(st.dictionaries(st.text(min_size=1), VALUE), st.booleans())
def test_what_a_program_wrote_is_read_key_by_key_as_in_one_go(tmp_path_factory, content, wide):
    path = tmp_path_factory.mktemp("written") / "config.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=wide), encoding="utf-8")
    for _ in range(2):  # parsed, and known
        assert load_written(path, Mistake) == load(path, Mistake)
    assert wide or load(path, Mistake) == content  # PyYAML folds some line ends where they are wide


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_what_a_program_wrote_is_told_as_any_other(write, case):
    path = write(MISTAKES[case][0])
    with pytest.raises(Mistake) as error:
        load_written(path, Mistake)
    with pytest.raises(Mistake) as other:
        load(path, Mistake)
    assert str(error.value) == str(other.value)


@pytest.mark.parametrize(
    "text", ["a: 1\n...\nb: 2", 'a: 1\n"b": 2\na: 3', "a: &a [1]\nb: *a", "# c\na: 1\nb:\n- 1"]
)
def test_what_is_written_by_hand_is_read_as_a_whole(write, text):
    path = write(text)
    told = []
    for read in (load, load_written):
        try:
            told.append(read(path, Mistake))
        except Mistake as error:
            told.append(str(error))
    assert told[0] == told[1]


def test_who_changes_what_was_read_changes_nothing_for_others(write):
    path = write("a: [1]\nb: {c: 1}")
    for read in (load, load_written):
        found = read(path, Mistake)
        found["a"].append(2)
        found["b"].clear()
        assert read(path, Mistake) == {"a": [1], "b": {"c": 1}}


def test_a_mapping_that_is_merged_before_it_is_read_has_no_key_twice(write):
    text = "base: &base {k: 1}\nx: {y: {z: &a {<<: *base, k: 2}}}\nb: {<<: *a, k: 3}\n"
    assert load(write(text), Mistake) == yaml.safe_load(text)


def test_a_file_that_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(Mistake, match="cannot be read .Is a directory.*"):
        load(tmp_path, Mistake)


def test_only_one_module_reads_yaml():
    root = Path(__file__).parents[2]
    readers = [
        path.relative_to(root).as_posix()
        for room in ("benchmarks", "dassl", "datasets", "runs", "tools", "trainers")
        for path in (root / room).rglob("*.py")
        if any(word in path.read_text() for word in ("yaml.load", "safe_load", "yaml.compose"))
    ]
    assert readers == []
