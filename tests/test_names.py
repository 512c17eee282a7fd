"""Whoever looks for the tests of a module finds them: in the mirrored folder, in a file of the module's name."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("caffe_compat", "reproduce", "examples")
#: modules without a test of their name, and why
EXCEPTIONS = {
    "caffe_compat/pycaffe/proto/caffe_pb2.py": "hands on the names of proto/caffe_pb2.py",
}


def modules() -> list[Path]:
    """All modules but ``__init__``, whose contents the tests of their rooms reach."""
    found = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return [path.relative_to(ROOT) for path in found if path.name != "__init__.py"]


def file_of_tests(module: Path) -> Path:
    """tests/layers/test_pooling.py for caffe_compat/layers/pooling.py; a leading underscore is dropped."""
    folder = module.parent if module.parts[0] in ("reproduce", "examples") else Path(*module.parts[1:-1])
    return Path("tests") / folder / f"test_{module.stem.lstrip('_')}.py"


@pytest.mark.parametrize("module", modules(), ids=str)
def test_every_module_has_its_test(module: Path) -> None:
    if str(module) in EXCEPTIONS:
        return
    expected = file_of_tests(module)
    assert (ROOT / expected).is_file(), f"{module} has no {expected}; move its tests there, or write some"


def test_exceptions_exist_and_have_no_test() -> None:
    for name in EXCEPTIONS:
        assert (ROOT / name).is_file(), f"{name} is gone; take it from EXCEPTIONS"
        assert not (ROOT / file_of_tests(Path(name))).exists(), f"{name} has a test; take it from EXCEPTIONS"
