"""`--no-skips`, the mode of continuous integration: a test that does not run fails the run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[3] / "conftest.py"

SKIPPED = "import pytest\n\ndef test_server():\n    pytest.skip('no server here')\n"
MARKED = "import pytest\n\n@pytest.mark.skipif(True, reason='no server here')\ndef test_server(): ...\n"
EXPECTED = "import pytest\n\n@pytest.mark.xfail(reason='no server here')\ndef test_server():\n    raise OSError\n"
MODULE = "import pytest\n\npytest.skip('no server here', allow_module_level=True)\n"


@pytest.mark.parametrize("source", [SKIPPED, MARKED, EXPECTED, MODULE], ids=["call", "mark", "xfail", "module"])
def test_what_does_not_run_is_a_failure_with_its_reason(source: str, tmp_path: Path) -> None:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_it.py").write_text(source)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-skips"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0, done.stdout
    assert "with --no-skips everything has to" in done.stdout
    assert "no server here" in done.stdout
