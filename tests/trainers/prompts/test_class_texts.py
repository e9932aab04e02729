"""Texts from other files: sentences of each class, shared lists, drawn words, and `keep`."""

import copy
import json
import os
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import train
from runs.results import read_results
from tests.trainers.prompts.conftest import mistake
from tools.pools import main
from trainers.backbones.tokens import ClassTexts, check_classes, fill, from_plain, identity, plain
from trainers.errors import MethodError
from trainers.prompts.class_texts import Texts, class_teachers
from trainers.prompts.pool import load_pool, pool_digest

CATS = {"tabby_cat": ["a striped cat.", "a {c} asleep."], "Pug-Dog": ["a small dog.", "a {} runs."]}
UNEQUAL = {"a": ["a0", "a1", "a2"], "b": ["b0"]}


def texts(pool, name):
    return [fill(template, name) for template in pool]


@pytest.fixture
def files(folder):
    """Write JSON files and the pool p.yaml; what the pool has."""

    def write(pool, **contents):
        for name, content in contents.items():
            folder(f"{name}.json", json.dumps(content))
        folder("p.yaml", pool)
        return load_pool("p.yaml", "shapes")

    return write


def test_teacher_h_is_the_h_th_text_of_each_class(files):
    pool = files("descriptions: d.json", d=CATS)
    assert pool == ["d, text 1", "d, text 2"]
    assert texts(pool, "Tabby Cat") == ["a striped cat.", "a Tabby Cat asleep."]
    assert texts(pool, "pug_dog") == ["a small dog.", "a pug dog runs."]


def test_fragments_are_joined_by_rules_with_words(files):
    pool = files(
        """
words: {media: [a photo, a sketch]}
descriptions: {file: d.json, join: ["{media} of a {}, which has {fragment}."]}
templates: ["first {}."]
""",
        d={"pug": ["a tail", "fur"], "cat": ["claws", "ears"]},
    )
    assert pool[1] == "d, text 1: a photo of a {}, which has {fragment}."
    assert texts(pool, "cat") == [
        "first cat.",
        "a photo of a cat, which has claws.",
        "a photo of a cat, which has ears.",
        "a sketch of a cat, which has claws.",
        "a sketch of a cat, which has ears.",
    ]


def test_questions_are_groups_of_columns(files):
    found = {
        name: {"colour?": [f"{name} red", f"{name} blue"], "form?": [f"{name} round"]}
        for name in ("a", "b")
    }
    pool = files("descriptions: d.json", d=found)
    assert pool == ["d, colour?, text 1", "d, colour?, text 2", "d, form?, text 1"]
    assert texts(pool, "b") == ["b red", "b blue", "b round"]
    del found["b"]["form?"]
    with pytest.raises(MethodError, match=r"'b' has other questions than 'a': \['colour\?'\]"):
        files("descriptions: d.json", d=found)


def test_several_files_follow_each_other_and_a_section_has_its_own(files):
    pool = files(
        "descriptions: [d.json, {file: e.json, per_class: 1}]\n"
        "datasets: {Shapes: {descriptions: f.json}}",
        d={"a": ["d0"]}, e={"a": ["e0", "e1"]}, f={"a": ["f0"]},
    )  # fmt: skip
    assert texts(pool, "a") == ["d0", "e0", "f0"]


@pytest.mark.parametrize(
    ("rule", "a", "b"),
    [
        ("unequal: cycle", ["a0", "a1", "a2"], ["b0", "b0", "b0"]),
        ("per_class: 1", ["a0"], ["b0"]),
        ("per_class: 2, unequal: cycle", ["a0", "a1"], ["b0", "b0"]),
    ],
)
def test_unequal_counts(files, rule, a, b):
    pool = files(f"descriptions: {{file: d.json, {rule}}}", d=UNEQUAL)
    assert (texts(pool, "a"), texts(pool, "b")) == (a, b)


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.integers(1, 6), min_size=1, max_size=4
    ),
    st.integers(1, 8),
    st.integers(0, 5),
)
def test_sampled_texts_are_of_the_class_repeat_late_and_leave_other_classes_alone(
    tmp_path_factory, counts, per_class, seed
):
    path = tmp_path_factory.mktemp("texts") / "d.json"

    def draw(seed, names):
        path.write_text(json.dumps({n: [f"{n}{i}" for i in range(counts[n])] for n in names}))
        os.utime(path, ns=(random.getrandbits(50),) * 2)
        found = Texts("here", path.name, per_class, "sample", seed)
        return {n: texts(class_teachers(found, path.parent), n) for n in names}

    found = draw(seed, list(counts))
    assert found == draw(seed, list(counts))
    for name, own in found.items():
        whole = {f"{name}{i}" for i in range(counts[name])}
        assert len(own) == per_class and set(own) <= whole
        assert len(set(own)) == min(per_class, counts[name])
        assert draw(seed, [name])[name] == own


def test_shared_lists_take_every_spelling_of_the_placeholder(files):
    pool = files("shared: s.json", s=["a {c}.", "b {}.", "c {class}."])
    assert pool == ["a {}.", "b {}.", "c {}."]


def test_drawn_words_are_seeded_and_the_same_for_all_classes(folder):
    folder("w.txt", "\n".join(f"word{i}" for i in range(9)))

    def draw(more):
        folder("p.yaml", f"random_words: {{file: w.txt, count: 20, {more}}}")
        return load_pool("p.yaml", "shapes")

    pool = draw("seed: 3")
    assert len(set(pool)) == 20 and pool == draw("seed: 3") != draw("seed: 4")
    start, end = "a photo of a {}, which has ", "."
    for template in pool:
        words = template.removeprefix(start).removesuffix(end).split()
        assert template.startswith(start) and len(set(words)) == 2
        assert all(word in {f"word{i}" for i in range(9)} for word in words)
    assert draw("seed: 3, join: 'a {} of {fragment}'") == [
        template.replace(start, "a {} of ").removesuffix(".") for template in pool
    ]


def test_keep_takes_numbers_in_their_order_also_of_an_included_pool(folder):
    folder("q.yaml", 'keep: [2, 0]\ntemplates: ["a {}", "b {}", "c {}"]')
    folder("p.yaml", 'include: q.yaml\ntemplates: ["d {}"]\nkeep: [1, 2]')
    assert load_pool("q.yaml", "shapes") == ["c {}", "a {}"]
    assert load_pool("p.yaml", "shapes") == ["a {}", "d {}"]


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        ("descriptions: no.json", "p.yaml, line 1, descriptions: there is no file no.json"),
        ("descriptions: u.json", "u.json has 1 texts for 'b', but 3 for 'a'. Write per_class: 1, "),
        ("descriptions: {file: u.json, per_class: 2}", "1 texts for 'b', but per_class is 2."),
        ("descriptions: {file: u.json, unequal: drop}", "unknown rule 'drop'. Write one of: ref"),
        ("descriptions: {per_class: 2}", "line 1, descriptions: `file` is missing"),
        ("descriptions: {file: u.json, per_class: 0}", "found '0'. Write a number from 1 to 100"),
        ("descriptions: {file: u.json, join: 'a {}.'}", "{fragment} is not once in 'a {}.'. "),
        ("descriptions: {file: u.json, joins: x}", "unknown key 'joins'. Did you mean 'join'?"),
        ("descriptions: twins.json", "'A  b' is the same class as 'a_b'. Keep one."),
        ("descriptions: list.json", "expected a mapping from class names to lists of texts"),
        ("descriptions: empty.json", "empty.json, 'a': expected a list of texts, found []."),
        ("descriptions: number.json", "number.json, 'a'[1]: expected a text, found 7."),
        ("descriptions: broken.json", "broken.json: no JSON: Expecting"),
        ("descriptions: double.json", "double.json: 'a' is there twice. Keep one."),
        ("descriptions: [{file: one.json}, one.json]", "duplicate template 'one, text 1', the"),
        ("shared: u.json", "u.json: expected a list of texts, found {"),
        ("shared: list.json", "list.json[0]: 'x {} {}' is no template. Write {}, {c} or {class} e"),
        ("random_words: {file: w.txt, count: 9}", "has 3 words, too few for 9 prompts with 2 each"),
        ("random_words: {file: w.txt}", "`count` is missing. Say how many prompts"),
        ("templates: ['a {}']\nkeep: [1]", "keep[0]: there is no template 1 for dataset 'OxfordP"),
        ("templates: ['a {}']\nkeep: [0, 0]", "keep[1]: found '0'. Write numbers of templates,"),
        ("words: {fragment: x}\nrules: ['{fragment} {}']", "'fragment' cannot name words."),
        ("words: {media: x}\ndescriptions: one.json", "no rule uses {media}. Rename or remove it."),
    ],
)
def test_mistakes_are_told(folder, pool, message):
    folder("u.json", json.dumps(UNEQUAL))
    folder("one.json", '{"a": ["x"]}')
    folder("twins.json", '{"a_b": ["x"], "A  b": ["y"]}')
    folder("list.json", '["x {} {}"]')
    folder("empty.json", '{"a": []}')
    folder("number.json", '{"a": ["x", 7]}')
    folder("broken.json", '{"a": ')
    folder("double.json", '{"a": ["x"], "a": ["y"]}')
    folder("w.txt", "one\ntwo\n\nthree\none\n")
    folder("p.yaml", pool)
    assert message in mistake("p.yaml")


def test_classes_without_a_text_are_named_with_the_nearest():
    pool = ["a {}.", ClassTexts("d, text 1", {"tabby cat": "x", "pug": "y"})]
    check_classes(pool, ["PUG", "tabby_cat"])
    with pytest.raises(MethodError) as caught:
        check_classes(pool, ["pug", "taby cat", "zebra"])
    assert str(caught.value) == (
        "d, text 1: no text for 2 of 3 classes: 'taby cat' (nearest: 'tabby cat'), 'zebra'. "
        "Class names must be the same but for case, blanks, hyphens and underscores: correct them "
        "in the file, or add texts."
    )


def test_every_text_is_in_the_digest_and_survives_copies():
    one = ClassTexts("d, text 1", {"a": "x", "b": "y"})
    other = ClassTexts("d, text 1", {"a": "x", "b": "z"})
    assert one == other, "as names"
    assert pool_digest([one]) != pool_digest([other]) and identity(one) != identity(other)
    for same in (copy.deepcopy(one), from_plain(json.loads(json.dumps(plain(one))))):
        assert same.texts == one.texts and pool_digest([same]) == pool_digest([one])


def test_show_fills_in_the_texts_of_a_class(files, capsys):
    files("descriptions: d.json", d=CATS)
    assert main(["show", "p.yaml", "--dataset", "shapes", "--classname", "pug_dog"]) == 0
    assert capsys.readouterr().out == "  0  a small dog.\n  1  a pug dog runs.\n"


# ---- in a run --------------------------------------------------------------------------------


@pytest.fixture
def described(folder):
    """Write texts for the base classes of `shapes`; the words of the pool's setting."""
    from datasets.shapes import Shapes

    def write(first="red"):
        found = {name: [f"a photo of a {name}.", f"a {name}, {name}"] for name in Shapes.names[:20]}
        found[Shapes.names[0]][0] = f"a photo of a {first} ring."
        folder("d.json", json.dumps(found))
        folder("own.yaml", "descriptions: d.json")
        return "own.yaml"

    return write


def test_a_run_trains_on_class_wise_teachers_and_is_bound_to_their_texts(
    described, job, tmp_path, capsys
):
    knobs = ("TRAINER.MOPD.NUM_TEACHERS", "2", "TRAINER.MOPD.POOL", described())
    train.main(job("MoPD", *knobs))
    # new classes have no texts, and need none
    new = ("--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "2")
    found = train.main(job("MoPD", *knobs, *new, "DATASET.SUBSAMPLE_CLASSES", "new"))
    assert found["total"] == 800
    results = read_results(next((tmp_path / "run").rglob("base/results.json")))
    described("pink")
    with pytest.raises(SystemExit):
        train.main(job("MoPD", *knobs))
    assert "POOL_DIGEST" in capsys.readouterr().err
    assert results["settings"]["POOL_SIZE"] == 2


def test_texts_of_other_words_are_not_taken_from_the_cache(described, job, tmp_path):
    rows = []
    for first in ("red", "pink", "red"):
        pool = ("TRAINER.ZEROSHOTCLIP.POOL", described(first))
        trainer = build(job("ZeroshotCLIP", *pool, output=tmp_path / first))
        rows.append(trainer.hand_made)
    assert torch.equal(rows[0], rows[2]) and torch.equal(rows[0][1:], rows[1][1:])
    assert not torch.equal(rows[0][0], rows[1][0])


def build(arguments):
    from dassl.engine import build_trainer
    from runs.config import build_parser, setup_cfg

    return build_trainer(setup_cfg(build_parser().parse_args(arguments)))


def test_training_on_classes_without_texts_is_refused(described, job, refused):
    knobs = ("TRAINER.MOPD.NUM_TEACHERS", "2", "TRAINER.MOPD.POOL", described())
    told = refused(job("MoPD", *knobs, "DATASET.SUBSAMPLE_CLASSES", "all"))
    assert told.startswith("d, text 1: no text for 20 of 40 classes: 'orange triangle'")


def test_prograd_cannot_start_from_class_wise_texts(described, job, refused):
    told = refused(job("ProGrad", "TRAINER.PROGRAD.POOL", described()))
    assert "'d, text 1' has no words before the class name" in told


def test_the_order_of_classes_in_a_file_makes_no_other_teacher(files):
    turned = dict(reversed(CATS.items()))
    with pytest.raises(MethodError, match="duplicate template"):
        files("descriptions: [d.json, e.json]", d=CATS, e=turned)
    assert pool_digest(files("descriptions: d.json", d=CATS)) == pool_digest(
        files("descriptions: d.json", d=turned)
    )


@pytest.mark.parametrize("text", ["a {blue} dog {}", "plain { brace", "{cls} runs"])
def test_braces_that_mean_nothing_are_refused(files, text):
    with pytest.raises(MethodError, match="'pug': braces in .*Write the class name as {}"):
        files("descriptions: d.json", d={"pug": [text]})
