from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from strictyaml import ruamel

from unikernel import cli
from unikernel.deploy.manifests import manifests, memory_quantity, write_manifests
from unikernel.deploy.workload import ServicePort, Workload
from unikernel.errors import UnikernelError
from unikernel.testing.kubernetes import VERSIONS, kubernetes_complaint
from unikernel.testing.workloads import CONTAINER_IMAGE, IMAGE_PATH, TRAPS, UNIKERNEL_IMAGE, workload, workloads

_CONTAINER, _UNIKERNEL = "deployment.container.yaml", "deployment.unikernel.yaml"
_OF_KUBERNETES = ("service.yaml", _CONTAINER, _UNIKERNEL)


def _documents(made: Workload) -> dict[str, dict[str, Any]]:
    return {name: yaml.safe_load(text) for name, text in manifests(made).items()}


def _pod(document: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = document["spec"]["template"]["spec"]
    return pod


# --- what is written ----------------------------------------------------------------------------------------------


def test_the_service() -> None:
    made = workload(namespace="web", labels={"team": "web"})
    first = manifests(made)["service.yaml"].partition("\n")[0]
    assert first == "# From src/services/greeter:deploy, by unikernel deploy-manifests."
    assert _documents(made)["service.yaml"] == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "greeter",
            "namespace": "web",
            "labels": {
                "app.kubernetes.io/name": "greeter",
                "app.kubernetes.io/managed-by": "pants-unikernel",
                "team": "web",
            },
            "annotations": {"unikernel/target": "src/services/greeter:deploy"},
        },
        "spec": {
            "selector": {"app.kubernetes.io/name": "greeter"},
            "ports": [
                {"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP"},
                {"name": "udp-5353", "port": 5353, "targetPort": 5353, "protocol": "UDP"},
            ],
        },
    }


def test_the_deployments_differ_in_image_and_runtime_class_only() -> None:
    documents = _documents(workload(replicas=3, cpus=2, service_account="greeter", runtime_class="urunc-qemu"))
    container, unikernel = documents[_CONTAINER], documents[_UNIKERNEL]
    assert "runtimeClassName" not in _pod(container)
    assert _pod(unikernel).pop("runtimeClassName") == "urunc-qemu"
    assert _pod(container)["containers"][0].pop("image") == CONTAINER_IMAGE
    assert _pod(unikernel)["containers"][0].pop("image") == UNIKERNEL_IMAGE
    assert container == unikernel
    assert container["spec"]["replicas"] == 3 and _pod(container)["serviceAccountName"] == "greeter"


def test_the_service_selects_the_pods_and_machines() -> None:
    documents = _documents(workload(labels={"tier": "front"}))
    selector = documents["service.yaml"]["spec"]["selector"]
    for name in (_CONTAINER, _UNIKERNEL, "virtual-machine.yaml"):
        labels = documents[name]["spec"]["template"]["metadata"]["labels"]
        assert selector.items() <= labels.items() and labels["tier"] == "front"
    assert documents[_CONTAINER]["spec"]["selector"] == {"matchLabels": selector}


def test_a_guest_has_the_memory_that_its_image_declares() -> None:
    documents = _documents(workload(memory=(96 << 20) + 1, cpus=2))
    for name in (_CONTAINER, _UNIKERNEL):
        resources = _pod(documents[name])["containers"][0]["resources"]
        assert resources == {"requests": {"cpu": "200m", "memory": "97Mi"}, "limits": {"cpu": "2", "memory": "97Mi"}}
    domain = _pod(documents["virtual-machine.yaml"])["domain"]
    assert (domain["memory"], domain["cpu"]) == ({"guest": "97Mi"}, {"cores": 2})
    assert memory_quantity(1 << 30) == "1024Mi"
    comment = "# The limit is the guest's memory"
    assert [name for name, text in manifests(workload()).items() if comment in text] == [_UNIKERNEL]


@pytest.mark.parametrize(("port", "added"), [(80, ["NET_BIND_SERVICE"]), (1023, ["NET_BIND_SERVICE"]), (1024, None)])
def test_a_pod_has_no_more_privileges_than_its_ports_need(port: int, added: list[str] | None) -> None:
    pod = _pod(_documents(workload(ports=(ServicePort(port),)))[_CONTAINER])
    context = pod["containers"][0]["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"]["drop"] == ["ALL"] and context["capabilities"].get("add") == added
    assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False


def test_one_port_for_tcp_and_udp() -> None:
    documents = _documents(workload(ports=(ServicePort(53), ServicePort(53, "udp"))))
    ports = documents["service.yaml"]["spec"]["ports"]
    assert [(port["name"], port["port"]) for port in ports] == [("tcp-53", 53), ("udp-53", 53)]
    for name in _OF_KUBERNETES:
        assert kubernetes_complaint(documents[name]) == ""


def test_an_elf_file_is_booted_as_a_kernel() -> None:
    document = _documents(workload(kernel_arguments="quiet -- --verbose"))["virtual-machine.yaml"]
    assert document["spec"]["runStrategy"] == "Always"
    assert _pod(document) == {
        "domain": {
            "cpu": {"cores": 1},
            "memory": {"guest": "128Mi"},
            "firmware": {
                "kernelBoot": {
                    "container": {"image": UNIKERNEL_IMAGE, "kernelPath": IMAGE_PATH},
                    "kernelArgs": "quiet -- --verbose",
                }
            },
            "devices": {
                "autoattachGraphicsDevice": False,
                "autoattachMemBalloon": False,
                "interfaces": [
                    {
                        "name": "default",
                        "masquerade": {},
                        "ports": [
                            {"name": "http", "port": 8080, "protocol": "TCP"},
                            {"name": "udp-5353", "port": 5353, "protocol": "UDP"},
                        ],
                    }
                ],
            },
        },
        "networks": [{"name": "default", "pod": {}}],
    }
    without = _documents(workload())["virtual-machine.yaml"]
    assert "kernelArgs" not in _pod(without)["domain"]["firmware"]["kernelBoot"]


@pytest.mark.parametrize("image_path", ["", "/disk/greeter.raw"])
def test_a_disk_is_a_volume(image_path: str) -> None:
    pod = _pod(_documents(workload(kind="disk", image_path=image_path))["virtual-machine.yaml"])
    assert "firmware" not in pod["domain"]
    [disk], [volume] = pod["domain"]["devices"]["disks"], pod["volumes"]
    assert disk == {"name": volume["name"], "disk": {"bus": "virtio"}}
    assert volume["containerDisk"] == {"image": UNIKERNEL_IMAGE, **({"path": image_path} if image_path else {})}


# --- which files there are ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "files", "listed"),
    [
        ({}, ["service.yaml", _CONTAINER, _UNIKERNEL, "virtual-machine.yaml"], ["service.yaml", _CONTAINER]),
        (
            {"deploy_as": "unikernel"},
            ["service.yaml", _CONTAINER, _UNIKERNEL, "virtual-machine.yaml"],
            ["service.yaml", _UNIKERNEL],
        ),
        ({"unikernel_image": ""}, ["service.yaml", _CONTAINER], ["service.yaml", _CONTAINER]),
        ({"container_image": ""}, ["service.yaml", _UNIKERNEL, "virtual-machine.yaml"], ["service.yaml", _UNIKERNEL]),
        ({"ports": (), "unikernel_image": ""}, [_CONTAINER], [_CONTAINER]),
        (
            {"kind": "disk", "container_image": ""},
            ["service.yaml", "virtual-machine.yaml"],
            ["service.yaml", "virtual-machine.yaml"],
        ),
    ],
)
def test_there_is_what_the_images_allow(changes: dict[str, Any], files: list[str], listed: list[str], tmp_path: Path) -> None:
    written = write_manifests(workload(**changes), tmp_path / "a/b")
    assert written == [tmp_path / "a/b" / name for name in [*files, "kustomization.yaml"]]
    assert sorted((tmp_path / "a/b").iterdir()) == sorted(written)
    kustomization = yaml.safe_load((tmp_path / "a/b/kustomization.yaml").read_text())
    assert kustomization["resources"] == listed


def test_a_comment_says_which_line_to_flip() -> None:
    assert manifests(workload())["kustomization.yaml"] == (
        "# From src/services/greeter:deploy, by unikernel deploy-manifests.\n"
        "# To run the service otherwise, replace deployment.container.yaml below by deployment.unikernel.yaml or"
        " virtual-machine.yaml.\n"
        "apiVersion: kustomize.config.k8s.io/v1beta1\n"
        "kind: Kustomization\n"
        "resources:\n"
        "- service.yaml\n"
        "- deployment.container.yaml\n"
    )
    flipped = manifests(workload(deploy_as="unikernel"))["kustomization.yaml"]
    assert "replace deployment.unikernel.yaml below by deployment.container.yaml or virtual-machine.yaml." in flipped
    assert "replace" not in manifests(workload(unikernel_image=""))["kustomization.yaml"]


def test_manifests_of_an_earlier_run_go_and_other_files_stay(tmp_path: Path) -> None:
    write_manifests(workload(), tmp_path)
    (tmp_path / "ingress.yaml").write_text("mine")
    write_manifests(workload(unikernel_image="", ports=()), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [_CONTAINER, "ingress.yaml", "kustomization.yaml"]


def test_what_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnikernelError, match="cannot be written to .*file: File exists"):
        write_manifests(workload(), tmp_path / "file")
    (tmp_path / "directory/service.yaml").mkdir(parents=True)
    with pytest.raises(UnikernelError, match="cannot be written to .*directory: Is a directory"):
        write_manifests(workload(), tmp_path / "directory")
    assert [path.name for path in (tmp_path / "directory").iterdir()] == ["service.yaml"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    description = tmp_path / "workload.json"
    description.write_text(
        f'{{"name": "greeter", "memory": 134217728, "container_image": "{CONTAINER_IMAGE}", "ports": [{{"port": 80}}]}}'
    )
    command = ["deploy-manifests", "--workload", str(description), "--output", str(tmp_path / "out")]
    assert cli.main(command) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [_CONTAINER, "kustomization.yaml", "service.yaml"]
    description.write_text('{"name": "greeter", "memory": 134217728, "container_image": "greeter:latest"}')
    assert cli.main([*command[:-1], str(tmp_path / "bad")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("unikernel: ") and "container_image: 'greeter:latest'" in error and error.count("\n") == 1
    assert not (tmp_path / "bad").exists()


# --- what readers and schemas say ---------------------------------------------------------------------------------


def _objects(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all objects in a document."""
    if isinstance(value, dict):
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _objects(item, (*path, key))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", _OF_KUBERNETES)
def test_manifests_are_valid_and_what_is_misspelt_is_not(name: str, version: str) -> None:
    document = _documents(workload(namespace="web", service_account="greeter"))[name]
    assert kubernetes_complaint(document, version) == ""
    free = {"annotations", "labels", "limits", "matchLabels", "requests", "selector"}
    tried = 0
    for path in _objects(document):
        # A Service's selector is a map of labels; a Deployment's is an object.
        if path and path[-1] in free and not (path[-1] == "selector" and document["kind"] == "Deployment"):
            continue
        misspelt = copy.deepcopy(document)
        place = misspelt
        for key in path:
            place = place[key]
        place["misspelt"] = "a"
        assert "misspelt" in kubernetes_complaint(misspelt, version), path
        tried += 1
    assert tried >= 5


def test_what_is_no_value_is_not_valid() -> None:
    document = _documents(workload())[_UNIKERNEL]
    document["spec"]["replicas"] = "one"
    assert "'one' is not of type" in kubernetes_complaint(document)


def _ruamel(text: str, version: str) -> Any:
    reader = ruamel.YAML(typ="safe", pure=True)
    reader.version = version
    return reader.load(text)


@given(workloads())
@settings(max_examples=40, deadline=None)
def test_all_readers_read_the_same_valid_documents(made: Workload) -> None:
    texts = manifests(made)
    assert manifests(copy.deepcopy(made)) == texts
    for name, text in texts.items():
        document = yaml.safe_load(text)
        assert _ruamel(text, "1.1") == document and _ruamel(text, "1.2") == document
        if name in _OF_KUBERNETES:
            assert kubernetes_complaint(document) == ""
            assert made.labels.items() <= document["metadata"]["labels"].items()
            assert document["metadata"].get("annotations", {}) == ({"unikernel/target": made.target} if made.target else {})


@pytest.mark.parametrize("trap", [trap for trap in TRAPS if trap[-1] != "."])
def test_a_label_stays_the_string_that_it_is(trap: str) -> None:
    text = manifests(workload(labels={trap: trap}))[_UNIKERNEL]
    for document in (yaml.safe_load(text), _ruamel(text, "1.1"), _ruamel(text, "1.2")):
        assert document["metadata"]["labels"][trap] == trap


def test_the_order_of_labels_is_not_in_the_manifests() -> None:
    assert manifests(workload(labels={"a": "1", "b": "2"})) == manifests(workload(labels={"b": "2", "a": "1"}))
