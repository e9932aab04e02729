"""Prompt pools: the format, every mistake with its full message, the docs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.backbones.tokens import fill
from trainers.errors import MethodError
from trainers.prompts.pool import POOLS, ROOT, check_num_teachers, load_pool, pool_sections


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder; call it with file name and text to write a file there."""
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


def mistake(name, dataset="OxfordPets"):
    with pytest.raises(MethodError) as caught:
        load_pool(name, dataset)
    return str(caught.value)


# ---- names of pools and datasets -------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("oxford_pets", "OxfordPets"),
        ("fgvc_aircraft", "FGVCAircraft"),
        ("dtd", "DescribableTextures"),
        ("DTD", "describable_textures"),
        ("ucf101", "UCF101"),
        ("imagenet_sketch", "ImageNetSketch"),
        ("shapes", "Shapes"),
    ],
)
def test_dataset_may_be_given_by_registry_or_config_name(one, other):
    assert load_pool("paper", one) == load_pool("paper", other)
    assert load_pool("paper", "EuroSAT") != load_pool("paper", one)


def test_every_dataset_config_has_its_section_in_the_paper_pool():
    stems = {file.stem for file in (ROOT / "configs" / "datasets").glob("*.yaml")}
    names = {name.lower() for name in pool_sections("paper")} | {"dtd"}
    assert {stem.replace("_", "") for stem in stems} <= names


def test_section_may_be_written_with_the_config_name(folder):
    folder("p.yaml", 'datasets: {dtd: "{} cloth.", oxford_pets: "pet {}."}')
    assert load_pool("p.yaml", "DescribableTextures") == ["{} cloth."]
    assert load_pool("p.yaml", "OxfordPets") == ["pet {}."]


def test_pool_is_found_by_name_with_suffix_and_by_path(folder):
    folder("sub/own.yaml", '- "own {}."')
    assert load_pool("paper.yaml", "EuroSAT") == load_pool("paper", "EuroSAT")
    assert load_pool("configs/pools/paper.yaml", "EuroSAT") == load_pool("paper", "EuroSAT")
    assert load_pool("sub/own", "EuroSAT") == ["own {}."]
    assert load_pool(str(Path("sub/own.yaml").resolve()), "EuroSAT") == ["own {}."]


def test_own_file_with_the_name_of_a_shipped_pool_is_never_confused_with_it(folder):
    folder("single.yaml", '- "own {}."')
    assert mistake("single.yaml") == (
        f"pool 'single.yaml' may be {POOLS / 'single.yaml'} or single.yaml. "
        "Write 'single' for the first, './single.yaml' for the second."
    )
    assert load_pool("single", "SUN397") == ["a photo of a {}."]
    assert load_pool("./single.yaml", "SUN397") == ["own {}."]


def test_unknown_pool_lists_the_pools_and_the_closest(folder, tmp_path):
    assert mistake("papr") == (
        f"no pool 'papr' in {POOLS}, {tmp_path}, {ROOT}. Did you mean 'paper'? "
        "Pools in configs/pools: embedded, ensemble, kgcoop, mixed, noisy, paper, prograd, single. "
        "Give one of these names, or the path of a YAML file."
    )


def test_unknown_dataset_lists_the_sections_and_the_closest(folder):
    folder("p.yaml", 'datasets:\n  OxfordPets: "pet {}."\n  dtd: "{} cloth."\n')
    assert mistake("p.yaml", "oxford_pet") == (
        "p.yaml, datasets: unknown dataset 'oxford_pet'. Did you mean 'OxfordPets'? "
        "This pool has sections for OxfordPets, dtd. "
        "Add the section 'oxford_pet' under `datasets`, or a `default` for all others."
    )


# ---- meaning of a file -----------------------------------------------------------------------


def test_order_is_include_templates_rules_and_common_part_before_section(folder):
    folder("base.yaml", '- "included {}."')
    folder("more.yaml", '- "included by the section {}."')
    folder(
        "p.yaml",
        """
datasets:
  Pets:
    rules: "section {adjective} {}."
    templates: "section {}."
    include: more.yaml
    words: {adjective: [old, new]}
rules: ["{adjective} {noun} {}."]
templates: ["common {class}."]
words: {adjective: [red, blue], noun: [car, bus]}
include: [base.yaml]
default: "other {}."
""",
    )
    common = ["included {}.", "common {}."]
    assert load_pool("p.yaml", "pets") == [
        *common,
        "old car {}.",
        "old bus {}.",
        "new car {}.",
        "new bus {}.",
        "included by the section {}.",
        "section {}.",
        "section old {}.",
        "section new {}.",
    ]
    cars = ["red car {}.", "red bus {}.", "blue car {}.", "blue bus {}."]
    assert load_pool("p.yaml", "anything") == [*common, *cars, "other {}."]


def test_word_used_twice_in_a_rule_has_the_same_value_in_both_places(folder):
    folder("p.yaml", 'words: {a: [x, y]}\nrules: ["{a} {} {a}"]')
    assert load_pool("p.yaml", "Pets") == ["x {} x", "y {} y"]


def test_empty_default_takes_the_common_part_only(folder):
    folder("p.yaml", 'templates: ["a {}."]\ndatasets: {Pets: ["b {}."]}\ndefault: {}')
    assert load_pool("p.yaml", "Cars") == ["a {}."]
    assert pool_sections("p.yaml") == ["Pets", "default"]


def test_include_is_relative_to_the_including_file_and_reads_the_same_dataset(folder):
    folder("a/p.yaml", "include: [../b/q.yaml, single]")
    folder("b/q.yaml", 'datasets: {Food101: "food {}."}\ndefault: "other {}."')
    assert load_pool("a/p.yaml", "Food101") == ["food {}.", "a photo of {}, a type of food."]
    assert load_pool("a/p.yaml", "SUN397") == ["other {}.", "a photo of a {}."]


def test_file_with_byte_order_mark_and_windows_lines_is_read(folder):
    folder("p.yaml", b'\xef\xbb\xbf- "a {}."\r\n- "caf\xc3\xa9 {}."\r\n')
    assert load_pool("p.yaml", "Pets") == ["a {}.", "café {}."]


PLACEHOLDER = st.sampled_from(["{}", "{class}"])
PLAIN = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=30)
PLAIN = PLAIN.map(lambda text: text.replace("{", "").replace("}", ""))
TEMPLATE = st.tuples(PLAIN, PLACEHOLDER, PLAIN).map("".join)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        TEMPLATE,
        min_size=1,
        unique_by=lambda t: " ".join(t.lower().replace("{class}", "{}").split()),
    )
)
def test_any_distinct_templates_come_back_in_order(tmp_path_factory, templates):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    for content in (templates, {"templates": templates}, {"datasets": {"Pets": templates}}):
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        expected = [template.replace("{class}", "{}") for template in templates]
        assert load_pool(str(path), "Pets") == expected


@settings(max_examples=200, deadline=None)
@given(PLAIN, PLAIN, st.text())
def test_fill_puts_the_name_between_the_halves_and_changes_nothing_else(before, after, name):
    prompt = fill(before + "{}" + after, name)
    assert prompt.startswith(before) and prompt.endswith(after)
    middle = prompt[len(before) : len(prompt) - len(after)]
    assert "_" not in middle and len(middle) == len(name)
    assert all(a == b or (a, b) == ("_", " ") for a, b in zip(name, middle, strict=True))


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("annual_crop_land", "a 100% photo of annual crop land."),
        ("{}", "a 100% photo of {}."),
        ("{0!r}", "a 100% photo of {0!r}."),
        ("%s \\1", "a 100% photo of %s \\1."),
    ],
)
def test_fill_does_not_interpret_the_class_name(name, prompt):
    assert fill("a 100% photo of {}.", name) == prompt


@pytest.mark.parametrize("template", ["a photo.", "{} and {}", "{class}"])
def test_fill_refuses_a_template_without_exactly_one_placeholder(template):
    with pytest.raises(MethodError) as caught:
        fill(template, "cat")
    assert str(caught.value) == (
        f'template {template!r}: write {{}} exactly once, as in "a photo of a {{}}.".'
    )


def test_number_of_teachers_must_fit_the_pool():
    pool = load_pool("paper", "OxfordPets")
    check_num_teachers(1, pool, "paper")
    check_num_teachers(12, pool, "paper")
    for number in (-1, 0, 13):
        with pytest.raises(MethodError) as caught:
            check_num_teachers(number, pool, "paper")
        assert str(caught.value) == (
            f"TRAINER.MOPD.NUM_TEACHERS is {number}, but pool 'paper' has 12 templates. "
            "Choose NUM_TEACHERS from 1 to 12, or another pool."
        )
    with pytest.raises(MethodError, match=r"pool 'single' has 1 template\. Choose"):
        check_num_teachers(2, load_pool("single", "OxfordPets"), "single")


# ---- mistakes in a file ----------------------------------------------------------------------

ONCE = 'Write {} exactly once, as in "a photo of a {}.".'
QUOTES = 'Put the whole text in quotes, as in "a photo of a {}.".'
MISTAKES = {
    "no placeholder": (
        '- "a {}."\n- "a photo of a dog."',
        "line 2, [1]: no placeholder in 'a photo of a dog.'. " + ONCE,
    ),
    "two placeholders": (
        'templates:\n  - "a {} and a {class}."',
        "line 2, templates[0]: 2 placeholders in 'a {} and a {}.'. " + ONCE,
    ),
    "empty text": (
        'datasets:\n  OxfordPets:\n    templates: ["a {}.", " "]',
        "line 3, datasets.OxfordPets.templates[1]: empty template. "
        'Write a sentence as "a photo of a {}.", or remove it.',
    ),
    "duplicate": (
        'templates:\n  - "a {}."\n  - "a  {class}."',
        "line 3, templates[1]: duplicate template 'a  {}.', "
        "the same prompt as 'a {}.' in p.yaml, line 2, templates[0]. Remove one of the two.",
    ),
    "duplicate after expansion": (
        'words: {size: ["", "big "]}\nrules: ["a {size}{}."]\ndefault:\n- "A big {}."',
        "line 4, default[0]: duplicate template 'A big {}.', "
        "the same prompt as 'a big {}.' in p.yaml, line 2, rules[0]. Remove one of the two.",
    ),
    "duplicate of an included template": (
        'include: noisy\ntemplates: "a blank page with the title {}."',
        "line 2, templates: duplicate template 'a blank page with the title {}.', the same "
        f"prompt as 'a blank page with the title {{}}.' in {POOLS / 'noisy.yaml'}, line "
        "{noisy}, templates[11]. Remove one of the two.",
    ),
    "number": ("- 5", "line 1, [0]: expected text, found 5, a number. " + QUOTES),
    "yes or no": (
        "templates: [yes]",
        "line 1, templates[0]: expected text, found yes, "
        "a true/false value (YAML reads yes, no, on, off as one). " + QUOTES,
    ),
    "nothing": (
        '- "a {}."\n-',
        "line 2, [1]: expected text, found an empty value. " + QUOTES,
    ),
    "braces without quotes": (
        '- "a {}."\n- {}',
        "line 2, [1]: expected text, found {}, "
        "a mapping (YAML reads { } and `name: value` as one). " + QUOTES,
    ),
    "colon without quotes": (
        "- a photo: {}",
        "line 1, [0]: expected text, found a photo: {}, "
        "a mapping (YAML reads { } and `name: value` as one). " + QUOTES,
    ),
    "list in a list": (
        '- ["a {}."]',
        'line 1, [0]: expected text, found ["a {}."], a list. ' + QUOTES,
    ),
    "word in a template": (
        'words: {m: a}\ntemplates: ["{m} photo of {}."]',
        "line 2, templates[0]: {m} in '{m} photo of {}.' is no placeholder. "
        "Write {} or {class}; entries with {words} belong under `rules`.",
    ),
    "single brace": (
        '- "a {} }."',
        "line 1, [0]: single brace in 'a {} }.'. Write braces only as {} or {class}.",
    ),
    "unknown key": (
        'templtes: ["a {}."]',
        "line 1: unknown key 'templtes'. Did you mean 'templates'? "
        "Known: description, words, include, templates, rules, default, datasets.",
    ),
    "unknown key of a section": (
        'datasets:\n  Pets:\n    default: "a {}."',
        "line 3, datasets.Pets: unknown key 'default'. Known: words, include, templates, rules.",
    ),
    "key twice": (
        'templates: ["a {}."]\ntemplates: ["b {}."]',
        "line 2: key 'templates' appears twice, first in line 1. Keep one of the two.",
    ),
    "key that is no text": (
        'datasets:\n  101: "a {}."',
        "line 2, datasets: expected text, found 101, a number. " + QUOTES,
    ),
    "dataset twice": (
        'datasets:\n  dtd: "a {}."\n  DescribableTextures: "a {}."',
        "line 3, datasets.DescribableTextures: "
        "'DescribableTextures' is the same dataset as 'dtd'. Keep one section.",
    ),
    "default among the datasets": (
        'datasets:\n  default: "a {}."',
        "line 2, datasets.default: `default` is no dataset. "
        "Write it beside `datasets`, not in it.",
    ),
    "datasets as a list": (
        "datasets: [OxfordPets]",
        "line 1, datasets: expected a mapping, found [OxfordPets], a list. "
        "Write `name: value`.",
    ),
    "empty section": (
        "datasets:\n  OxfordPets:",
        "line 2, datasets.OxfordPets: expected a list, found an empty value. "
        'Write one entry per line, as - "a photo of a {}.".',
    ),
    "broken YAML": (
        '- "a {}."\n- {} texture.',
        "line 2, column 6: not valid YAML, expected <block end>, but found '<scalar>'. " + QUOTES,
    ),
    "quote not closed": (
        '- "a {}.\n',
        "line 2, column 1: not valid YAML, found unexpected end of stream. " + QUOTES,
    ),
    "two documents": (
        '- "a {}."\n---\n- "b {}."',
        "line 2, column 1: not valid YAML, but found another document. " + QUOTES,
    ),
    "control character": (b'- "a {}."\n- "b\x07 {}."', "line 2: U+0007 is no text. Remove it."),
    "not UTF-8": (
        b'- "a {}."\n- "caf\xe9 {}."',
        "line 2: not UTF-8. Save the file as UTF-8.",
    ),
    "empty list": ("templates: []", "line 1, templates: the list is empty. "
                   "Add an entry, or remove the key."),
    "one text": (
        "a photo of a {}.\na picture of a {}.",
        'line 1: the file is one text, not a list. Begin each line as - "a photo of a {}.".',
    ),
    "command in a tag": (
        '!!python/object/apply:os.system ["touch executed"]',
        'line 1: expected a list, found !!python/object/apply:os.system ["tou..., '
        "the tag 'tag:yaml.org,2002:python/object/apply:os.system'. "
        'Write one entry per line, as - "a photo of a {}.".',
    ),
    "rule without words": (
        'words: {medium: a photo}\nrules: ["{medim} of {}.", "{medium} of {}."]',
        "line 2, rules[0]: no words for {medim} with dataset 'OxfordPets'. "
        "Did you mean 'medium'? Add 'medim' to `words` of the file or of the section.",
    ),
    "words without rule": (
        'rules: ["{medium} of {}."]\nwords:\n  medium: a photo\n'
        "datasets:\n  Pets:\n    words: {medim: x}",
        "line 6, datasets.Pets.words.medim: no rule uses {medim}. "
        "Did you mean 'medium'? Rename or remove it.",
    ),
    "name of words": (
        'words: {class: [cat]}\ntemplates: ["a {class}."]',
        "line 1, words.class: 'class' cannot name words. Use letters, digits and _.",
    ),
    "brace in a word": (
        'words:\n  a: ["x {}"]\nrules: ["{a}"]',
        "line 2, words.a[0]: brace in 'x {}'. Use none in words.",
    ),
    "too many combinations": (
        f'words: {{a: [{", ".join(f"x{i}" for i in range(101))}], b: '
        f'[{", ".join(f"y{i}" for i in range(100))}]}}\nrules: ["{{a}} {{b}} {{}}"]',
        "line 2, rules[0]: the rule makes 10100 templates, at most 10000 are allowed. "
        "Use fewer words.",
    ),
    "include that is missing": (
        "include:\n  - noisi",
        "line 2, include[0]: no pool 'noisi' in {pools}, {folder}. Did you mean 'noisy'? "
        "Pools in configs/pools: embedded, ensemble, kgcoop, mixed, noisy, paper, prograd, single. "
        "Give one of these names, or the path of a YAML file.",
    ),
    "include of itself": (
        "include: [./p.yaml]",
        "line 1, include[0]: pools include each other: p.yaml -> p.yaml. Remove this.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_told_with_file_line_key_and_remedy(folder, tmp_path, case):
    text, expected = MISTAKES[case]
    folder("p.yaml", text)
    noisy = len((POOLS / "noisy.yaml").read_text().splitlines())
    for name, value in {"pools": POOLS, "folder": tmp_path, "noisy": noisy}.items():
        expected = expected.replace(f"{{{name}}}", str(value))
    assert mistake("p.yaml") == f"p.yaml, {expected}"
    assert [file.name for file in tmp_path.iterdir()] == ["p.yaml"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ": the file is empty. Write a list of templates, as - "),
        ("# a comment\n", ": the file is empty. Write a list of templates, as - "),
        (
            "---\n",
            ", line 2: expected a list, found an empty value. Write one entry per line, as - ",
        ),
    ],
)
def test_empty_file_is_told(folder, text, expected):
    folder("p.yaml", text)
    assert mistake("p.yaml") == f'p.yaml{expected}"a photo of a {{}}.".'


def test_file_without_templates_is_told(folder):
    folder("p.yaml", "description: nothing yet")
    assert mistake("p.yaml") == (
        "p.yaml: no templates for dataset 'OxfordPets'. "
        'Add a list `templates` with entries as "a photo of a {}.".'
    )


def test_mistake_in_the_section_of_another_dataset_is_told_too(folder):
    folder("p.yaml", 'default: "a {}."\ndatasets: {Cars: "no placeholder"}')
    assert mistake("p.yaml", "Pets").startswith("p.yaml, line 2, datasets.Cars: no placeholder")


def test_longer_include_cycle_names_all_files_of_the_cycle(folder):
    folder("start.yaml", "include: [a.yaml]")
    folder("a.yaml", "include: [b.yaml]")
    folder("b.yaml", "templates: ['b {}.']\ninclude:\n  - a.yaml")
    assert mistake("start.yaml") == (
        "b.yaml, line 3, include[0]: pools include each other: a.yaml -> b.yaml -> a.yaml. "
        "Remove this."
    )


def test_deep_nesting_is_refused_and_not_a_crash(folder):
    folder("p.yaml", "[" * 20_000)
    assert mistake("p.yaml") == "p.yaml: nested too deep. A pool needs three levels."


def test_pool_is_checked_without_loading_torch_or_clip():
    # An empty package stands for `trainers`, whose own import loads all methods.
    code = (
        "import sys, types; package = types.ModuleType('trainers');"
        "package.__path__ = ['trainers']; sys.modules['trainers'] = package;"
        "from trainers.prompts.pool import load_pool; assert len(load_pool('paper', 'dtd')) == 12;"
        "print(sorted({'torch', 'clip', 'numpy', 'dassl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# ---- docs/pools.md ---------------------------------------------------------------------------

DOC = (ROOT / "docs" / "pools.md").read_text(encoding="utf-8")


def test_examples_of_the_docs_give_what_the_docs_say(folder, capsys):
    from tools.pools import main

    blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", DOC, flags=re.S)
    assert [name for name, _ in blocks] == ["my_list.yaml", "my_pool.yaml", "my_union.yaml"]
    for name, text in blocks:
        folder(name, text)
    sessions = re.findall(r"```console\n(.*?)```", DOC, flags=re.S)
    runs = re.findall(r"^\$ python -m tools\.pools (.*)\n((?:[^$].*\n)+)", "".join(sessions), re.M)
    assert len(runs) == 5
    for arguments, expected in runs:
        code = main(arguments.split())
        captured = capsys.readouterr()
        assert captured.out + captured.err == expected
        assert code == expected.startswith("error: ")


def test_docs_list_the_shipped_pools_with_their_sizes():
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", DOC, flags=re.M))
    assert rows == {
        file.stem: str(len(load_pool(file.stem, "OxfordPets"))) for file in POOLS.glob("*.yaml")
    }
