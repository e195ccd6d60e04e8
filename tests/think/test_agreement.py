"""The model in the page against JAX, in a browser."""

import pytest
from export_models import Case, every_net

from trm_jax.think.agreement import TOLERANCE, differences
from trm_jax.think.browser import find_browser

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium")


@every_net
def test_the_page_answers_like_jax_at_every_step(name):
    case = Case(name)
    found = differences(case.config, case.params, case.inputs, steps=5)
    assert found.shape == (5,) and (found < TOLERANCE).all()
