from __future__ import annotations

import pytest
from pants.backend.project_info import dependents
from pants.backend.project_info.dependents import Dependents, DependentsRequest
from pants.core.target_types import FilesGeneratorTarget, FileTarget
from pants.core.target_types import rules as core_target_types_rules
from pants.engine.addresses import Address, Addresses
from pants.engine.target import DependenciesRequest
from pants.testutil.rule_runner import QueryRule, RuleRunner

from pants_unikernel import dependency_inference
from pants_unikernel.target_types import UnikernelImageDependenciesField, UnikernelImageTarget


@pytest.fixture
def rule_runner() -> RuleRunner:
    rule_runner = RuleRunner(
        rules=[
            *core_target_types_rules(),
            *dependency_inference.rules(),
            *dependents.rules(),
            QueryRule(Addresses, [DependenciesRequest]),
            QueryRule(Dependents, [DependentsRequest]),
        ],
        target_types=[FilesGeneratorTarget, FileTarget, UnikernelImageTarget],
    )
    rule_runner.write_files(
        {
            "app/BUILD": "files(name='app', sources=['app.txt'])\n",
            "app/app.txt": "",
            "web/BUILD": (
                "file(name='config', source='web.conf')\n"
                "unikernel_image(name='image', app='app', files=[(':config', '/etc/web.conf')])\n"
            ),
            "web/web.conf": "",
        }
    )
    return rule_runner


def test_application_and_extra_files_are_dependencies(rule_runner: RuleRunner) -> None:
    image = rule_runner.get_target(Address("web", target_name="image"))
    dependencies = rule_runner.request(Addresses, [DependenciesRequest(image[UnikernelImageDependenciesField])])
    assert set(dependencies) == {Address("app"), Address("web", target_name="config")}


def test_a_change_below_the_application_reaches_the_image(rule_runner: RuleRunner) -> None:
    changed = DependentsRequest([Address("app", relative_file_path="app.txt")], transitive=True, include_roots=False)
    assert Address("web", target_name="image") in rule_runner.request(Dependents, [changed])
