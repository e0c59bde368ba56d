"""Every setting is described where a person looks for it."""

import re
from pathlib import Path

import pytest

from fictures.settings import VARIABLES

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_file_lists_every_setting_and_no_other() -> None:
    named = re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(VARIABLES)


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_configuration_page_has_a_row_for_every_setting(variable: str) -> None:
    assert f"| `{variable}` |" in (ROOT / "docs" / "configuration.md").read_text()
