"""Typed settings of calibration boards. Imports no numpy."""

from __future__ import annotations

from dataclasses import dataclass

from robopolicy_datasets.errors import ConfigError, unknown_name

KINDS = ("charuco", "chessboard")


@dataclass
class BoardConfig:
    """A flat board with a pattern. The default fits on A4 paper.

    Raises ``ConfigError`` for sizes that make no board.

    Attributes:
        kind: charuco (parts of it may be hidden) or chessboard.
        squares_x: squares in a row.
        squares_y: rows of squares.
        square: side of a square, measured on the printed board [m].
        marker: side of a marker in a white square of a charuco board [m].
        dictionary: OpenCV's name of the markers, without DICT_.
    """

    kind: str = "charuco"
    squares_x: int = 9
    squares_y: int = 6
    square: float = 0.028
    marker: float = 0.021
    dictionary: str = "5X5_100"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("kind of board", self.kind, KINDS)
        if min(self.squares_x, self.squares_y) < 3 or not 0 < self.marker < self.square:
            raise ConfigError(
                f"{self.squares_x} x {self.squares_y} squares of {self.square} m with markers of "
                f"{self.marker} m are no board: give at least 3 x 3 squares, and markers smaller than their "
                "squares."
            )
