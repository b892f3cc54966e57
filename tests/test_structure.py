"""The shape of the source: sizes of files, functions and signatures, and imports that point one way."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").glob("*.py")])
FILE_LINES, BODY_LINES, ARGUMENTS = 400, 40, 8
OPTIONS = ("options", "budget")  # arguments that hold options, and are not counted
WIDE = (  # more arguments than that, all but the first few by name
    "fit.py:fit",  # takes what `keras.Model.compile` and `fit` take
    "fit.py:train_supernet",
    "encoded.py:__init__",
    "records.py:record_dataset",
    "records.py:tfrecord",
)
COMPOSING = {  # functions of stages that take the whole experiment and that no record names
    "pipeline.py": {"_run_stages"},
    "preflight.py": {"check_before"},
    "record.py": {"folder", "is_ready", "came_from", "finished"},  # of `Stage`, and a default of its
    "recipe.py": {"recipe_of", "recipe_needs", "check_recipe"},
    "wanted.py": {"wanted", "uniform"},  # the networks of a run, from its searches and recipe
    "export.py": {"done_networks"},
    "search.py": {"trajectory_if_done", "search_result"},  # what its stage left
    "finalists.py": {"run_candidate"},  # work of stage search
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def body_lines(function):
    """Lines of a function's body, its docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def arguments(function):
    """Number of a function's arguments; the receiver, options, *args and **kwargs are left out."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls", *OPTIONS)])


def imports(path):
    """Modules of the package that a module imports when it is loaded, or for types: [(from, name)]."""
    tree = parsed(path)
    inner = {id(node) for function in functions(tree) for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in inner and node.module:
            for alias in node.names:
                yield node.module, alias.name
        elif isinstance(node, ast.Import) and id(node) not in inner:
            for alias in node.names:
                yield alias.name, None


def module_of(path):
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circle(links):
    """Modules that import one another, as a list that ends where it begins; None: there are none."""
    done, trail = set(), []

    def visit(module):
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return None
        trail.append(module)
        found = next((one for link in sorted(links[module]) if (one := visit(link))), None)
        trail.pop()
        done.add(module)
        return found

    return next((one for module in links if (one := visit(module))), None)


def test_no_file_is_long():
    long = {p.name: n for p in SOURCES if (n := len(p.read_text().splitlines())) > FILE_LINES}
    assert not long


@pytest.mark.parametrize("measure, most", [(body_lines, BODY_LINES), (arguments, ARGUMENTS)])
def test_no_function_is_long(measure, most):
    found = {
        f"{path.name}:{function.name}": size
        for path in SOURCES
        for function in functions(parsed(path))
        if (size := measure(function)) > most
    }
    assert set(found) <= set(WIDE if measure is arguments else ())


def test_modules_do_not_import_one_another_also_for_types():
    modules = {module_of(path): path for path in SOURCES if "src" in path.parts and "conf" not in path.parts}
    links = {}
    for name, path in modules.items():
        pairs = list(imports(path))
        found = {f"{module}.{one}" if f"{module}.{one}" in modules else module for module, one in pairs}
        links[name] = (found & modules.keys()) - {name}
    assert circle(links) is None


def test_imports_point_one_way_between_packages():
    """As the table of packages in docs/architecture.md has them, from the bottom up."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = text.split("## Packages")[1].split("\n## ")[0].splitlines()
    cells = [row.split("|")[1] for row in rows if row.startswith("| `")]
    rank = {name: place for place, cell in enumerate(cells) for name in re.findall(r"`(\w+)/?`", cell)}
    wrong = set()
    for path in SOURCES:
        own = module_of(path).split(".") if "src" in path.parts and "conf" not in path.parts else []
        for module, name in imports(path) if own[1:] and own[1] != "__main__" else ():
            package, _, rest = module.partition(".")
            other = rest.partition(".")[0] or name
            if package == "autoslim" and other != "__version__" and rank[other] > rank[own[1]]:
                wrong.add((module_of(path), module))
    assert not wrong


def takes_experiment(function):
    """Whether a function has an argument of type `Experiment`."""
    given = function.args
    types = [one.annotation for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return any(re.search(r"\bExperiment\b", ast.unparse(one)) for one in types if one is not None)


def named_by_records(tree, file):
    """(file, function) of all that the `Stage` or `Look` of a module of stages names."""
    nodes = list(ast.walk(tree))
    origin = {
        alias.name: f"{node.module.rpartition('.')[2]}.py"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in ("Stage", "Look"):
            for one in (*node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(one, ast.Name):
                    yield origin.get(one.id, file), one.id


def test_the_whole_experiment_is_taken_by_what_stage_records_name():
    """Other functions of stages take the objects that they use."""
    trees = {path.name: parsed(path) for path in (ROOT / "src/autoslim/stages").glob("*.py")}
    named = {pair for file, tree in trees.items() for pair in named_by_records(tree, file)}
    taking = {(f, one.name) for f, tree in trees.items() for one in functions(tree) if takes_experiment(one)}
    assert taking - named == {(file, name) for file, names in COMPOSING.items() for name in names}
    assert len(taking & named) > 30  # the check finds them


def test_the_checks_find_what_they_look_for():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
    (function,) = functions(ast.parse('def f(self, a, *, b=1, **c):\n    """Doc."""\n    x = 1\n    g(x)'))
    assert body_lines(function) == 2 and arguments(function) == 2


def test_the_map_of_behaviours_names_what_there_is():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.split("## Where to find")[1].split("\n## ")[0]
    places = re.findall(r"`([\w.]+)`(?: and `(\w+)`)? in `([\w/]+\.py)`", section)
    assert len(places) >= 10
    for *names, file in places:
        defined = {
            node.name for node in ast.walk(parsed(ROOT / "src/autoslim" / file)) if hasattr(node, "name")
        }
        assert {name.rpartition(".")[2] for name in names if name} <= defined | {"representative_dataset"}
