"""The package as it is built and installed, used from an empty folder."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command, **options):
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_is_built_installed_and_run(tmp_path, kind):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    source = tmp_path / "source"
    run("git", "clone", "--quiet", ROOT, source)
    made = tmp_path / "made"
    run(sys.executable, "-m", "build", f"--{kind}", "--outdir", made, source, env=environment)
    (package,) = made.iterdir()
    venv.create(tmp_path / "env", with_pip=True, system_site_packages=False)
    scripts = tmp_path / "env" / "bin"
    installed = Path(run(scripts / "python", "-c", "import site; print(site.getsitepackages()[0])").strip())
    ours = Path(run(sys.executable, "-c", "import jax; print(jax.__path__[0])").strip()).parent
    (installed / "dependencies.pth").write_text(str(ours))  # all but the package itself are there already
    run(scripts / "python", "-m", "pip", "install", "--quiet", "--no-deps", package, env=environment)
    empty = tmp_path / "empty"
    empty.mkdir()
    where = run(scripts / "python", "-c", "import saal_jax; print(saal_jax.__file__)", cwd=empty, env=environment)
    assert where.startswith(str(tmp_path))
    small = ["--config=digits_saal", "--config.cycles=1", "--config.seeds=1", "--config.dataset=digits[:10%]"]
    small += ["--config.model.width=2", "--config.epochs=1"]
    assert "final accuracy" in run(scripts / "saal-run", *small, cwd=empty, env=environment)
    assert "final accuracy" in run(scripts / "saal-report", "results/digits_saal", cwd=empty, env=environment)
    assert (empty / "results" / "curves.png").exists()
