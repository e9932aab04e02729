"""A row of the table of settings: what it takes, and the words with which it refuses."""

from __future__ import annotations

import math
from datetime import date

import pytest

from trainers.errors import MethodError
from trainers.settings import LARGEST, UNKNOWN, Setting

WHOLE = Setting("whole", least=1, most=9)
NUMBER = Setting("number", above=0, most=1)
TEXT = Setting("text", kind="text", empty="nothing")
PATH = Setting("path", kind="path")
CHOICE = Setting("choice", choices=("end", "middle"))
WORDS = Setting("words", kind="words", true="a photo of a", empty="a random start")
PAIR = Setting(
    "pair",
    length=2,
    of=Setting(kind="number", above=0, most=1),
    rule=("the smaller one first", lambda pair: pair[0] <= pair[1]),
)
NAMES = Setting("names", of=Setting(kind="text", choices=["flip", "crop"]), empty="none")


def shown(value):
    """A row by its meaning: its functions have another address in each process."""
    return value.meaning or "unknown" if isinstance(value, Setting) else ascii(value)[:40]


@pytest.mark.parametrize(
    ("row", "default", "value", "expected"),
    [
        (Setting("bool"), False, True, True),
        (Setting("bool"), False, "True", True),
        (Setting("bool"), True, "false", False),
        (WHOLE, 4, 1, 1),
        (WHOLE, 4, " 9 ", 9),
        (WHOLE, 4, "0x8", 8),
        (UNKNOWN, 4, f"-{LARGEST}", -LARGEST),
        (NUMBER, 0.5, 1, 1.0),
        (NUMBER, 0.5, "1", 1.0),
        (NUMBER, 0.5, "1e-5", 1e-5),
        (Setting("number", infinite=True), 0.5, "inf", math.inf),
        (UNKNOWN, 0.5, math.inf, math.inf),
        (TEXT, "a", "1e3", "1e3"),
        (TEXT, "a", "None", "None"),
        (TEXT, "a", None, ""),
        (TEXT, "a", "", ""),
        (PATH, "a", "/a b\udcff", "/a b\udcff"),
        (CHOICE, "end", "middle", "middle"),
        (WORDS, "", True, "a photo of a"),
        (WORDS, "an icon of", "true", "an icon of"),
        (WORDS, "an icon of", False, ""),
        (WORDS, "", "a sketch", "a sketch"),
        (WORDS, False, "a sketch", "a sketch"),
        (WORDS, False, "True", True),
        (PAIR, (0.1, 1.0), [0.2, 1], (0.2, 1)),
        (PAIR, (0.1, 1.0), "(0.2, 1)", (0.2, 1)),
        (PAIR, [0.1, 1.0], "(0.2, 1)", [0.2, 1]),
        (NAMES, ("flip",), ["crop"], ("crop",)),
        (NAMES, ("flip",), [], ()),
        (UNKNOWN, (), "['1', 2]", ("1", 2)),
        (UNKNOWN, ("a",), "()", ()),
        (UNKNOWN, "a", "", ""),
        (UNKNOWN, None, "3", 3),
        (UNKNOWN, None, None, None),
    ],
    ids=shown,
)
def test_what_a_row_takes_has_the_type_of_the_default(row, default, value, expected):
    found = row.read("A.KEY", value, default)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("row", "default", "value", "message"),
    [
        (Setting("b"), True, 1, "is 1, expected True or False such as True"),
        (Setting("b"), True, "yes", "is 'yes', expected True or False such as True"),
        (WHOLE, 4, True, "is True, expected a whole number from 1 to 9 such as 4"),
        (WHOLE, 4, 1.0, "is 1.0, expected a whole number from 1 to 9 such as 4"),
        (WHOLE, 4, "1e3", "is '1e3', expected a whole number from 1 to 9 such as 4"),
        (WHOLE, 4, "10", "is 10, expected a whole number from 1 to 9 such as 4"),
        (WHOLE, 4, date(2020, 1, 2), "is datetime.date(2020, 1, 2), expected a whole number"),
        (UNKNOWN, 4, LARGEST + 1, f"is {LARGEST + 1}, expected a whole number such as 4"),
        (UNKNOWN, 0.5, 10**400, f"is 1{'0' * 79}... (401 characters), expected a number such"),
        (NUMBER, 0.5, "much", "is 'much', expected a number above 0 and up to 1 such as 0.5"),
        (NUMBER, 0.5, "inf", "is inf, expected a number above 0 and up to 1 such as 0.5"),
        (NUMBER, 0.5, "1e999", "is inf, expected a number above 0 and up to 1 such as 0.5"),
        (NUMBER, 0.5, math.nan, "is nan, expected a number above 0 and up to 1 such as 0.5"),
        (NUMBER, 0.5, False, "is False, expected a number"),
        (NUMBER, 0.5, "1j", "is '1j', expected a number"),
        (NUMBER, 0.5, "{[]:1}", "is '{[]:1}', expected a number"),
        (NUMBER, 0.5, {"a": 1}, "is {'a': 1}, expected a number"),
        (NUMBER, 0.5, "(" * 5000, f"is '{'(' * 79}... (5,002 characters), expected a number"),
        (NUMBER, 0.5, "-" * 4000 + "1", f"is '{'-' * 79}... (4,003 characters), expected a n"),
        (NUMBER, 0.5, "1+" * 2000 + "1", "is '1+1+"),
        (NUMBER, 0.5, "\0", "is '\\x00', expected a number"),
        (NUMBER, 0.5, None, "has no value, expected a number above 0 and up to 1 such as 0.5;"),
        (NUMBER, 0.5, "", "has no value, expected a number above 0 and up to 1 such as 0.5; "),
        (NUMBER, 0.5, "None", "has no value, expected a number above 0 and up to 1 such as 0"),
        (TEXT, "a", 3, "is 3, expected a text such as 'a'; put it in quotes"),
        (TEXT, "a", [], "is [], expected a text such as 'a'"),
        (TEXT, "", {}, "is {}, expected a text (default: nothing)"),
        (TEXT, "a", "\udcff", "is '\\udcff', expected a text such as 'a' without halves of"),
        (TEXT, "a", "x" * 4097, f"is '{'x' * 79}... (4,099 characters), expected a text such"),
        (PATH, "a", "x\0", "is 'x\\x00', expected a path or name such as 'a' without NUL"),
        (PATH, "a", "\ud800", "is '\\ud800', expected a path or name such as 'a' without halves"),
        (PATH, "a", "", "has no value, expected a path or name such as 'a'; without the key"),
        (PATH, "a", None, "has no value, expected a path or name such as 'a'; without the key"),
        (UNKNOWN, "a", None, "has no value, expected a text such as 'a'; without the key"),
        (CHOICE, "end", "End", "is 'End', expected one of: end, middle (default: end), do you"),
        (CHOICE, "end", True, "is True, expected one of: end, middle (default: end); put it in"),
        (CHOICE, "end", "", "has no value, expected one of: end, middle (default: end); without"),
        (WORDS, "", 3, "is 3, expected words, True or False (default: a random start); put"),
        (PAIR, (0.1, 1.0), 0.5, "is 0.5, expected a list of 2 numbers above 0 and up to 1, the"),
        (PAIR, (0.1, 1.0), [0.5], "is (0.5,), expected a list of 2 numbers above 0 and up to 1"),
        (PAIR, (0.1, 1.0), [1, 0.5], "is (1, 0.5), expected a list of 2 numbers above 0 and "),
        (PAIR, (0.1, 1.0), [0, 0.5], "is (0, 0.5), expected a list of 2 numbers above 0 and "),
        (PAIR, (0.1, 1.0), ["a", 1], "is ['a', 1], expected a list of 2 numbers above 0 and "),
        (PAIR, (0.1, 1.0), [True, 1], "is [True, 1], expected a list of 2 numbers above 0 and "),
        (PAIR, (0.1, 1.0), [], "is (), expected a list of 2 numbers above 0 and up to 1, the "),
        (PAIR, (0.1, 1.0), None, "has no value, expected a list of 2 numbers above 0 and up "),
        (NAMES, (), ["flop"], "is ('flop',), expected a list out of: flip, crop (default: none), "),
        (NAMES, (), "flip", "is 'flip', expected a list out of: flip, crop (default: none)"),
        (UNKNOWN, (), [date(2020, 1, 2)], "is [datetime.date(2020, 1, 2)], expected a list"),
        (UNKNOWN, (), [[{}]], "is [[{}]], expected a list (default: none)"),
        (UNKNOWN, None, "{1}", "is '{1}', expected a plain value (default: none)"),
    ],
    ids=shown,
)
def test_what_a_row_refuses_is_told_with_what_was_expected(row, default, value, message):
    with pytest.raises(MethodError) as error:
        row.read("A.KEY", value, default)
    assert str(error.value).startswith(f"A.KEY {message}")
    assert len(str(error.value)) < 300


def test_names_are_those_of_the_moment():
    known = ["end"]
    row = Setting("choice", choices=lambda: known)
    with pytest.raises(MethodError, match="expected one of: end "):
        row.read("A.KEY", "front", "end")
    known.append("front")
    assert row.read("A.KEY", "front", "end") == "front"


def test_texts_that_look_like_broken_code_give_no_warning(recwarn):
    with pytest.raises(MethodError):
        WHOLE.read("A.KEY", "1if 2else 3", 4)
    with pytest.raises(MethodError):
        WHOLE.read("A.KEY", r"'\d'", 4)
    assert not recwarn.list
