import pytest
from outside_attention import make

from ttt_testing import TestSuite, remembered


@pytest.mark.ttt_device("n150", "t3k")
def test_attention(mesh):
    with remembered():
        attention, reference = make(mesh)
    with TestSuite(attention, device=mesh) as suite:
        suite.test(attention).against(reference).tolerance(1e-3).expect(pcc=0.99, memory_mb=2)
