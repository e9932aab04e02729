"""Prompt pools: where a pool is found, and what its file means."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.prompts.conftest import mistake
from trainers.backbones.paths import REPOSITORY
from trainers.backbones.tokens import fill
from trainers.errors import MethodError
from trainers.prompts.pool import POOLS, check_num_teachers, load_pool, pool_sections

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
    stems = {file.stem for file in (REPOSITORY / "configs" / "datasets").glob("*.yaml")}
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
        f"no pool 'papr' in {POOLS}, {tmp_path}, {REPOSITORY}. Did you mean 'paper'? "
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


def test_pool_is_checked_without_loading_torch_or_clip():
    # An empty package stands for `trainers`, whose own import loads all methods.
    code = (
        "import sys, types; package = types.ModuleType('trainers');"
        "package.__path__ = ['trainers']; sys.modules['trainers'] = package;"
        "from trainers.prompts.pool import load_pool; assert len(load_pool('paper', 'dtd')) == 12;"
        "print(sorted({'torch', 'clip', 'numpy', 'dassl'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
