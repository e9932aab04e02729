"""What stands in for a value, a key or a file of a valid input."""

LONG = "x" * 100_000
# what no shell can pass to a program
UNSPEAKABLE = ("a\0b", "\ud800")
# as they stand on a command line, in a table, or in quotes in YAML and JSON
TEXTS = (
    *("", " ", "-", "--", "null", "None", "~", "[]", "{}", "{[]: 1}", "()", "[1, [2, [3, [4]]]]"),
    *("1" * 400, "4294967296", "9223372036854775808", "-1", "0", "1.5", "1e999", "-1e-400"),
    *("inf", "-inf", "nan", ".inf", "0x10", "1_000", "007", "1:30", "True", "yes", "2024-13-45"),
    *("1", "2", "0.5", "False", "paper", "base", "digits", "CoOp", "out"),
    *(LONG, "x/" * 5000, "a" * 300, "[" * 1000, "9" * 5000, "'", '"', "\\", "a\tb", "a\nb"),
    *("a\r", "\x07", "\x1b[31m", "\u202egnp.exe", "\u200b", "\u2028"),
    *("\U0001f600", "caf\xe9", "cafe\u0301", "\ufeff", "\udcff"),
    *("~nosuchuser/x", "~", "/dev/null", "/proc/x", ".", "..", "../x", "no/such/file", "C:\\x"),
    *("a\\b", "{", "}"),
    *("{}{}", "{class}", "{0.__class__}", "%s", "$HOME", "#", "&", "a,b", "a;b", "a=b"),
    *("folder:", "csv:", "csv:no/such.csv", "folder:~nosuchuser", "nosuch:x", "Shapes", "shapes"),
    *UNSPEAKABLE,
)  # fmt: skip
# as they stand in YAML
YAML_VALUES = (
    *("", "null", "~", "[]", "{}", "[[]]", "{[]: 1}"),
    *("{{}: 1}", "{1: 2}", "{null: 1}", "{a: {b: c}}"),
    *("[1, [2, [3]]]", "[a, b]", "(1, 2)", "1" * 90),
    *("1" * 400, "4294967296", "9223372036854775808"),
    *("-1", "0", "1.5", "1e999", "1e-400", ".inf", "-.inf", ".nan", "inf", "nan", "0x10", "0x_"),
    *("007", "1_000", "1:30", "1", "2", "0.5", "True", "no"),
    *("2024-01-01", "2024-13-45", "2024-01-01 10:00:00"),
    *("!!python/object/apply:os.mkdir [executed]", "!!python/name:os.system", "!!binary aGFsbG8="),
    *("!!binary x", "!!set {a, b}", "!!omap [a: 1]", "!!int x", "!mine 1", "&a [*a]", "&a x", "*a"),
    *("- a", "a: b", "[", "{", "]", "'", '"', "|", ">"),
    *("|\n  a\n  b", "#", "%", "@", "`", "? a", "="),
    *(LONG, "[" * 200, "{a: " * 200, "x\n\ty", "<<: x"),
)  # fmt: skip
JSON_VALUES = (
    *("null", "true", "false", "0", "-1", "1.5", "1e999", "NaN", "Infinity", "-Infinity", "-0.0"),
    *("4294967296", "9223372036854775808", "1" * 400, "9" * 5000, "101", "[]", "{}", "[[]]"),
    *('{"a": 1}', "[1, [2, [3]]]", '["x", 0, "y"]', "[" * 100_000, "", "'x'", "x", "//", '"'),
    *(r'"\ud800"', r'"\udcff.jpg"', r'"a\u0000b"', r'"\u202egnp.jpg"', r'"\u001b[31m"', r'"\q"'),
)  # fmt: skip
KEYS = (
    *("x", "null", "1", "1.5", "true", "[]", "{}", "[a, b]", "'a.b'", "''", '"a b"', "&a a", "*a"),
    *("<<", "!!python/name:os.system x", "!!binary aGFsbG8="),
    *("2024-01-01", "caf\xe9", "\U0001f600"),
    *('"\\0"', '"\\ud800"', '"\\e[31m"', '"\\u202ea"', "default", "__class__", "a" * 3000, "? "),
)  # fmt: skip
STANDS_FOR_A_FILE = ("nothing", "a folder", "a link to nothing", "a link to itself", "/dev/null")
