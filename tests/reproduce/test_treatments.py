"""A treatment is one object: the plan, the figures, the report and --help take it from there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from caffe_compat.proto import read_net
from reproduce.figures import draw_all
from reproduce.network import WHOLE, Network
from reproduce.options import parse
from reproduce.plan import split_networks
from reproduce.report import Report, write_report
from reproduce.results import Result, paper_results
from reproduce.run_folder import RunSettings, write_run_folder
from reproduce.treatments import (
    BASE,
    NETBASE,
    RANDOM,
    REDUCED,
    TREATMENTS,
    Mark,
    Treatment,
    default_treatments,
    transfer,
)


def result_of(network: Network, accuracy: float) -> Result:
    return Result(
        network=network.name,
        split=network.split,
        base=network.base,
        target=network.target,
        n=network.n,
        treatment=network.treatment,
        accuracy=accuracy,
        accuracy_final=accuracy,
        loss=1.0,
        seconds=1.0,
        family=network.family,
    )


def test_names_in_order() -> None:
    control = ["BnB+1", "AnB+1", "BnB+2", "AnB+2"]
    assert list(TREATMENTS) == ["base", "BnB", "AnB", "BnB+", "AnB+", "random", "netbase", "reduced", *control]
    assert default_treatments() == ("base", "BnB", "AnB", "BnB+", "AnB+", "random")


@pytest.mark.parametrize("name", list(TREATMENTS))
def test_each_finds_its_own_networks_and_no_others(name: str) -> None:
    everything = split_networks("2", TREATMENTS)
    own = TREATMENTS[name].networks("2", range(1, 8))
    assert {network.name for network in TREATMENTS[name].of(everything)} == {network.name for network in own}
    assert all(network.frozen == TREATMENTS[name].frozen for network in own)


def test_names_of_networks() -> None:
    assert transfer("0", "A", "B", 4).name == "transfer0A0B_1_4"
    assert transfer("natman", "B", "A", 7, fine_tuned=True).name == "transfer-ftnatmanBA_1_7"
    assert [network.name for network in BASE.networks("natman", [])] == ["halfnatmanA", "halfnatmanB"]
    assert [network.name for network in RANDOM.networks("0", [2, 3])] == ["nolearn_1_2", "nolearn_1_3"]
    assert NETBASE.network().name == "netbase"
    assert (REDUCED.network(5).name, REDUCED.network(5).n) == ("reduced-0005", 5)


def test_the_authors_control_keeps_layers_above_the_cut_and_trains_them(tmp_path: Path) -> None:
    """AnB+2 at n = 3: conv1 to conv3 frozen, conv4 and conv5 copied and trained on, the rest new."""
    network = TREATMENTS["AnB+2"].networks("0", [3])[0]
    assert network.name == "transfer-keeptwo0A0B_1_3"
    net = read_net(write_run_folder(network, RunSettings(), tmp_path) / "train.prototxt")
    rates = {layer.name: [spec.lr_mult for spec in layer.param] for layer in net.layer if layer.param}
    kept = {name: [0.0, 0.0] for name in ("conv1", "conv2", "conv3")} | {
        name: [1.0, 2.0] for name in ("conv4", "conv5")
    }
    assert rates == kept | {f"{name}-new": [1.0, 2.0] for name in ("fc6", "fc7", "fc8")}


def test_transfer_takes_the_treatment_of_its_halves() -> None:
    cases = {("A", "A", False): "BnB", ("A", "B", False): "AnB", ("B", "B", True): "BnB+", ("B", "A", True): "AnB+"}
    for (base, target, fine_tuned), name in cases.items():
        assert transfer("0", base, target, 1, fine_tuned).treatment == name


@dataclass(frozen=True, kw_only=True)
class Thawed(Treatment):
    """A toy: the first n layers of half A's network, trained on with all classes."""

    def networks(self, split: str, depths: Sequence[int]) -> list[Network]:
        return [
            Network(
                name=f"thawed{split}_1_{n}",
                treatment=self.name,
                family=self.family,
                data=WHOLE,
                split=split,
                base="A",
                n=n,
                base_network=f"half{split}A",
            )
            for n in depths
        ]


TOY = Thawed(name="toy", label="thawed layers", family="thawed", default=False, mark=Mark("^", "#123456", "#654321"))


@pytest.fixture
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TREATMENTS, "toy", TOY)


@pytest.mark.usefixtures("_toy")
def test_a_new_treatment_is_planned_after_the_base_it_needs(tmp_path: Path) -> None:
    networks = split_networks("0", ["toy"], [2, 4])
    assert [network.name for network in networks] == ["half0A", "thawed0_1_2", "thawed0_1_4"]
    folder = write_run_folder(networks[2], RunSettings(), tmp_path)
    assert 'name: "conv5-new"' in (folder / "train.prototxt").read_text()


@pytest.mark.usefixtures("_toy")
def test_a_new_treatment_is_drawn_and_reported(tmp_path: Path) -> None:
    results = [result_of(network, 0.5 + 0.01 * network.n) for network in split_networks("0", ["base", "toy"], [2, 4])]
    figures = draw_all(results, paper_results(), tmp_path)
    points = (tmp_path / "fig2_points.svg").read_text()
    assert "#123456" in points
    assert "#654321" in points
    write_report(Report(results=results, paper=paper_results(), figures=figures), tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text()
    row = report[report.index('<th scope="row">toy, this run</th>') :].split("</tr>")[0]
    assert "<td>0.520 (1)</td><td></td><td>0.540 (1)</td>" in row


@pytest.mark.usefixtures("_toy")
def test_a_new_treatment_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"], "")
    assert "AnB+2, toy" in " ".join(capsys.readouterr().out.split())
    assert "toy" not in default_treatments()
