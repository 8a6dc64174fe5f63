"""The manual is true: its commands exist, its examples run, and its page of settings is that of the models."""

import dataclasses
import gzip
import os
import re
import subprocess
import sys
import tomllib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import settings_page
from support.manual import PAGES, ROOT, blocks_of, commands_in, commands_of, parse

from pushengine.cli.help.examples import _EXAMPLES, examples_of
from pushengine.cli.help.pages import TOPICS, page, titles
from pushengine.emulator import EmulatorSettings
from pushengine.emulator.faults import ACTIONS, Fault, FaultPlan, Operation
from pushengine.testing import EmulatorThread

pytestmark = pytest.mark.timeout(300)
TEXTS = {**PAGES, "README": ROOT / "README.md"}
SHIM = "#!/bin/sh\nexec '{python}' -m pushengine \"$@\"\n"


@pytest.fixture
def desk(tmp_path):
    """Return the environment of a shell in a folder with the files that the examples name, and with an emulator as the team."""
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "pushengine"
    shim.write_text(SHIM.format(python=sys.executable))
    shim.chmod(0o755)
    (tmp_path / "extracts").mkdir()
    for number in (1, 2):
        with gzip.open(tmp_path / "extracts" / f"vbak_{number}.csv.gz", "wt") as file:
            file.write(f"VBELN,NETWR,ERDAT\n000{number},1.5,2026-01-31\n")
    (tmp_path / "orders.csv").write_text("ORDER_ID,AMOUNT,SENT_AT\n0001,1.5,2026-01-31\n0002,2.25,2026-01-31\n0003,,\n")
    pq.write_table(pa.table({"ORDER_ID": ["0001"], "AMOUNT": [3.0]}), tmp_path / "orders.parquet")
    (tmp_path / "german.csv").write_text("ID;AMOUNT;DATE\n1;1.050,25;31.01.2026\n")
    (tmp_path / "bad.csv").write_text(
        "".join(["ID,AMOUNT,DATE\n", *("1,2,2026-01-31\n" for _ in range(200)), "x,2,2026-01-31\n"])
    )
    with EmulatorThread(settings=EmulatorSettings(queue_seconds=0.0, run_seconds=0.0)) as team:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PUSHENGINE_", "XDG_"))}
        yield kept | {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "HOME": str(tmp_path / "home"),
            "PYTHONPATH": str(ROOT),
            "PUSHENGINE_URL": team.url,
            "PUSHENGINE_POOL_ID": "pool-1",
            "PUSHENGINE_API_KEY": "any",
            "PUSHENGINE_STATE_DIR": str(tmp_path / "state"),
            "NO_COLOR": "1",
        }


def run(words, folder, environment):
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def test_every_page_is_a_topic_with_a_title():
    assert sorted(TOPICS) == sorted(PAGES)
    assert all(titles().values())
    assert all("<!--" not in page(topic) for topic in TOPICS)


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_of_the_text_exists_with_its_flags(name):
    whole, mentioned = commands_of(TEXTS[name])
    for words in [*whole, *mentioned]:
        parse(words, is_whole=words in whole)


@pytest.mark.parametrize("command", sorted(_EXAMPLES))
def test_the_examples_of_a_command_exist(command):
    parse(command.split(), is_whole=False)
    for example in examples_of(command):
        for words in commands_in(example):
            parse(words, is_whole=True)


@pytest.mark.parametrize(
    "topic", [topic for topic in PAGES if any(one.language == "sh" for one in blocks_of(PAGES[topic]))]
)
def test_the_shell_examples_of_a_page_run(topic, desk, tmp_path):
    script = "\n".join(block.text for block in blocks_of(PAGES[topic]) if block.language == "sh" and block.is_run)
    run(["bash", "-euo", "pipefail", "-c", script], tmp_path, desk)


@pytest.mark.parametrize(
    "name", [name for name in TEXTS if any(one.language == "python" for one in blocks_of(TEXTS[name]))]
)
def test_the_python_examples_of_a_page_run(name, desk, tmp_path):
    for block in blocks_of(TEXTS[name]):
        if block.language == "python" and block.is_run:
            text = block.text.replace("https://acme.eu-1.celonis.cloud", desk["PUSHENGINE_URL"])
            run([sys.executable, "-W", "error", "-c", text], tmp_path, desk)


@pytest.mark.parametrize("name", TEXTS)
def test_json_and_toml_of_a_page_are_valid(name):
    for block in blocks_of(TEXTS[name]):
        if block.language == "json":
            FaultPlan.from_json(block.text)
        elif block.language == "toml":
            data = tomllib.loads(block.text)
            if "faults" in data:
                FaultPlan.from_data(data)


def test_configs_of_the_page_on_loads_have_no_errors_but_those_of_this_machine(desk, tmp_path):
    from pushengine.config.load import Flags
    from pushengine.config.loads.reading import read_loads

    for block in blocks_of(PAGES["loads"]):
        if block.language == "toml":
            (tmp_path / "c.toml").write_text(block.text.replace("${file:/etc/pushengine/secret}", "x"))
            problems = read_loads(Flags(config=tmp_path / "c.toml"), wants_credentials=False).problems
            assert [one for one in problems if "for the target default" not in one.text] == []


def test_the_page_of_settings_is_that_of_the_models():
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.text()


def test_fault_plans_are_documented_with_every_key_operation_and_action():
    text = page("emulator")
    rows = {
        cell
        for line in text.splitlines()
        if line.startswith("| `")
        for cell in re.findall(r"`(\w+)`", line.split(" | ")[0])
    }
    assert set(Fault.__dataclass_fields__) <= rows
    assert set(Operation) <= rows
    for name, action in ACTIONS.items():
        keys = [field.name for field in dataclasses.fields(action)]
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert [f"`{key}`" for key in keys if f"`{key}`" not in row] == []


def test_the_readme_has_the_commands_that_the_checks_run():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- demo -->\n```sh\n") == text.count("<!-- test -->\n```sh\n") == 1


def test_links_of_the_readme_lead_to_files():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [target.partition("#")[0] for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text)]
    assert targets
    assert [target for target in targets if target and not (ROOT / target).exists()] == []
