"""Calibration boards: their corners, how they are found in an image, and how they are printed in exact size.

A board's frame has its origin at the corner of the first square, x along the rows and z into the board, as in
OpenCV. Image points are in pixels, with (0, 0) at the middle of the first pixel.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import ConfigError, unknown_name
from robopolicy_drivers.calibration.configs import BoardConfig

MIN_CORNERS = 6  # in a view that counts

_A4_M = (0.210, 0.297)
_MARGIN_M = 0.010  # white around the pattern: a detector needs it, and a printer too
_SQUARE_PIXELS = 280  # whole pixels for every cell of a marker
_POINT_M = 0.0254 / 72  # PDF's unit


@dataclass(frozen=True)
class View:
    """What was found of a board in one image.

    Attributes:
        name: of the image.
        ids: which corners ``[N]``.
        corners: where they are ``[N, 2]`` [px].
        size: width and height of the image [px].
    """

    name: str
    ids: NDArray[np.int64]
    corners: NDArray[np.float64]
    size: tuple[int, int]


class Board(Protocol):
    """A calibration board."""

    @property
    def config(self) -> BoardConfig:
        """Its settings."""

    @property
    def points(self) -> NDArray[np.float64]:
        """All its inner corners ``[K, 3]`` in its frame [m], by id."""

    def pattern(self) -> NDArray[np.uint8]:
        """Returns its picture ``[H, W]``, ``_SQUARE_PIXELS`` a square, without a margin."""

    def find(self, gray: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Returns ids ``[N]`` and image points ``[N, 2]`` of the corners in an image ``[H, W]``."""


class CharucoBoard:
    """A chessboard with markers: each corner is known by name, so parts of the board may be hidden.

    Args:
        config: its settings.

    Raises:
        ConfigError: OpenCV has no such markers, or too few of them.
    """

    def __init__(self, config: BoardConfig) -> None:
        self.config = config
        self._board = _charuco(config)
        self._detector = cv2.aruco.CharucoDetector(self._board)

    @property
    def points(self) -> NDArray[np.float64]:
        """All its inner corners ``[K, 3]`` in its frame [m]."""
        return np.asarray(self._board.getChessboardCorners(), np.float64)

    def pattern(self) -> NDArray[np.uint8]:
        """Returns its picture ``[H, W]``."""
        size = (self.config.squares_x * _SQUARE_PIXELS, self.config.squares_y * _SQUARE_PIXELS)
        return np.asarray(self._board.generateImage(size), np.uint8)

    def find(self, gray: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Returns ids ``[N]`` and image points ``[N, 2]`` of the corners in an image ``[H, W]``."""
        corners, ids, _, _ = self._detector.detectBoard(gray)
        if ids is None:
            return np.zeros(0, np.int64), np.zeros((0, 2))
        return np.asarray(ids, np.int64).ravel(), np.asarray(corners, np.float64).reshape(-1, 2)


class Chessboard:
    """A plain chessboard: it must be seen as a whole, and has an odd and an even side to tell its directions.

    Args:
        config: its settings.

    Raises:
        ConfigError: it looks the same when it is turned.
    """

    def __init__(self, config: BoardConfig) -> None:
        if (config.squares_x + config.squares_y) % 2 == 0:
            raise ConfigError(
                f"A chessboard of {config.squares_x} x {config.squares_y} squares looks the same turned by "
                "180 degrees; give it one side more or less."
            )
        self.config = config
        self._inner = (config.squares_x - 1, config.squares_y - 1)

    @property
    def points(self) -> NDArray[np.float64]:
        """All its inner corners ``[K, 3]`` in its frame [m]."""
        columns, rows = self._inner
        grid = np.mgrid[1 : columns + 1, 1 : rows + 1].T.reshape(-1, 2) * self.config.square
        return np.concatenate([grid, np.zeros((len(grid), 1))], axis=1)

    def pattern(self) -> NDArray[np.uint8]:
        """Returns its picture ``[H, W]``."""
        # OpenCV counts from the side whose outer squares are white.
        squares = (1 - np.indices((self.config.squares_y, self.config.squares_x)).sum(axis=0) % 2) * 255
        return np.kron(squares, np.ones((_SQUARE_PIXELS, _SQUARE_PIXELS))).astype(np.uint8)

    def find(self, gray: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Returns ids ``[N]`` and image points ``[N, 2]`` of the corners in an image ``[H, W]``."""
        flags = cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY
        found, corners = cv2.findChessboardCornersSB(gray, self._inner, flags=flags)
        if not found:
            return np.zeros(0, np.int64), np.zeros((0, 2))
        return np.arange(len(corners)), np.asarray(corners, np.float64).reshape(-1, 2)


BOARDS: dict[str, Callable[[BoardConfig], Board]] = {"charuco": CharucoBoard, "chessboard": Chessboard}


def make_board(config: BoardConfig) -> Board:
    """Builds the board that a config describes."""
    return BOARDS[config.kind](config)


def find_board(board: Board, image: NDArray[np.uint8], name: str) -> View | None:
    """Looks for a board in an image.

    Args:
        board: what to look for.
        image: ``[H, W]`` or ``[H, W, 3]``, RGB.
        name: of the image.

    Returns:
        what was found; None where it has fewer than ``MIN_CORNERS`` corners.
    """
    gray = image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    ids, corners = board.find(gray)
    if len(ids) < MIN_CORNERS:
        return None
    return View(name, ids, corners, (gray.shape[1], gray.shape[0]))


def write_board(board: Board, path: Path) -> None:
    """Writes a board for the printer; print it at 100 %, then measure a square.

    Args:
        board: the board.
        path: a .pdf, on A4 where it fits, in exact size; or a .png, whose size the printing program decides.

    Raises:
        ConfigError: the file's name ends in something else.
    """
    writers = {".pdf": _pdf, ".png": _png}
    if path.suffix not in writers:
        raise ConfigError(f"'{path}' cannot be written; give the name of a {' or '.join(writers)} file.")
    path.write_bytes(writers[path.suffix](board))


def _charuco(config: BoardConfig) -> Any:
    prefix = "DICT_"
    names = [name.removeprefix(prefix) for name in dir(cv2.aruco) if name.startswith(prefix)]
    if config.dictionary not in names:
        raise unknown_name("dictionary of markers", config.dictionary, names)
    markers = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, prefix + config.dictionary))
    needed, there = config.squares_x * config.squares_y // 2, len(markers.bytesList)
    if needed > there:
        raise ConfigError(
            f"A board of {config.squares_x} x {config.squares_y} squares needs {needed} markers, and "
            f"{config.dictionary} has {there}; take a larger dictionary or fewer squares."
        )
    return cv2.aruco.CharucoBoard((config.squares_x, config.squares_y), config.square, config.marker, markers)


def _png(board: Board) -> bytes:
    margin = round(_MARGIN_M / board.config.square * _SQUARE_PIXELS)
    framed = np.pad(board.pattern(), margin, constant_values=255)
    return bytes(cv2.imencode(".png", framed)[1].tobytes())


def _pdf(board: Board) -> bytes:
    """Returns a page with the pattern as an image of exact size: the little of PDF 1.4 that this takes."""
    config, pattern = board.config, board.pattern()
    sides = np.array([config.squares_x, config.squares_y]) * config.square
    needed = sides + 2 * _MARGIN_M
    papers = [np.array(_A4_M), np.array(_A4_M[::-1])]
    page = next((paper for paper in papers if (needed <= paper).all()), needed)
    width, height, page_width, page_height = np.concatenate([sides, page]) / _POINT_M
    left, low = 0.5 * (page_width - width), 0.5 * (page_height - height)
    note = (
        f"{config.kind} {config.squares_x} x {config.squares_y}, square {1e3 * config.square:g} mm, marker "
        f"{1e3 * config.marker:g} mm, {config.dictionary}. Print at 100 %, then measure a square."
    )
    drawing = (
        f"q {width:.4f} 0 0 {height:.4f} {left:.4f} {low:.4f} cm /Board Do Q\n"
        f"BT /Note 7 Tf {left:.4f} {low - 14:.4f} Td ({note}) Tj ET"
    ).encode("ascii")
    pixels = zlib.compress(pattern.tobytes(), 9)
    return _pdf_file(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {page_width:.4f} {page_height:.4f}] "
            "/Contents 4 0 R /Resources << /XObject << /Board 5 0 R >> /Font << /Note 6 0 R >> >> >>".encode(
                "ascii"
            ),
            b"<< /Length %d >>\nstream\n%b\nendstream" % (len(drawing), drawing),
            b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray "
            b"/BitsPerComponent 8 /Filter /FlateDecode /Length %d >>\nstream\n%b\nendstream"
            % (pattern.shape[1], pattern.shape[0], len(pixels), pixels),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
    )


def _pdf_file(objects: list[bytes]) -> bytes:
    content, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(content))
        content += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    head = b"xref\n0 %d\n0000000000 65535 f \n" % count
    tail = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, len(content))
    return content + head + table + tail
