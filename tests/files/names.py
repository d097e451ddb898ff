"""Names of files that mean harm: where they would lead, what they would look like, what they would break."""

from __future__ import annotations

_SEPARATORS = ("../", "..\\", "/", "\\", "C:\\", "\\\\server\\share\\", "//", "./", "~/", "file:///")
_DEVICES = ("CON", "PRN", "AUX", "NUL", "COM1", "LPT9", "CONIN$", "aux.txt", "nul.", "NUL.tar.gz")
_MARKS = "\u202e\u202d\u202a\u2066\u2067\u2069\u200f\u061c\u200b\ufeff"
_CONTROLS = "\x00\x01\x07\x08\x09\x0b\x1b\x7f\x85\u2028"

NAMES = (
    *(f"{prefix}etc/passwd" for prefix in _SEPARATORS),
    *_DEVICES,
    *(f"invoice{mark}fdp.exe" for mark in _MARKS),
    *(f"a{control}b.txt" for control in _CONTROLS),
    *("..", ".", "...", " ", "   .", "/", "\\", "../..", "a/..", ".\u200b."),
    *("-rf", "--help", ".bashrc", ".ssh/authorized_keys", "a;rm -rf ~", "$(id)", "`id`", "|id", "a&b", "*"),
    *("%2e%2e%2fetc", "..%2f..%2f", "..%252f", "%00.txt", "\uff0e\uff0e\uff0fetc", "..\u2215etc", "a%0d%0ab"),
    *(
        "a'b",
        "<script>x</script>.html",
        "{{7*7}}",
        "' OR 1=1 --",
        "a\u0301" * 50,
        "\U0001f600.txt",
        "x" * 255,
    ),
    *("x" * 512, "文件.jsonl", "\ud7ff\ue000.txt", "CASE.txt", "case.TXT", "a.txt ", "a.txt."),
)
TOO_LONG = ("x" * 513, "../" * 200 + "a", "y" * 4096)
