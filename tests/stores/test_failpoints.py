import subprocess
import sys
import time

import pytest

from headgate.failpoints import ArmedFailpoints, FailpointHit, NoFailpoints, failpoints_of


def test_an_empty_specification_is_production() -> None:
    points = failpoints_of("")
    assert isinstance(points, NoFailpoints)
    points.hit("after-open")


def test_a_trap_acts_at_the_passage_that_it_names() -> None:
    points = ArmedFailpoints("after-open=raise@3, mid-stream=slow:0")
    points.hit("after-open")
    points.hit("mid-stream")
    points.hit("after-open")
    with pytest.raises(FailpointHit, match="after-open"):
        points.hit("after-open")
    points.hit("after-open")


def test_a_slow_place_waits_each_time() -> None:
    points = ArmedFailpoints("after-send=slow:0.005")
    began = time.monotonic()
    points.hit("after-send")
    points.hit("after-send")
    assert time.monotonic() - began >= 0.01


def test_a_kill_ends_the_process_without_a_word() -> None:
    program = (
        "from headgate.failpoints import failpoints_of\n"
        "points = failpoints_of('after-open=kill@2')\n"
        "points.hit('after-open'); print('once', flush=True); points.hit('after-open'); print('twice')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -9
    assert done.stdout.split() == [b"once"]


@pytest.mark.parametrize("spec", ["nowhere=kill", "after-open=explode", "after-open"])
def test_a_wrong_specification_names_what_is_known(spec: str) -> None:
    with pytest.raises(ValueError, match="one of"):
        failpoints_of(spec)
