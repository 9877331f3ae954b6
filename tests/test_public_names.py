"""The public names: exact, sorted, loadable, and free until they are used."""

import importlib.metadata
import subprocess
import sys

import pytest

import peftrec

NAMES = [
    "AdaLoRAConfig",
    "AdaptConfig",
    "Adapter",
    "Backbone",
    "BottleneckConfig",
    "Catalog",
    "CleaningRules",
    "Coupons",
    "CrossEncoderConfig",
    "Dataset",
    "Engine",
    "Events",
    "Gate",
    "LanguageConfig",
    "LoRAConfig",
    "Profiles",
    "Promotions",
    "Registry",
    "Rules",
    "ShoppingConfig",
    "TrainConfig",
    "__version__",
    "adapt",
    "evaluate",
    "load_dataset",
    "train_adapter",
    "train_cross_encoder",
]


def test_all_is_exact_and_sorted():
    assert peftrec.__all__ == NAMES == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_loads_and_is_what_its_package_exports(name: str):
    value = getattr(peftrec, name)
    if name != "__version__":
        home = importlib.import_module(peftrec._HOMES[name])
        assert value is getattr(home, name)
        assert name in home.__all__


def test_editors_see_every_name():
    assert set(NAMES) <= set(dir(peftrec))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Recommender'"):
        _ = peftrec.Recommender  # pyright: ignore[reportAttributeAccessIssue]


def test_the_version_is_that_of_the_installed_package():
    try:
        installed = importlib.metadata.version("peftrec")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("peftrec is not installed, only on the path")
    assert installed == peftrec.__version__


@pytest.mark.parametrize("package", ["peftrec", "peftrec.errors", "peftrec.data", "peftrec.registry", "peftrec.text"])
def test_importing_imports_nothing_heavy(package: str):
    heavy = "{'torch', 'transformers', 'peft', 'datasets', 'bitsandbytes', 'numba'}"
    code = f"import sys, {package}; found = {heavy} & set(sys.modules); sys.exit(', '.join(sorted(found)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
