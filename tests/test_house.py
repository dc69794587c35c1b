"""The rules of the house: floors, light imports, forbidden constructs, packaging."""

from __future__ import annotations

import ast
import dataclasses
import functools
import graphlib
import importlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FLOORS = [  # from the lowest up
    "robopolicy_datasets",
    "robopolicy_drivers",
    "robopolicy_sim",
    "robopolicy",
    "robopolicy_launch",
]
FOLDER_OF = {package: package.removeprefix("robopolicy_") for package in FLOORS}
# Inside the learning package, from the lowest up. That the parts not named here have an order too is
# what test_no_circular_imports_between_the_parts_of_a_package asks.
LEARNING_ORDER = [
    "nets",
    "sampling",
    "certify",
    "policies",
    "checkpoint",
    "training",
    "evaluation",
    "serving",
]
# What only an extra brings; the base install lacks all of it.
EXTRAS = [
    *["torch", "torchvision", "diffusers", "safetensors", "tensorboard", "matplotlib", "av"],
    *["h5py", "imagecodecs", "pyarrow", "rerun"],
    *["mujoco", "gymnasium", "gym_pusht", "pymunk", "pygame", "pybullet", "pyrealsense2", "franky"],
    *["pymodbus", "serial", "scservo_sdk"],
    *["pymavlink", "mavsdk"],
]
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "torchvision"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "joblib.load"}


@functools.cache
def modules() -> dict[str, Path]:
    """Maps each of our module names to its file."""
    found = {}
    for package, folder in FOLDER_OF.items():
        root = REPOSITORY / folder
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported_names(module: str) -> Iterator[str]:
    """Yields every name that a module imports, at any depth; ``from a import b`` yields ``a.b``."""
    path = modules()[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


@functools.cache
def dependencies() -> dict[str, set[str]]:
    """Maps each of our modules to those of our modules that it imports."""
    graph: dict[str, set[str]] = {}
    for module in modules():
        graph[module] = set()
        for name in imported_names(module):
            owner = name if name in modules() else name.rpartition(".")[0]
            if owner in modules() and owner != module:
                graph[module].add(owner)
    return graph


def component(module: str) -> str:
    """Returns the module's package and direct child: ``robopolicy.nets.unet`` -> ``robopolicy.nets``."""
    return ".".join(module.split(".")[:2])


def assert_no_cycle(graph: dict[str, set[str]]) -> None:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("circular imports: " + " -> ".join(error.args[1]))


def test_imports_run_downward_between_the_packages():
    upward = [
        f"{module} imports {imported}"
        for module, imports in dependencies().items()
        for imported in imports
        if FLOORS.index(imported.split(".")[0]) > FLOORS.index(module.split(".")[0])
    ]
    assert not upward


def test_imports_run_downward_inside_the_learning_package():
    upward = []
    for module, imports in dependencies().items():
        for imported in imports:
            lower, upper = (
                name.split(".")[1] if name.startswith("robopolicy.") else "" for name in (module, imported)
            )
            known = lower in LEARNING_ORDER and upper in LEARNING_ORDER
            if known and LEARNING_ORDER.index(upper) > LEARNING_ORDER.index(lower):
                upward.append(f"{module} imports {imported}")
    assert not upward


def test_no_circular_imports_between_modules():
    assert_no_cycle(dependencies())


def test_no_circular_imports_between_the_parts_of_a_package():
    graph: dict[str, set[str]] = {}
    for module, imports in dependencies().items():
        # A package's own __init__ re-exports its parts, and so stands above them.
        targets = {component(imported) for imported in imports} - {component(module)}
        graph.setdefault(component(module), set()).update(targets)
    assert_no_cycle(graph)


def test_every_module_says_what_it_is_for():
    silent = [str(path) for path in modules().values() if not ast.get_docstring(tree_of(path))]
    assert not silent


def test_every_package_is_marked_as_typed():
    assert all(
        (REPOSITORY / folder / package / "py.typed").is_file() for package, folder in FOLDER_OF.items()
    )


@pytest.mark.parametrize("package", FLOORS)
def test_no_file_runs_code_that_it_reads(package):
    """No pickle, no eval, and nothing that does either underneath."""
    faults = []
    for module, path in modules().items():
        if module.split(".")[0] != package:
            continue
        faults += [
            f"{path} imports {name}"
            for name in imported_names(module)
            if name.split(".")[0] in FORBIDDEN_MODULES
        ]
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                if ast.unparse(node.func) in FORBIDDEN_CALLS:
                    faults.append(f"{path}:{node.lineno} calls {ast.unparse(node.func)}")
                if any(word.arg == "allow_pickle" and word.value.value for word in node.keywords):
                    faults.append(f"{path}:{node.lineno} allows pickle")
    presets = (REPOSITORY / FOLDER_OF[package]).rglob("*.yaml")
    faults += [f"{path} has an eval resolver" for path in presets if "${eval" in path.read_text()]
    assert not faults


# --- light imports ------------------------------------------------------------------------------------------


def run_python(code: str, *arguments: str) -> str:
    """Runs code in a new interpreter outside the repository; fails with its error text."""
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=os.path.dirname(sys.executable),
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@functools.cache
def project() -> dict:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def entry_points() -> list[str]:
    groups = project()["entry-points"]
    ours = {group: points for group, points in groups.items() if group.startswith("robopolicy.")}
    return [f"{group}:{name}" for group, points in ours.items() for name in points]


def config_modules() -> set[str]:
    """Modules of entry points and every module named configs: all load without an extra."""
    named = {
        value.partition(":")[0] for points in project()["entry-points"].values() for value in points.values()
    }
    return named | {module for module in modules() if module.split(".")[-1] == "configs"}


IMPORT_WITHOUT_EXTRAS = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

absent = sys.argv[1].split()
sys.meta_path.insert(0, Absent())
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


def test_the_base_install_imports_without_any_extra():
    light = {
        module for module in modules() if module.startswith(("robopolicy_datasets", "robopolicy_drivers"))
    }
    light |= {
        "robopolicy",
        "robopolicy_sim",
        "robopolicy_launch",
        "robopolicy_launch.command",
    } | config_modules()
    run_python(IMPORT_WITHOUT_EXTRAS, " ".join(EXTRAS), *sorted(light))


@pytest.mark.parametrize("package", FLOORS)
def test_importing_a_package_loads_no_extra(package):
    loaded = run_python(f"import {package}, sys; print(*sys.modules)").split()
    assert not {name.partition(".")[0] for name in loaded} & set(EXTRAS)


def test_import_robopolicy_is_light():
    """Sees to the import time without measuring it: none of the slow base dependencies is loaded either."""
    loaded = run_python("import robopolicy, sys; print(*sys.modules)").split()
    assert not {name.partition(".")[0] for name in loaded} & {*EXTRAS, "scipy", "cv2", "zarr", "hydra"}


# --- packaging ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry_point", entry_points())
def test_entry_point_names_a_dataclass_with_a_target(entry_point):
    group, _, name = entry_point.partition(":")
    module, _, attribute = project()["entry-points"][group][name].partition(":")
    config = getattr(importlib.import_module(module), attribute)
    assert dataclasses.is_dataclass(config)
    target_module, _, target_attribute = config.target.partition(":")
    assert hasattr(importlib.import_module(target_module), target_attribute)


def test_the_wheel_holds_every_file_of_the_packages(tmp_path):
    """Modules, presets (YAML), embodiments (JSON), py.typed: all that lies in the package folders."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(REPOSITORY / folder))
        for package, folder in FOLDER_OF.items()
        for path in (REPOSITORY / folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == expected
    assert {name.split("/")[0] for name in packed} == set(FLOORS)


def test_every_dependency_has_a_tested_version():
    pins = dict(
        line.split("==")
        for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert not [name for name, version in pins.items() if "+" in version], "a pin names a local build"
    wanted = list(project()["dependencies"])
    for extra in project()["optional-dependencies"].values():
        wanted += extra
    names = {re.match(r"[\w.-]+", requirement).group().lower() for requirement in wanted} - {"robopolicy"}
    assert names <= {name.lower() for name in pins}
