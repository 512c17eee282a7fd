"""Names that are imported at their first use."""

import subprocess
import sys

import pytest

from caffe_compat import data, net, solver
from caffe_compat.lazy import lazy


def test_a_name_comes_from_its_home() -> None:
    get, _ = lazy("a.package", {"CaffeCompatError": "errors"})
    from caffe_compat.errors import CaffeCompatError

    assert get("CaffeCompatError") is CaffeCompatError
    with pytest.raises(AttributeError, match=r"^module 'a.package' has no attribute 'errors'$"):
        get("errors")


def test_each_public_name_has_a_home() -> None:
    for package in (data, net, solver):
        assert all(getattr(package, name).__name__ == name for name in package.__all__ if name != "RULES")
        assert set(package.__all__) <= set(dir(package))
    assert solver.RULES["Adam"] is solver.Adam


def test_the_packages_come_without_torch() -> None:
    code = "import sys, caffe_compat.data, caffe_compat.net, caffe_compat.solver; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
