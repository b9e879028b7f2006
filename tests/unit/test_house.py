"""Guards on the repository itself: each is a rule of CONTRIBUTING.md that no tool of `make lint` holds."""

import platform
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "platform" / "twominds"
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "types", "manager"}
# In pieces, so that this file does not hold what it looks for.
REGISTRY_HOSTS = re.compile("|".join([r"pypi\." + "org", r"pythonhosted\." + "org", r"npmjs\." + "org"]))


def tracked_files() -> list[Path]:
    """What git tracks or would add; outside a git checkout (a release archive) everything but the environment."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def python_files() -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".py"]


def test_platform_is_a_source_root_and_no_package() -> None:
    """With an `__init__.py` it would hide the standard library's `platform`, and Ray with it."""
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not (ROOT / "tests" / "ray" / "__init__.py").exists()  # the same trap for `import ray`


def test_platform_is_the_standard_library_under_pytest() -> None:
    assert Path(platform.__file__).resolve() == STANDARD_LIBRARY / "platform.py"


@pytest.mark.parametrize("python_path", ["", "."])
def test_platform_is_the_standard_library_in_the_repository_root(
    python_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", python_path)
    printed = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(printed.strip()).resolve() == STANDARD_LIBRARY / "platform.py"


def test_files_can_be_read_in_one_sitting() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > 400} == {}


def test_no_room_holds_more_than_a_quarter_of_the_package() -> None:
    lines = Counter[str]()
    for path in PACKAGE.rglob("*.py"):
        lines[path.relative_to(PACKAGE).parts[0]] += len(path.read_text(encoding="utf-8").splitlines())
    assert {room: n for room, n in lines.items() if n > lines.total() / 4} == {}


def test_each_class_has_a_name_of_its_own() -> None:
    """Who reads a name knows which class it is."""
    found = Counter[str]()
    for path in PACKAGE.rglob("*.py"):
        found.update(re.findall(r"^class ([A-Za-z]\w*)", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert [name for name, times in found.items() if times > 1] == []


def test_names_say_what_a_module_holds() -> None:
    named = [path for path in python_files() if {path.stem, path.parent.name} & FORBIDDEN_NAMES]
    assert named == []


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the business of the machine that installs them (pip's own settings)."""
    found: list[str] = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a binary file
        if REGISTRY_HOSTS.search(text):
            found.append(str(path.relative_to(ROOT)))
    assert found == []


def pins(path: Path) -> dict[str, str]:
    lines = (line.split(";")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_pins_are_complete_and_agree() -> None:
    base, dev, gpu = (pins(ROOT / f"requirements{name}.txt") for name in ("", "-dev", "-gpu"))
    assert base.items() <= dev.items()
    assert base.items() <= gpu.items()
    assert "opencv-python" in base
    assert "opencv-python-headless" not in dev  # the two builds overwrite each other's files


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["infra", "serve_configs"])
def test_yaml_parses(name: str) -> None:
    files = [path for path in tracked_files() if path.suffix == ".yaml" and (ROOT / name) in path.parents]
    assert files
    for path in files:
        assert all(yaml.safe_load_all(path.read_text(encoding="utf-8"))), f"an empty document in {path}"


def test_the_service_on_kubernetes_is_the_one_of_serve_configs() -> None:
    manifest = yaml.safe_load((ROOT / "infra" / "kuberay" / "rayservice.yaml").read_text(encoding="utf-8"))
    served = yaml.safe_load((ROOT / "serve_configs" / "ah-gpu.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load(manifest["spec"]["serveConfigV2"]) == served


def test_kubernetes_runs_the_pinned_ray() -> None:
    for path in (ROOT / "infra" / "kuberay").glob("*.yaml"):
        versions = re.findall(r'rayVersion: "(.+)"', path.read_text(encoding="utf-8"))
        assert versions == [pins(ROOT / "requirements.txt")["ray"]], path.name


def test_both_images_have_the_same_python() -> None:
    """Ray lets no node into a cluster whose Python is another patch release: both take the one of their system."""
    bases = {
        name: re.findall(r"(?:FROM |CUDA_IMAGE=.*)(ubuntu[\d.:]+)", (ROOT / "infra" / "docker" / name).read_text())
        for name in ("Dockerfile", "Dockerfile.gpu")
    }
    assert bases == {"Dockerfile": ["ubuntu:24.04"], "Dockerfile.gpu": ["ubuntu24.04"]}
