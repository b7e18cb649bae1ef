"""Checks that the wheels hold the intended packages and nothing else, or that they are what is installed.

python .ci/check_wheels.py dist
python .ci/check_wheels.py --installed dist
"""

from __future__ import annotations

import argparse
import importlib
import sys
import sysconfig
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = {
    "pytest_pipeline_ckpt": ROOT / "pytest_pipeline_ckpt",
    "pipeline_ckpt": ROOT / "hook" / "src" / "pipeline_ckpt",
}


def contents(source: Path) -> set[str]:
    """The files of a package's source that belong into its wheel."""
    # What the report is made of besides code: its templates, and the schema of its data.
    data = [file for kind in ("*.j2", "*.css", "*.json") for file in source.rglob(kind)]
    files = [*source.rglob("*.py"), *source.rglob("py.typed"), *data]
    return {file.relative_to(source.parent).as_posix() for file in files}


def check_wheel(package: str, dist: Path) -> list[str]:
    """What is wrong with the only wheel of a package."""
    wheels = list(dist.glob(f"{package}-*.whl"))
    if len(wheels) != 1:
        return [f"{dist} has {len(wheels)} wheels of {package}, not 1"]
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        about = {name.partition(".dist-info/")[2] for name in wheel.namelist()} - {""}
    intended = contents(SOURCES[package])
    wrong = [f"{wheels[0].name} lacks {name}" for name in sorted(intended - names)]
    wrong += [f"{wheels[0].name} should not hold {name}" for name in sorted(names - intended)]
    if f"{package}/py.typed" not in names:
        wrong.append(f"{wheels[0].name} has no py.typed")
    if "licenses/LICENSE" not in about:
        wrong.append(f"{wheels[0].name} has no license")
    return wrong


def check_installed(package: str) -> list[str]:
    """What is wrong with the package that `import` finds."""
    module = importlib.import_module(package)
    found = Path(module.__file__ or "").resolve()
    site = Path(sysconfig.get_path("purelib")).resolve()
    return [] if site in found.parents else [f"{package} was imported from {found}, not from {site}"]


def main() -> int:
    """Prints what is wrong; the exit code says whether anything is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--installed", action="store_true", help="check what is imported, not the wheels")
    arguments = parser.parse_args()
    wrong: list[str] = []
    for package in SOURCES:
        wrong += check_installed(package) if arguments.installed else check_wheel(package, arguments.dist)
    print("\n".join(wrong) or "the wheels are what they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
