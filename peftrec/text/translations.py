"""Translations kept from run to run in a file that only grows, so that a kill costs one batch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peftrec.errors import ConfigError


@dataclass(frozen=True)
class Translations:
    """The lines of a file that belong to one pair of models and one set of options.

    Args:
        path: JSON lines ``{"key": ..., "texts": [...]}``.
        maker: Fingerprint of all that decides a translation.
    """

    path: Path
    maker: str

    def read(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """What the file holds of the texts; a line that a kill cut short is passed over.

        Raises:
            ConfigError: The file cannot be read.
        """
        try:
            content = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        except OSError as error:
            raise self._refused("read", error) from error
        wanted = {self._key(text): text for text in texts}
        lines = filter(None, map(_parsed, content.splitlines()))
        return {wanted[key]: found for key, found in lines if key in wanted}

    def add(self, found: Mapping[str, list[str]]) -> None:
        """Writes the translations of texts to the end of the file.

        Raises:
            ConfigError: The file cannot be written.
        """
        lines = [json.dumps({"key": self._key(text), "texts": others}) for text, others in found.items()]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(f"\n{line}" for line in lines))  # a line before may have been cut short
        except OSError as error:
            raise self._refused("written", error) from error

    def _key(self, text: str) -> str:
        return hashlib.sha256(f"{self.maker}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()

    def _refused(self, what: str, error: OSError) -> ConfigError:
        return ConfigError(
            f"cache={str(self.path)!r} cannot be {what}: {error}",
            expected="a file that can be read and written, or a new one in a folder that can",
            remedy="name another file, or leave it out",
        )


def _parsed(line: str) -> tuple[str, list[str]] | None:
    try:
        content = json.loads(line)
        key, texts = content["key"], content["texts"]
    except (ValueError, KeyError, TypeError):
        return None
    sound = isinstance(key, str) and isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)
    return (key, texts) if sound else None
