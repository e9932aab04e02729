"""docs/pools.md: its examples, and its list of the shipped pools."""

import re

from trainers.backbones.paths import REPOSITORY
from trainers.prompts.pool import POOLS, load_pool

DOC = (REPOSITORY / "docs" / "pools.md").read_text(encoding="utf-8")


def test_examples_of_the_docs_give_what_the_docs_say(folder, capsys):
    from tools.pools import main

    blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", DOC, flags=re.S)
    files = ["my_list.yaml", "my_pool.yaml", "my_union.yaml", "my_texts.yaml"]
    assert [name for name, _ in blocks] == files
    blocks += re.findall(r"`(\w+\.json)`[^`]*```json\n(.*?)```", DOC, flags=re.S)
    for name, text in blocks:
        folder(name, text)
    sessions = re.findall(r"```console\n(.*?)```", DOC, flags=re.S)
    runs = re.findall(r"^\$ python -m tools\.pools (.*)\n((?:[^$].*\n)+)", "".join(sessions), re.M)
    assert len(runs) == 7
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
