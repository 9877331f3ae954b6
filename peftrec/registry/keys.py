"""Ed25519 keys as PEM files: one pair per publisher, the private one for its owner alone."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from peftrec.disk import worded_write_errors
from peftrec.errors import MissingExtraError, RegistryError, RegistryWriteError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_SIZE_LIMIT = 64 * 1024


def generate_key(private: Path, public: Path, *, passphrase: str | None = None) -> str:
    """Makes a key pair as two PEM files; the private one is for its owner's eyes only.

    Args:
        private: File of the private key, mode 0600.
        public: File of the public key, to be handed to those who shall trust it.
        passphrase: Encrypts the private key.

    Returns:
        The key's id.

    Raises:
        RegistryError: A file of that name is there, or the passphrase cannot be used.
        RegistryWriteError: The folder cannot be written.
        MissingExtraError: The package cryptography is not installed.
    """
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    try:
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()
            if passphrase is None
            else serialization.BestAvailableEncryption(passphrase.encode()),
        )
    except ValueError as error:
        raise RegistryError(
            f"a passphrase that cannot be used: {error}",
            expected="1 to 1,023 bytes, or None for a key that is not encrypted",
            remedy="choose another passphrase",
        ) from error
    open_form = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _write_new(private, secret, mode=0o600)
    try:
        _write_new(public, open_form, mode=0o644)
    except BaseException:
        private.unlink(missing_ok=True)
        raise
    return key_id(key.public_key())


def load_private_key(path: Path, *, passphrase: str | None = None) -> "Ed25519PrivateKey":
    """Reads what :func:`generate_key` wrote.

    Raises:
        RegistryError: The file cannot be read, is no Ed25519 private key, or the passphrase is missing, wrong or needless.
        MissingExtraError: The package cryptography is not installed.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read_key(path)
    if b"PUBLIC KEY-----" in content:
        raise _wrong_key(path, "holds a public key", "an Ed25519 private key")
    try:
        key = load_pem_private_key(content, None if passphrase is None else passphrase.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        told = str(error) or "is malformed"
        raise _wrong_key(path, f"cannot be opened: {told}", "an Ed25519 private key and its passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _wrong_key(path, f"holds a {type(key).__name__}", "an Ed25519 private key")
    return key


def load_public_key(path: Path) -> "Ed25519PublicKey":
    """Reads a public key, to be trusted.

    Raises:
        RegistryError: The file cannot be read or is no Ed25519 public key.
        MissingExtraError: The package cryptography is not installed.
    """
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read_key(path)
    if b"PRIVATE KEY-----" in content:
        raise _wrong_key(path, "holds a private key", "an Ed25519 public key, which is all that checking needs")
    try:
        key = load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _wrong_key(path, f"cannot be opened: {error}", "an Ed25519 public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _wrong_key(path, f"holds a {type(key).__name__}", "an Ed25519 public key")
    return key


def key_id(key: "Ed25519PublicKey") -> str:
    """Sha256 of the raw public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _need_cryptography() -> None:
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise MissingExtraError(
            "keys and signatures without cryptography",
            expected="the package cryptography",
            remedy='pip install "peftrec[sign]"',
        ) from error


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    with worded_write_errors(path.parent, RegistryWriteError):
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError as error:
            raise RegistryError(
                f"{path} is there already",
                expected="the name of a new file; a key that is overwritten is lost",
                remedy="name another file, or move this one away",
            ) from error
        try:
            with open(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise


def _read_key(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise _wrong_key(path, "is not there" if not path.exists() else "is no file", "a key as a PEM file")
        with path.open("rb") as file:
            return file.read(_SIZE_LIMIT)
    except OSError as error:
        raise _wrong_key(path, f"cannot be read: {error.strerror or error}", "a key as a PEM file") from error


def _wrong_key(path: Path, what: str, expected: str) -> RegistryError:
    return RegistryError(f"{path} {what}", expected=expected, remedy="name the right file, or make a new pair of keys")
