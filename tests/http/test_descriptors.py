import subprocess
import sys

import pytest

from headgate.http.server import connection_limit


def test_connections_leave_half_of_the_descriptors() -> None:
    assert 16 <= connection_limit() <= 10_000
    assert connection_limit(100) <= 100


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel says how large the table is in /proc")
def test_the_table_of_descriptors_is_large_before_a_connection_comes() -> None:
    program = (
        "import os, resource; from headgate.http.server import widen_descriptors; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])); "
        "before = set(os.listdir('/proc/self/fd')); widen_descriptors(); "
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('FDSize')]); "
        "print(set(os.listdir('/proc/self/fd')) == before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["['1024']", "True"]
