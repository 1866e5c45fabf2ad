"""Real ttnn on a chip that does not exist: every op is validated and compiled, no kernel runs."""

from ttt_hw._mock.environment import mock_environment as mock_environment, without_backtraces as without_backtraces

__all__ = ["mock_environment", "without_backtraces"]
