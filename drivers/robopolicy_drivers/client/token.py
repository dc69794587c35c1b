"""The token that a server and its clients share, read from a file so that no process list shows it."""

from __future__ import annotations

from pathlib import Path

from robopolicy_datasets.errors import ConfigError

FEWEST_CHARACTERS = 16


def read_token(file: str) -> str:
    """Returns the token in a file; empty where no file is named.

    Raises:
        ConfigError: the file cannot be read, or holds no token that would be safe.
    """
    if not file:
        return ""
    path = Path(file).expanduser()
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The token file '{path}' cannot be read: {error}.") from error
    if len(token) < FEWEST_CHARACTERS or not token.isascii() or any(letter.isspace() for letter in token):
        raise ConfigError(
            f"The token in '{path}' must be one word of at least {FEWEST_CHARACTERS} ASCII characters. Make "
            f"one with: openssl rand -hex 32 > {path}"
        )
    return token
