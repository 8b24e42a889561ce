from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from unikernel.errors import UnikernelError
from unikernel.linux import kit_key
from unikernel.linux.kit_key import KeyIngredients, key_ingredients, normal_options
from unikernel.package_sources import package_sources


def test_a_key_is_the_digest_of_canonical_json() -> None:
    ingredients = KeyIngredients(2, ("CONFIG_SMP=y",), {"linux/kit.py": "ab"})
    written = b'{"kernel_options":["CONFIG_SMP=y"],"layout":2,"sources":{"linux/kit.py":"ab"}}'
    assert ingredients.key == hashlib.sha256(written).hexdigest()


def test_each_ingredient_decides_the_key() -> None:
    ingredients = key_ingredients(["CONFIG_SMP=y"])
    path = "linux/kernel/base.config"
    others = [
        replace(ingredients, layout=ingredients.layout + 1),
        key_ingredients([]),
        key_ingredients(["CONFIG_SMP=n"]),
        replace(ingredients, sources={**ingredients.sources, path: "00" * 32}),
        replace(ingredients, sources={name: digest for name, digest in ingredients.sources.items() if name != path}),
    ]
    assert len({ingredients.key, *(other.key for other in others)}) == 1 + len(others)


def test_the_sources_are_those_that_configure_and_compile() -> None:
    sources = key_ingredients([]).sources
    for path in ("linux/kit.py", "linux/kernel/base.config", "linux/kernel/rootfs.c", "linux/init/init.c", "linux/pid1.py"):
        assert sources[path] == hashlib.sha256(package_sources(path)[path]).hexdigest()
    assert not any(path.endswith(("_test.c", "_test.py")) for path in sources)
    # An edit of what packs and verifies kits compiles no kernel.
    assert not any(path.startswith(("linux/kit_", "signing/", "cli")) for path in sources)


def test_an_installation_without_one_of_the_sources_has_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit_key, "KIT_SOURCES", ("linux/none.py",))
    with pytest.raises(UnikernelError, match="has no file linux/none.py: it is incomplete"):
        key_ingredients([])


def test_the_normal_form_of_options() -> None:
    options = ["CONFIG_SMP=y", " CONFIG_HZ=100", "# CONFIG_NET is not set", "CONFIG_SMP=n"]
    assert normal_options(options) == ("CONFIG_HZ=100", "CONFIG_NET=n", "CONFIG_SMP=n")
    assert key_ingredients(options).key == key_ingredients(reversed(options[1:])).key
    with pytest.raises(UnikernelError, match="'CONFIG_NET' is no kernel option"):
        normal_options(["CONFIG_NET"])
