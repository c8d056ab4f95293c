"""What the contracts on imports in `pyproject.toml` cannot say."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("flows", "tasks", "sgcldff")


def modules(package: str) -> dict[str, Path]:
    """Name the modules of a package."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


PYTHON = {name: path for package in PACKAGES for name, path in modules(package).items()}


def names(node: ast.AST) -> Iterator[str]:
    """Yield what an import statement may import: modules, and names that may be modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported(path: Path) -> set[str]:
    """Give all that a file imports, inside functions too."""
    return {name for node in ast.walk(ast.parse(path.read_text())) for name in names(node)}


def imported_at_once(path: Path) -> set[str]:
    """Give what a file imports while it is itself imported."""
    return {name for node in ast.parse(path.read_text()).body for name in names(node)}


def test_modules_are_found():
    assert {"sgcldff.registry", "tasks.policy", "flows.cli", "sgcldff.saliency.priors"} <= set(PYTHON)


def imported_by_name(path: Path) -> set[str]:
    """Give the modules that a file imports by a function that takes their name."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and node.args)
    return {
        call.args[0].value
        for call in calls
        if ast.unparse(call.func).rpartition(".")[2] in ("import_module", "__import__", "importorskip")
        and isinstance(call.args[0], ast.Constant)
    }


@pytest.mark.slow
def test_openvino_is_imported_only_where_its_reports_of_use_are_kept_from_it():
    everything = PYTHON | modules("tests") | modules("benchmarks")
    users = {
        path.relative_to(ROOT).as_posix()
        for path in everything.values()
        if "openvino" in {name.partition(".")[0] for name in imported(path) | imported_by_name(path)}
    }
    assert users == {"sgcldff/models/runtimes/openvino_library.py"}


def test_no_relative_imports():
    relative = [
        module
        for module, path in PYTHON.items()
        if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(ast.parse(path.read_text())))
    ]
    assert not relative


def module_of(name: str) -> str | None:
    """Find the module that holds a dotted name."""
    return name if name in PYTHON else next((known for known in (name.rpartition(".")[0],) if known in PYTHON), None)


def test_imports_make_no_circle():
    graph = {
        module: {found for name in imported_at_once(path) if (found := module_of(name)) not in (None, module)}
        for module, path in PYTHON.items()
    }
    assert sum(map(len, graph.values())) > len(graph), "hardly any arrow was found: the test looks at nothing"
    TopologicalSorter(graph).prepare()


def test_the_command_line_starts_without_what_it_may_not_need():
    heavy = ("mlflow", "torch", "prefect", "distributed", "lightning")
    script = f"import sys, flows.cli; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("modules", ["flows.infer, sgcldff.cluster", "flows.retrain, sgcldff.registry.versions"])
def test_torch_is_not_loaded_to_plan_slides_or_to_read_the_registry(modules):
    """A client that waits for a thousand slides pays for what it imports; most nights there is nothing to train."""
    script = f"import sys, {modules}; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
