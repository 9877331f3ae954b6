"""``peftrec adapt``: a backbone for the products and shoppers of several platforms."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from peftrec.errors import ConfigError

if TYPE_CHECKING:
    from peftrec.data import Dataset

console = Console()

LAST = "last"


def adapt(
    out: Annotated[Path, typer.Argument(help="Folder that the adapted backbone is saved in.")],
    platform: Annotated[
        list[str],
        typer.Option(
            help="A platform as [ALIAS:]NAME[=PATH][@CUT]; repeat for several. NAME is a data set's as in peftrec train, PATH the"
            " file or folder of one that comes as files. ALIAS is what the platform is called, where two come from one kind of"
            " source. CUT is the moment, ISO 8601, UTC, that training ends before; `last` leaves out each shopper's last event"
            " where only their order is known; without it, all is read."
        ),
    ],
    backbone: Annotated[str, typer.Option(help="Short name, local folder of a BERT, or hub id.")] = "minilm-l6",
    language_epochs: Annotated[float, typer.Option(help="Passes over product texts; 0 leaves that stage out.")] = 2.0,
    shopping_epochs: Annotated[float, typer.Option(help="Passes over shoppers; 0 leaves that stage out.")] = 1.0,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoints in OUT.work.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
) -> None:
    """Adapts a backbone once, for all platforms: to the language of their products, then to their shoppers.

    Cut each platform where its test window begins, or its future is learned by heart. Train adapters on the result with
    peftrec train --backbone OUT; a platform that has none yet is served without one.

    Example: peftrec adapt backbones/shops --platform completejourney@2017-11-27T05:00
    --platform online_retail=invoices.parquet@2011-11-04
    """
    from peftrec import AdaptConfig, Backbone, LanguageConfig, ShoppingConfig
    from peftrec import adapt as run

    training = replace(ShoppingConfig().training, epochs=shopping_epochs or 1.0, seed=seed)
    config = AdaptConfig(
        language=LanguageConfig(epochs=language_epochs, seed=seed) if language_epochs else None,
        shopping=ShoppingConfig(training=training) if shopping_epochs else None,
    )
    datasets = [_platform(text) for text in platform]
    for dataset in datasets:
        console.print(repr(dataset), markup=False, highlight=False, soft_wrap=True)
    found = run(Backbone.load(backbone), datasets, config, folder=out, resume=resume)
    told = f"{out}: backbone {found.fingerprint[:12]}, {found.layers} layers, decoder of {found.decoder_layers}"
    console.print(told, f"next: peftrec train NAME --backbone {out}", sep="\n", markup=False, soft_wrap=True)


def _platform(text: str) -> "Dataset":
    """Reads ``[ALIAS:]NAME[=PATH][@CUT]``.

    Raises:
        ConfigError: No name is given.
    """
    from peftrec import load_dataset

    named, _, cut = text.rpartition("@") if "@" in text else (text, "", "")
    called, _, path = named.partition("=")
    alias, colon, name = called.rpartition(":")
    if not name or (colon and not alias):
        raise ConfigError(
            f"--platform {text!r}",
            expected="[ALIAS:]NAME[=PATH][@CUT], such as online_retail=invoices.parquet@2011-11-04 or toys:amazon=toys/@last",
            remedy="name the data set first",
        )
    shop = load_dataset(name, Path(path) if path else None)
    shop = replace(shop, name=alias) if alias else shop
    if not cut:
        return shop
    return shop.leave_last_out()[0] if cut == LAST else shop.split(at=cut)[0]
