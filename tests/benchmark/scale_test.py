from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from benchmark.scale import plot, ratios, tables, unknown


def _phase(seconds: float) -> dict[str, Any]:
    return {
        "wall_seconds": seconds,
        "cpu_seconds": 2 * seconds,
        "processes": 3,
        "kernels_compiled": 0,
        "stored_mb": 1234.5,
        "peak_memory_mib": 600,
    }


def _measured() -> list[dict[str, Any]]:
    """Of no service of one in C, and of files that are copied in no time."""
    dist = {"wall_seconds": 0.0, "written_mb": 0.6}
    items: list[dict[str, Any]] = []
    for services in (1, 1000):
        for variant, more in (("images", 1.5), ("applications", 1)):
            item = {"services": services, "variant": variant, "dist": dist, "no_op": _phase(services / 100 * more)}
            if services > 1:
                item["c_service_changed"] = _phase(20 * more)
            if variant == "images":
                item["kernel_option_of_one_changed"] = _phase(120)
            items.append(item)
    return items


def test_ratios_are_of_what_both_have() -> None:
    rows = {(row["services"], row["phase"]): row for row in ratios(_measured())}
    assert sorted(rows) == [(1, "no_op"), (1000, "c_service_changed"), (1000, "no_op")]
    assert rows[1, "no_op"]["ratio"] == rows[1000, "c_service_changed"]["ratio"] == 1.5
    # 30 seconds against 15 of a run without changes; twice of processor time.
    assert rows[1000, "c_service_changed"]["beyond_no_op"] == [15, 30]


def test_what_has_not_been_measured_yet_is_left_out() -> None:
    assert ratios(_measured()[:1]) == []


def test_what_has_been_measured_already_is_not_measured_again() -> None:
    assert unknown([1, 10, 1000], _measured()) == [10]
    # Both are measured by turns: one of them is of no use.
    assert unknown([1, 1000], _measured()[:3]) == [1000]
    assert unknown([1], _measured()) == []


def test_tables_have_a_column_for_each_number_of_services() -> None:
    lines = tables(_measured()).splitlines()
    assert lines[0] == "| seconds, with images / without | 1 | 1,000 |"
    assert "| no-op | 0.0 / 0.0 | 15.0 / 10.0 |" in lines
    assert "| C service changed |  | 30.0 / 20.0 |" in lines
    assert "| kernel option of one changed | 120.0 | 120.0 |" in lines
    assert "| C service changed | 30 | 60 | 3 | 0 | 1,234.5 | 600 |" in lines


def test_a_plot_has_a_line_for_each_phase_and_variant(tmp_path: Path) -> None:
    plot(_measured(), tmp_path / "scale.svg")
    names = [element.text for element in ElementTree.parse(tmp_path / "scale.svg").iter() if element.tag.endswith("text")]
    assert {"no-op, images", "no-op, applications", "kernel option of one changed, images"} <= set(names)
