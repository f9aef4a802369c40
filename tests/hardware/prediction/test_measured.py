import pytest
from onnx_networks import mixed

from nas.core.errors import NasError
from nas.hardware.prediction import analytic
from nas.hardware.prediction.measured import read


def csv(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_operators(tmp_path):
    path = csv(
        tmp_path / "o.csv",
        "op,batch,inputs,outputs,kernel,side,stride,groups,m,n,k,b,rows,width,count,latency_ms",
        "conv,2,8,16,3,14,2,,,,,,,,,0.5",
        "linear,,,,,,,,4,5,6,,,,,0.1",
        "bmm,,,,,,,,4,5,6,3,,,,0.1",
        "norm,,,,,,,,,,,,10,20,,0.1",
        "Add,,2,,,,,,,,,,,,100,0.02",
    )
    found = read(path, "torch eager")
    assert found.operators == (
        analytic.conv(2, 8, 16, 3, 14, 2), analytic.linear(4, 5, 6), analytic.bmm(3, 4, 5, 6),
        analytic.norm(10, 20), analytic.elementwise("Add", 100, 2),
    )  # fmt: skip
    assert found.latencies_ms == (0.5, 0.1, 0.1, 0.1, 0.02) and not found.networks


def test_networks_lie_beside_the_table(tmp_path):
    mixed(tmp_path / "n.onnx")
    path = csv(tmp_path / "n.csv", "file,latency_ms,batch", "n.onnx,3.5,2", "n.onnx,1.5,")
    found = read(path, "torch eager")
    two, one = found.networks
    assert sum(k.flops for k in two) > 1.9 * sum(k.flops for k in one)
    assert found.latencies_ms == (3.5, 1.5)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("a,b", "1,2"), "has the columns a, b"),
        (("op,latency_ms", "Relu,0.1"), "line 2 .*count = ''"),
        (("op,count,latency_ms", "Relu,10,0.1", "Relu,10,-1"), "line 3 .*latency_ms = '-1'"),
        (("op,count,latency_ms", "Rellu,10,0.1"), "Rellu"),
        (("file,latency_ms", "nowhere.onnx,1"), "line 2 .*nowhere.onnx"),
        (("file,latency_ms", ",1"), "line 2 .*no file ''"),
        (("op,m,n,k,latency_ms", "linear,4,5,0.5,1"), "line 2 .*k = 0.5"),
        (("op,count,latency_ms",), "no rows"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, lines, said):
    with pytest.raises(NasError, match=said):
        read(csv(tmp_path / "x.csv", *lines), "torch eager")


def test_the_mark_of_a_spreadsheet_is_no_part_of_a_column(tmp_path):
    (tmp_path / "s.csv").write_text("op,count,latency_ms\nRelu,10,0.1\n", encoding="utf-8-sig")
    assert len(read(tmp_path / "s.csv", "torch eager").operators) == 1


def test_no_such_file(tmp_path):
    with pytest.raises(NasError, match="cannot read"):
        read(tmp_path / "none.csv", "torch eager")
