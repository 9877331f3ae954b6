"""Versions on the Hugging Face Hub, one commit and one tag each, as ``peft.PeftModel.from_pretrained`` opens them.

The files lie at the repository's root, ``card.md`` as ``README.md``, which the Hub shows. The Hub adds files of its own; of a
repository, only what the manifest names is read.
"""

import contextlib
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from peftrec.errors import AdapterNotFoundError, CorruptAdapterError, PeftrecError, RegistryError, RegistryWriteError
from peftrec.registry.archive import SIGNATURES, SIZE_LIMIT, Parcel, checked, load
from peftrec.registry.manifest import CARD, CARDS, FILES, MANIFEST, MANIFEST_LIMIT, Manifest
from peftrec.registry.remote import check_is, exact
from peftrec.registry.signing import SIZE_LIMIT as SIGNATURES_LIMIT
from peftrec.registry.signing import manifest_seal
from peftrec.registry.strict import is_whole
from peftrec.registry.version import Version

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_README = "README.md"


def push_to_hub(
    version: Version,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    signature: bytes | None = None,
    api: "HfApi | None" = None,
) -> str:
    """Puts a version on the Hub in one commit, tagged ``<name>-<version>``.

    Args:
        version: Read and checked in full.
        repo_id: Repository, such as ``shop/grocery``; made where there is none.
        private: Refuses a repository that others can read, and makes none.
        token: Of a user who may write it; by default the one that is logged in.
        signature: Content of the version's file of signatures.
        api: Client, for another endpoint than the public Hub.

    Returns:
        The tag.

    Raises:
        CorruptAdapterError: The version is damaged, or ``signature`` is malformed or of another version.
        RegistryError: The tag is there and holds something else, or the repository is public and should be private.
        RegistryWriteError: The Hub cannot be reached or refuses; nothing is half there, but the tag may be missing.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    parcel = load(version, signature=signature)
    api, tag = _client(api), _tag(version.name, version.version)
    with _worded(repo_id, "written", RegistryWriteError, token):
        api.create_repo(repo_id, private=private, exist_ok=True, token=token)
        info = api.model_info(repo_id, token=token)
        if private and not info.private:
            raise RegistryError(
                f"{repo_id} is there already, and public",
                expected="a private repository",
                remedy="make it private on the Hub, name another one, or push with private=False",
            )
        tagged = any(ref.name == tag for ref in api.list_repo_refs(repo_id, token=token).tags)
    if tagged:
        _check_same(parcel, pull_from_hub(repo_id, revision=tag, token=token, api=api), f"{repo_id} at {tag}")
        return tag
    contents = {_on_hub(file): content for file, content in parcel.content.items()}
    contents[MANIFEST] = parcel.manifest.to_json().encode()
    if parcel.signature is not None:
        contents[SIGNATURES] = parcel.signature
    present = {entry.rfilename for entry in info.siblings or ()}
    stale = sorted(present & set(map(_on_hub, {SIGNATURES, *CARDS, *FILES})) - set(contents))  # of the version before
    with _worded(repo_id, "written", RegistryWriteError, token):
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(file, content) for file, content in sorted(contents.items())),
                *(CommitOperationDelete(file) for file in stale),
            ],
            commit_message=parcel.reference,
            token=token,
            parent_commit=info.sha,  # refused where somebody else was faster
        )
        api.create_tag(repo_id, tag=tag, revision=commit.oid, token=token)
    return tag


def pull_from_hub(
    repo_id: str,
    *,
    reference: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    limit: int = SIZE_LIMIT,
    api: "HfApi | None" = None,
) -> Parcel:
    """Fetches a version from the Hub into memory; all files are those of one commit.

    Args:
        repo_id: Repository, such as ``shop/grocery``.
        reference: ``name@version``, which is looked for under its tag. What comes must then say of itself that it is this
            version, since who can write the repository can move its tags.
        revision: Tag, branch or commit; by default the reference's tag, else the newest commit.
        token: Of a user who may read it; by default the one that is logged in.
        limit: Bytes that the files may have together.
        api: Client, for another endpoint than the public Hub.

    Raises:
        AdapterNotFoundError: There is no such repository or revision, or it holds no adapter of peftrec.
        CorruptAdapterError: A file is missing or another one than the manifest says, or it is another version than asked for.
        RegistryError: The Hub cannot be reached.
    """
    if reference is not None and revision is None:
        revision = _tag(*exact(reference))
    api, where = _client(api), repo_id if revision is None else f"{repo_id} at {revision}"
    with _worded(repo_id, "read", RegistryError, token):
        info = api.model_info(repo_id, revision=revision, files_metadata=True, token=token)
    sizes = {entry.rfilename: entry.size for entry in info.siblings or () if is_whole(entry.size, least=0)}
    if MANIFEST not in sizes:
        raise AdapterNotFoundError(
            f"{where} holds no {MANIFEST}",
            expected="a repository that push_to_hub wrote",
            remedy="name another repository, or another revision",
        )
    _check_size(MANIFEST, sizes, MANIFEST_LIMIT, where)
    with tempfile.TemporaryDirectory(prefix="peftrec-") as folder, _worded(repo_id, "read", RegistryError, token):

        def fetch(files: Iterable[str]) -> dict[str, bytes]:
            download: Callable[..., str] = api.hf_hub_download  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            paths = {
                file: download(repo_id, _on_hub(file), revision=info.sha, token=token, local_dir=folder)
                for file in files
            }
            return {file: Path(path).read_bytes() for file, path in paths.items()}

        manifest = fetch([MANIFEST])[MANIFEST]
        read = Manifest.from_json(manifest, where=f"{where}: {MANIFEST}")
        if (total := sum(entry.size for entry in read.files.values())) > limit:
            raise _corrupt(where, f"has {total:,} bytes, more than the {limit:,} that are allowed")
        for file, entry in read.files.items():  # before anything large is fetched
            _check_size(_on_hub(file), sizes, entry.size, where, exact=True)
        files = fetch(read.files)
        signature = None
        if SIGNATURES in sizes:
            _check_size(SIGNATURES, sizes, SIGNATURES_LIMIT, where)
            signature = fetch([SIGNATURES])[SIGNATURES]
    parcel = checked(manifest, files, signature, where=where)
    check_is(parcel, reference, where=where)
    return parcel


def _client(api: "HfApi | None") -> "HfApi":
    from huggingface_hub import HfApi

    return api or HfApi()


def _tag(name: str, version: str) -> str:
    return f"{name}-{version}"


def _on_hub(file: str) -> str:
    return _README if file == CARD else file


def _check_same(ours: Parcel, there: Parcel, where: str) -> None:
    same = manifest_seal(ours.manifest) == manifest_seal(there.manifest)
    if same and ours.signature in (None, there.signature):
        return
    raise RegistryError(
        f"{where} holds {'other signatures' if same else f'another {there.reference}'}",
        expected="this very version, or no such tag: a version never changes",
        remedy="delete the tag on the Hub and push again" if same else "publish under the next number",
    )


def _check_size(file: str, sizes: Mapping[str, int | None], limit: int, where: str, *, exact: bool = False) -> None:
    if (size := sizes.get(file)) is None:
        raise _corrupt(where, f"lacks {file}")
    if size > limit or (exact and size != limit):
        raise _corrupt(where, f"{file} has {size:,} bytes instead of {'' if exact else 'at most '}{limit:,}")


@contextlib.contextmanager
def _worded(repo_id: str, verb: str, kind: type[RegistryError], token: str | None) -> Generator[None]:
    """Turns what the Hub's client raises into one error that says what to do."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except PeftrecError:
        raise
    except Exception as error:  # its errors, those of its HTTP client and those of its storage share no base class
        told = str(error) if token is None else str(error).replace(token, "…")
        missing = isinstance(error, RepositoryNotFoundError | RevisionNotFoundError) and kind is RegistryError
        raise (AdapterNotFoundError if missing else kind)(
            f"{repo_id} cannot be {verb}: {told}",
            expected=f"a repository on the Hub that this user may {'read' if kind is RegistryError else 'write'}",
            remedy="check the name, log in with `hf auth login`, or pass a token",
        ) from error


def _corrupt(where: str, what: str) -> CorruptAdapterError:
    return CorruptAdapterError(
        f"{where}: {what}",
        expected="a whole version, as push_to_hub wrote it",
        remedy="pull another revision, or ask its publisher to push it again",
    )
