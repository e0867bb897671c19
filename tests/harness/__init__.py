"""The real parts that the tests talk to and through."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.client", f"{__name__}.plain", f"{__name__}.stock")
