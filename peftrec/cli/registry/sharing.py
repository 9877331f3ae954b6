"""Commands that bring versions elsewhere and vouch for them: export, import, copy, push, pull, keygen, sign, verify."""

from pathlib import Path
from typing import Annotated

import typer

from peftrec.cli.registry.looking import told_problems
from peftrec.cli.registry.options import AsJson, Folder, Reference, app, tell
from peftrec.errors import RegistryError
from peftrec.registry import Registry, Version
from peftrec.registry.archive import Parcel, archive_name, load, read_archive, write_archive
from peftrec.registry.keys import generate_key
from peftrec.registry.signing import read_signatures

HUB = "hf://"

OnArrival = Annotated[str | None, typer.Option("--alias", help="Alias that points to it afterwards.")]
NewName = Annotated[
    str | None,
    typer.Option(
        "--name", help="Publish it under this name and its next number, without the signatures of the old one."
    ),
]
Trusted = Annotated[
    list[Path] | None,
    typer.Option("--trusted-key", help="PEM file of a public key that must have signed; repeat for several."),
]
Url = Annotated[
    str,
    typer.Argument(
        help="Folder on a file system that fsspec knows, such as s3://bucket/adapters; or hf://USER/REPOSITORY."
    ),
]


@app.command()
def export(
    reference: Reference,
    path: Annotated[Path | None, typer.Argument(help="File to write; NAME-VERSION.peftrec when left out.")] = None,
    registry: Folder = Path("adapters"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Writes one version as one file, with its signatures.

    Example: peftrec registry export grocery@production
    """
    version = Registry(registry).open(reference)
    target = path or Path(archive_name(version.name, version.version))
    write_archive(version, target, signature=read_signatures(version), overwrite=overwrite)
    told = {"reference": version.reference, "path": str(target), "bytes": target.stat().st_size}
    tell(told, f"wrote {version.reference} to {target}, {told['bytes'] / 1e6:.2f} MB", as_json=as_json)


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="File that export wrote.")],
    registry: Folder = Path("adapters"),
    name: NewName = None,
    alias: OnArrival = None,
    trusted: Trusted = None,
    as_json: AsJson = False,
) -> None:
    """Adds a version from a file, after every byte of it was checked."""
    _arrived(registry, read_archive(path), name, alias, trusted, as_json=as_json)


@app.command()
def copy(
    reference: Reference,
    target: Annotated[Path, typer.Argument(help="Folder of the registry that gets it.")],
    registry: Folder = Path("adapters"),
    name: NewName = None,
    alias: OnArrival = None,
    trusted: Trusted = None,
    as_json: AsJson = False,
) -> None:
    """Copies a version to another registry, with its signatures."""
    version = Registry(registry).open(reference)
    parcel = load(version, signature=read_signatures(version))
    _arrived(target, parcel, name, alias, trusted, as_json=as_json)


@app.command()
def push(
    reference: Reference,
    url: Url,
    registry: Folder = Path("adapters"),
    private: Annotated[
        bool, typer.Option("--private", help="On the Hub: refuse a repository that others can read.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Puts a version on a remote file system or the Hugging Face Hub; nobody sees half of it.

    Example: peftrec registry push grocery@production s3://bucket/adapters
    """
    from peftrec.registry.hub import push_to_hub
    from peftrec.registry.remote import push as push_to

    version = Registry(registry).open(reference)
    signature = read_signatures(version)
    if private and not url.startswith(HUB):
        raise RegistryError(
            f"--private with {url}",
            expected="--private with hf:// alone; who may read other addresses is set there",
            remedy="leave it out, and check who may read that folder",
        )
    if url.startswith(HUB):
        where = f"{url} at {push_to_hub(version, url.removeprefix(HUB), private=private, signature=signature)}"
    else:
        where = push_to(version, url, signature=signature)
    tell({"reference": version.reference, "url": where}, f"{version.reference} is at {where}", as_json=as_json)


@app.command()
def pull(
    url: Url,
    reference: Annotated[
        str | None,
        typer.Argument(help="name@version; when left out, a folder is listed, and the Hub gives its newest commit."),
    ] = None,
    registry: Folder = Path("adapters"),
    name: NewName = None,
    alias: OnArrival = None,
    trusted: Trusted = None,
    as_json: AsJson = False,
) -> None:
    """Fetches a version, checks every byte and adds it.

    Example: peftrec registry pull s3://bucket/adapters grocery@3
    """
    from peftrec.registry.hub import pull_from_hub
    from peftrec.registry.remote import pull as pull_from
    from peftrec.registry.remote import remote_versions

    if url.startswith(HUB):
        parcel = pull_from_hub(url.removeprefix(HUB), reference=reference)
    elif reference is None and not url.endswith(".peftrec"):
        if given := [
            f"--{option}" for option, value in (("name", name), ("alias", alias), ("trusted-key", trusted)) if value
        ]:
            raise RegistryError(
                f"{', '.join(given)} without a version",
                expected="name@version behind the address",
                remedy="leave the options out to see what the folder holds",
            )
        there = [f"{found}@{version}" for found, version in remote_versions(url)]
        tell(there, "\n".join(there) or f"{url} holds no versions", as_json=as_json)
        return
    else:
        parcel = pull_from(url, reference=reference)
    _arrived(registry, parcel, name, alias, trusted, as_json=as_json)


@app.command()
def keygen(
    private: Annotated[Path, typer.Argument(help="File of the private key, for its owner alone.")],
    public: Annotated[Path, typer.Argument(help="File of the public key, for those who shall trust it.")],
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Ask for a passphrase.")] = False,
    as_json: AsJson = False,
) -> None:
    """Makes an Ed25519 key pair for signing versions."""
    passphrase = typer.prompt("passphrase", hide_input=True, confirmation_prompt=True) if encrypt else None
    key = generate_key(private, public, passphrase=passphrase)
    tell(
        {"key": key, "private": str(private), "public": str(public)},
        f"key {key[:16]} in {private} and {public}",
        as_json=as_json,
    )


@app.command()
def sign(
    reference: Reference,
    key: Annotated[Path, typer.Option(help="PEM file of the private key.")],
    registry: Folder = Path("adapters"),
    encrypted: Annotated[bool, typer.Option("--encrypted", help="The key has a passphrase: ask for it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Vouches for a version: reads every byte of it and puts a signature beside it.

    Example: peftrec registry sign grocery@3 --key release.pem
    """
    passphrase = typer.prompt("passphrase", hide_input=True) if encrypted else None
    version = Registry(registry).sign(reference, key, passphrase=passphrase)
    tell({"reference": version.reference, "digest": version.digest}, f"signed {version.reference}", as_json=as_json)


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="One adapter; all when left out.")] = None,
    registry: Folder = Path("adapters"),
    trusted: Trusted = None,
    require_signed: Annotated[
        bool,
        typer.Option("--require-signed", help="Also refuse versions that no trusted key signed; needs --trusted-key."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Reads every file again and compares it with its digest; exits with 1 if anything is wrong."""
    if require_signed and not trusted:
        raise typer.BadParameter("--require-signed needs at least one --trusted-key", param_hint="--require-signed")
    found = Registry(registry, trusted_keys=trusted or ())
    what = f"{len(found.names())} adapters" if name is None else name
    told_problems(found.verify(name, require_signed=require_signed), what, as_json=as_json)


def _arrived(
    folder: Path, parcel: Parcel, name: str | None, alias: str | None, trusted: list[Path] | None, *, as_json: bool
) -> None:
    registry = Registry(folder, trusted_keys=trusted or ())
    version: Version
    if name is None:
        version = registry.install(parcel, alias=alias)
    else:
        registry.check_trust(parcel)
        version = registry.publish(name, parcel, alias=alias)
    told = {"reference": version.reference, "path": str(version.path), "alias": alias}
    tell(told, f"{version.reference} is in {folder}" + (f", alias {alias}" if alias else ""), as_json=as_json)
