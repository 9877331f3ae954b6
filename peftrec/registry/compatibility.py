"""Whether a version fits a backbone: all that does not is reported at once."""

import contextlib
from collections.abc import Generator, Mapping

from peftrec.errors import CorruptAdapterError, IncompatibleAdapterError
from peftrec.registry.manifest import Fingerprints, Manifest
from peftrec.registry.version import Version

_REMEDIES = {
    "backbone": "load the backbone it was trained on ({base}), or train the adapter again on this one",
    "tokenizer": "use the tokenizer that came with {base}",
    "template": "use the text templates it was trained with, or train the adapter again",
}


def check(
    manifest: Manifest,
    *,
    fingerprints: Fingerprints,
    decoder_layers: int,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Compares a manifest with what a backbone offers.

    Args:
        manifest: Of the version.
        fingerprints: Of the backbone.
        decoder_layers: Its decoder's depth.
        shapes: Expected shape of every tensor, where known.

    Raises:
        IncompatibleAdapterError: Lists every mismatch with its remedy.
    """
    found: list[tuple[str, str]] = []
    for part, remedy in _REMEDIES.items():
        theirs, ours = getattr(manifest.fingerprints, part), getattr(fingerprints, part)
        if theirs != ours:
            found.append((f"{part} {ours[:12]}, trained on {theirs[:12]}", remedy.format(base=manifest.base_model)))
    if manifest.decoder_layers != decoder_layers:
        found.append(
            (
                f"decoder of {decoder_layers} layers, trained with {manifest.decoder_layers}",
                f"load the backbone with decoder_layers={manifest.decoder_layers}",
            )
        )
    if shapes is not None:
        wrong = [
            f"{name} {manifest.tensors[name].shape if name in manifest.tensors else 'missing'} instead of {shape}"
            for name, shape in shapes.items()
            if name not in manifest.tensors or manifest.tensors[name].shape != tuple(shape)
        ]
        wrong += [f"{name} is not known" for name in manifest.tensors if name not in shapes]
        if wrong:
            found.append(
                (f"{len(wrong)} tensors: {'; '.join(wrong)}", "use the peftrec that published it, or train it again")
            )
    if found:
        raise IncompatibleAdapterError(
            f"{manifest.name}@{manifest.version} does not fit: " + "; ".join(what for what, _ in found),
            expected="the backbone, tokenizer, templates, depth and tensors that it was trained with",
            remedy="; ".join(remedy for _, remedy in found),
        )


@contextlib.contextmanager
def told_together(version: Version) -> Generator[None]:
    """Adds to the first error met while a version is loaded all that is wrong with its files, so that nobody mends one by one.

    Files are only read again where there is an error.

    Raises:
        CorruptAdapterError: A file is damaged; all that are, are named.
        IncompatibleAdapterError: It fits something else; damaged files are named too.
    """
    try:
        yield
    except (CorruptAdapterError, IncompatibleAdapterError) as error:
        others = [problem for problem in version.problems() if problem != error.found]
        if not others:
            raise
        raise type(error)(
            "; ".join((error.found, *others)),
            expected=error.expected,
            remedy=f"{error.remedy}; restore damaged files from a copy, or publish the adapter again",
        ) from error
