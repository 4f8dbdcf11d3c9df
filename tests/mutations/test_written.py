from pathlib import Path

import pytest

from tests.mutations.written import CHANGES


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.about)
def test_a_written_change_still_fits(change):
    root = Path(__file__).parents[2]
    text = (root / change.file).read_text()
    assert text.count(change.old) == 1
    compile(text.replace(change.old, change.new), change.file, "exec")
    assert all((root / test).exists() for test in change.tests)
