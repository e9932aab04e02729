"""Every mistake in a pool is told with file, line, key and remedy."""

import pytest

from tests.trainers.prompts.conftest import mistake
from trainers.prompts.pool import POOLS

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
        "Known: description, words, include, templates, rules, shared, descriptions, "
        "random_words, keep, default, datasets.",
    ),
    "unknown key of a section": (
        'datasets:\n  Pets:\n    default: "a {}."',
        "line 3, datasets.Pets: unknown key 'default'. Known: words, include, templates, rules, "
        "shared, descriptions, random_words.",
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
    told = "p.yaml, line 1: nested deeper than 50 levels. No file needs as many."
    assert mistake("p.yaml") == told
