"""Everything that is wrong with an adapter's folder, in words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from peftrec.errors import PeftrecError
from peftrec.registry.files import listed
from peftrec.registry.signing import check_signed, parse_signatures, read_signatures
from peftrec.registry.writing import SIGNATURES

if TYPE_CHECKING:
    from peftrec.registry.reading import RegistryReader


def problems(registry: "RegistryReader", name: str, *, required: bool) -> Iterator[str]:
    """Looks at every byte; see :meth:`peftrec.registry.RegistryReader.verify`."""
    try:
        entries = sorted(listed(registry.root / name))
    except PeftrecError as error:
        yield error.found
        return
    yield from _of_state(registry, name)  # before all files are read, which takes long
    for number in registry.numbers(name, complete=False):
        found = list(_of_version(registry, name, number, required=required))
        if (registry.root / name / number).is_dir():  # else it was removed meanwhile
            yield from found
    numbers = {*registry.numbers(name, complete=False)}
    for entry in entries:
        left = entry.endswith(SIGNATURES) and entry.removesuffix(SIGNATURES) not in numbers
        if left and (registry.root / name / entry).exists():
            yield f"{name}: {entry} are signatures of no version"


def _of_version(registry: "RegistryReader", name: str, number: str, *, required: bool) -> Iterator[str]:
    try:
        version = registry.stored(name, number)
        yield from version.problems()
        signatures = read_signatures(version)
        if signatures is not None:
            parse_signatures(signatures, version.manifest)
        if registry.trusted and (required or signatures is not None):
            check_signed(version.manifest, signatures, registry.trusted)
    except PeftrecError as error:
        yield error.found


def _of_state(registry: "RegistryReader", name: str) -> Iterator[str]:
    try:
        state = registry.state(name)
        registry.history(name)
    except PeftrecError as error:
        yield error.found
        return
    numbers = {*registry.numbers(name, complete=False)}  # after the state: what is in use stays
    for alias, weights in state.aliases.items():
        for version in sorted(weights, key=int):
            if version not in numbers:
                yield f"{name}@{alias} points to version {version}, which is not there"
            elif version in state.deleted:
                yield f"{name}@{alias} points to version {version}, which is deleted"
    # What is deleted and not there was being removed when its remover was killed; the next collection tells of it.
    for version in sorted({*state.tags} - numbers - {*state.deleted}, key=int):
        yield f"{name}: version {version} has tags, but is not there"
