"""Flags of the compiler: only those it knows, and behind them those of the user."""

from trm_jax.support.xla_flags import add, known


def test_flags_that_the_compiler_does_not_know_are_left_out():
    flags = (
        "--xla_backend_optimization_level=0 --xla_such_a_flag_never_was=true --xla_force_host_platform_device_count=2"
    )
    assert known(flags) == "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=2"
    assert known("") == ""


def test_flags_of_the_user_come_last_and_win(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    add("--xla_backend_optimization_level=0 --xla_no_such_flag=1")
    import os

    assert os.environ["XLA_FLAGS"] == "--xla_backend_optimization_level=0 --xla_backend_optimization_level=3"
