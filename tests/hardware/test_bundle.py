import ast
import sys
from pathlib import Path

from nas.hardware import agent, bundle

RUNTIMES = {"onnxruntime", "torch", "openvino", "tensorrt"}


def test_the_agent_needs_numpy_and_a_runtime_alone():
    for path in Path(agent.__path__[0]).rglob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {a.name.partition(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module).partition(".")[0])
        own = {path.stem} & RUNTIMES if path.parent.name == "engines" else set()
        own |= {"torch"} if "tensorrt" in own else set()  # its memory and its clock
        assert names - sys.stdlib_module_names <= {"numpy"} | own, path


def test_equal_modules_give_equal_bytes(tmp_path):
    first = bundle.write(tmp_path).read_bytes()
    bundle.packed.cache_clear()
    assert bundle.write(tmp_path).read_bytes() == first


def test_other_hosts_may_have_an_older_python():
    for path in Path(agent.__path__[0]).rglob("*.py"):
        tree = ast.parse(path.read_text(), feature_version=(3, 9))
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
        strict = [n.lineno for n in calls if any(k.arg == "strict" for k in n.keywords)]
        assert not strict, f"{path}: zip has no strict before 3.10"
        typed = any(isinstance(n, ast.FunctionDef) for n in ast.walk(tree))
        assert "from __future__ import annotations" in path.read_text() or not typed, path
