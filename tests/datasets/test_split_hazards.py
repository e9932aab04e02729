"""What can be wrong with a split file: each mistake is refused, and the message helps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.common import Listed
from datasets.errors import DatasetError
from datasets.splits import Split, check_split, read_split
from tests.datasets.conftest import Tree


def edit(change: Callable[[dict], object]) -> Callable[[Tree], None]:
    def apply(tree: Tree) -> None:
        change(tree.split)
        tree.write()

    return apply


MISTAKES = {
    "no JSON": (lambda t: t.file.write_text("{"), "is not valid JSON: "),
    "no UTF-8": (lambda t: t.file.write_bytes(b"\xff\xfe{}"), "line 1: not text in UTF-8. "),
    "deep nesting": (lambda t: t.file.write_text("[" * 200_000), "is not valid JSON: "),
    "a list": (lambda t: t.file.write_text("[]"), "the keys train, val and test, found list"),
    "a key is missing": (edit(lambda s: s.pop("val")), "found ['test', 'train']"),
    "a key too many": (edit(lambda s: s.update(more=[])), "found ['more', 'test', 'train', 'val']"),
    "no list": (edit(lambda s: s.update(val={})), ", val: expected a list"),
    "two values": (edit(lambda s: s["test"][3].pop()), "test[3]: expected [path, label, class n"),
    "four values": (edit(lambda s: s["test"][3].append(0)), "test[3]: expected [path, label, cla"),
    "no path": (edit(lambda s: s["val"][1].__setitem__(0, 7)), "val[1]: the path is 7, expected"),
    "empty path": (edit(lambda s: s["val"][1].__setitem__(0, "")), "val[1] is '': expected a path"),
    "text label": (edit(lambda s: s["val"][1].__setitem__(1, "0")), "val[1]: the label is '0', ex"),
    "float label": (edit(lambda s: s["val"][1].__setitem__(1, 0.0)), "val[1]: the label is 0.0, e"),
    "bool label": (edit(lambda s: s["val"][1].__setitem__(1, True)), "val[1]: the label is True, "),
    "negative": (edit(lambda s: s["val"][1].__setitem__(1, -1)), "val[1]: the label is -1, expect"),
    "empty name": (edit(lambda s: s["val"][1].__setitem__(2, " ")), "val[1]: the class name is ' "),
    "absolute path": (
        edit(lambda s: s["val"][1].__setitem__(0, "/etc/x.jpg")), "val[1] is '/etc/x.jpg': expecte",
    ),
    "way out": (
        edit(lambda s: s["val"][1].__setitem__(0, "a/../../x.jpg")), "val[1] is 'a/../../x.jpg': ",
    ),
    "drive letter": (
        edit(lambda s: s["val"][1].__setitem__(0, "C:x.jpg")), "val[1] is 'C:x.jpg': expected a ",
    ),
    "backslash": (
        edit(lambda s: s["val"][1].__setitem__(0, "a\\x.jpg")), "val[1] is 'a\\\\x.jpg': expected",
    ),
    "zero byte": (
        edit(lambda s: s["val"][1].__setitem__(0, "a\0.jpg")), "val[1] is 'a\\x00.jpg': expected",
    ),
    "a gap": (
        edit(lambda s: [e.__setitem__(1, 5) for p in s.values() for e in p if e[1] == 1]),
        "labels must be 0 to C-1, but 1, 3, 4 of 0 to 5 are not used",
    ),
    "two names": (
        edit(lambda s: s["test"][8].__setitem__(2, "Class 2")),
        'label 2 has two names, "class 2" and "Class 2" (test, ',
    ),
    "no test images": (
        edit(lambda s: s.update(test=s["test"][:6])), "1 of 3 classes have no test image: class 2",
    ),
    "no val images": (
        edit(lambda s: s.update(val=[])), "3 of 3 classes have no val image: class 0, class 1, cl",
    ),
    "no train images": (
        edit(lambda s: s.update(train=s["train"][4:])), "1 of 3 classes have no train image: cl",
    ),
    "empty": (edit(lambda s: s.update(train=[], val=[], test=[])), "the lists are empty"),
    "twice": (
        edit(lambda s: s["train"].append(s["train"][0])), "is listed twice (train and train)",
    ),
    "leak": (
        edit(lambda s: s["test"].append(["./" + s["train"][0][0], 0, "class 0"])),
        "is listed twice (train and test)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", ["x" * 3000, "x/" * 3000 + "x.jpg"], ids=["long", "deep"])
def test_a_path_that_no_file_can_have_is_a_missing_image(textures, path):
    edit(lambda s: s["train"][0].__setitem__(0, path))(textures)
    assert f"1 of 27 images are missing (1 train):\n  {textures.images}/{path}" in (
        textures.refusal()
    )


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_split_file(tree, mistake):
    change, expected = MISTAKES[mistake]
    change(tree)
    message = tree.refusal()
    assert expected in message
    assert str(tree.file) in message


def test_a_split_file_of_absurd_size_is_not_read(textures):
    with textures.file.open("wb") as file:
        file.truncate(200_000_000)
    assert "has 200,000,000 bytes, no split file is that large" in textures.refusal()


def test_a_byte_order_mark_and_line_ends_of_windows_do_not_matter(textures):
    before = textures.read()
    text = textures.file.read_text().replace("\n", "\r\n")
    textures.file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert textures.read() == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["train", "val", "test", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values, st.sampled_from(["train", "val", "test"]))
def test_no_content_of_a_split_file_ends_in_another_error(tmp_path_factory, value, part):
    path = tmp_path_factory.getbasetemp() / "any.json"
    for content in (value, {"train": [], "val": [], "test": [], part: value}):
        path.write_text(json.dumps(content))
        try:
            check_split(read_split(path, path.parent))
        except DatasetError:
            continue
        raise AssertionError(f"{content} is no split")


def test_a_label_of_many_digits_is_refused_quickly():
    items = [Listed("a.jpg", 10**12, "a")]
    with pytest.raises(DatasetError, match="labels must be 0 to C-1, but 0, 1, 2, 3, 4, ... of"):
        check_split(Split(Path("x"), items, [], []))
