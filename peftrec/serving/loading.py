"""From a version on disk to an adapter that stands beside others on one backbone, or everything that keeps it from it."""

from peftrec.backbone import Backbone
from peftrec.errors import IncompatibleAdapterError
from peftrec.model.adapter import Adapter
from peftrec.model.shapes import expected_shapes
from peftrec.registry import Fingerprints, Version
from peftrec.registry.compatibility import check, told_together
from peftrec.tuners import TUNERS


def load_adapter(version: Version, backbone: Backbone) -> Adapter:
    """Loads a version for an engine; nothing is kept unless all of it fits.

    Args:
        version: Opened, its files not read yet.
        backbone: That serves it.

    Raises:
        CorruptAdapterError: Files are damaged; all that are, are named.
        IncompatibleAdapterError: It was made for another backbone, tokenizer, template, depth or shapes, or changes what all
            platforms share; every mismatch is named with its remedy, and damaged files with them.
    """
    with told_together(version):
        _check_backbone(version, backbone)
        _refuse_shared(version, version.manifest.method.partition(" ")[0])  # the form may stand behind it
        adapter = Adapter.load(version, backbone, stored=True)
        _refuse_shared(version, "" if adapter.config is None else adapter.config.method)  # what its files say
        newcomers = adapter.candidates.newcomers > 0
        check(
            version.manifest,
            fingerprints=version.manifest.fingerprints,
            decoder_layers=backbone.decoder_layers,
            shapes=expected_shapes(
                backbone, adapter.config, adapter.changes.ranks, form=adapter.form, newcomers=newcomers
            ),
        )
    return adapter


def _check_backbone(version: Version, backbone: Backbone) -> None:
    ours = Fingerprints(backbone.fingerprint, backbone.tokenizer_fingerprint, backbone.template_fingerprint)
    try:
        check(version.manifest, fingerprints=ours, decoder_layers=backbone.decoder_layers)
    except IncompatibleAdapterError as error:
        try:
            Adapter.load(version, backbone)
        except IncompatibleAdapterError as shapes:  # of tensors, which only its files tell
            found, remedy = f"{error.found}; {shapes.found}", f"{error.remedy}; {shapes.remedy}"
            raise IncompatibleAdapterError(found, expected=error.expected, remedy=remedy) from error
        raise


def _refuse_shared(version: Version, method: str) -> None:
    """Refuses methods that change the backbone itself."""
    if method in TUNERS and not TUNERS[method].servable:
        raise IncompatibleAdapterError(
            f"{version.reference} was tuned by '{method}', which changes weights that all platforms share",
            expected="an adapter that stands beside the backbone, such as LoRA",
            remedy="evaluate it with Adapter.load(version, backbone).recommender(), or train the platform with LoRAConfig",
        )
