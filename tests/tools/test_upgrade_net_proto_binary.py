from pathlib import Path

import pytest

from tests.tools.upgrade_cases import case_names, check_case


@pytest.mark.parametrize("name", case_names("upgrade_net_proto_binary"))
def test_equals_caffes(name: str, tmp_path: Path) -> None:
    check_case(name, tmp_path)
