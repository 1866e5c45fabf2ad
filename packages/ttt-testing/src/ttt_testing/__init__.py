"""Values and comparisons for ttnn programs, with or without a card."""

from ttt_testing.metrics import max_difference as max_difference, pcc as pcc
from ttt_testing.rounding import round_to as round_to
from ttt_testing.shadow import Rounding as Rounding, Values as Values, shadow as shadow

__all__ = ["Rounding", "Values", "max_difference", "pcc", "round_to", "shadow"]
