"""A figure that a benchmark measured, and the goal it is held against."""

import attrs


@attrs.frozen
class Figure:
    """One measured ratio or amount."""

    name: str
    value: float
    goal: float
    at_least: bool = True
    unit: str = ""
    detail: str = ""

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal
