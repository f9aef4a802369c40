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
        assert names - sys.stdlib_module_names <= {"numpy"} | own, path


def test_equal_modules_give_equal_bytes(tmp_path):
    first = bundle.write(tmp_path).read_bytes()
    bundle.packed.cache_clear()
    assert bundle.write(tmp_path).read_bytes() == first
