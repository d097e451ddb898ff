"""`headgate files` against a running gateway: what goes up comes down, and nothing is written over."""

from __future__ import annotations

import json
import subprocess

from tests.surfaces.conftest import HEADGATE, plain_environment


def run(simulated, folder, *args: str, text: bool = True, data: bool = True):
    url = simulated.base.removesuffix("/v1")
    where = ("--data", str(simulated.data)) if data else ()
    return subprocess.run(
        [HEADGATE, "files", *args, "--url", url, *where],
        cwd=folder, env=plain_environment(), capture_output=True, text=text, check=False, timeout=60,
    )  # fmt: skip


def test_a_file_goes_up_and_comes_down(simulated, tmp_path):
    data = bytes(range(256)) * 12_000
    (tmp_path / 'a "b".bin').write_bytes(data)
    made = run(simulated, tmp_path, "put", 'a "b".bin', "--purpose", "batch", "--hours", "2", "--json")
    assert (made.returncode, made.stderr) == (0, "")
    file = json.loads(made.stdout)
    assert (file["bytes"], file["purpose"]) == (len(data), "batch")
    assert file["expires_at"] == file["created_at"] + 7200
    listed = run(simulated, tmp_path, "list", "--purpose", "batch")
    assert file["id"] in listed.stdout
    assert "3,072,000" in listed.stdout
    assert run(simulated, tmp_path, "get", file["id"], "--to", "-", text=False).stdout == data
    there = run(simulated, tmp_path, "get", file["id"], "--to", 'a "b".bin')
    assert (there.returncode, "is there already" in there.stderr) == (2, True)
    assert run(simulated, tmp_path, "get", file["id"], "--to", "copy").returncode == 0
    assert (tmp_path / "copy").read_bytes() == data
    assert run(simulated, tmp_path, "delete", file["id"]).stdout == f"{file['id']} is deleted.\n"
    gone = run(simulated, tmp_path, "get", file["id"])
    assert (gone.returncode, f"No such File object: {file['id']}" in gone.stderr) == (1, True)


def test_a_name_of_anothers_choice_leads_nowhere_else(simulated, tmp_path):
    (tmp_path / "x").write_bytes(b"hidden")
    (tmp_path / "sub").mkdir()
    (tmp_path / ".bashrc").write_bytes(b"evil")
    file = json.loads(run(simulated, tmp_path, "put", ".bashrc", "--json").stdout)
    assert run(simulated, tmp_path / "sub", "get", file["id"]).returncode == 0
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["bashrc"]
    run(simulated, tmp_path, "delete", file["id"])


def test_a_wrong_key_and_an_id_that_is_a_path_are_refused(simulated, tmp_path):
    refused = run(simulated, tmp_path, "list", "--key", "sk-hg-live-wrong")
    assert (refused.returncode, "Incorrect API key" in refused.stderr) == (1, True)
    odd = run(simulated, tmp_path, "get", "../models")
    assert (odd.returncode, list(tmp_path.iterdir())) == (1, [])
