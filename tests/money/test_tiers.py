import pytest

from headgate.config import ServeOptions, load
from headgate.money.tiers import find_tier, load_tiers
from headgate.settings.upstreams import ConfigError
from headgate.values import NANO_PER_USD, Limits

GUIDE = [  # name, paid, cap, rpm, rpd, tpm
    ("Free", 0, 100, 3, 200, 40_000),
    ("Tier 1", 5, 100, 500, 0, 100_000),
    ("Tier 2", 50, 500, 5_000, 0, 450_000),
    ("Tier 3", 100, 1_000, 5_000, 0, 1_000_000),
    ("Tier 4", 250, 5_000, 10_000, 0, 2_000_000),
    ("Tier 5", 1_000, 50_000, 10_000, 0, 5_000_000),
]


def tiers(tmp_path, toml):
    path = tmp_path / "headgate.toml"
    path.write_text(toml)
    return load(ServeOptions(env_file="", config=str(path)), {}).tiers


def test_the_shipped_tiers_are_the_guides():
    rows = [
        (
            tier.title,
            tier.paid // NANO_PER_USD,
            tier.cap // NANO_PER_USD,
            tier.limits.rpm,
            tier.limits.rpd,
            tier.limits.tpm,
        )
        for tier in load_tiers()
    ]
    assert rows == GUIDE
    assert [tier.name for tier in load_tiers()] == ["free", "tier1", "tier2", "tier3", "tier4", "tier5"]


def test_a_row_of_ones_own_replaces_its_namesake_and_another_takes_its_place_by_price(tmp_path):
    found = tiers(
        tmp_path,
        """
        [[tiers]]
        name = "tier1"
        paid = 7.5
        days = 7
        rpm = 10
        tpd = 1_000
        [[tiers.models]]
        model = "gpt-4*"
        rpm = 2
        concurrency = 1
        [[tiers]]
        name = "team"
        title = "Team"
        paid = 70
        queue_ms = 500
        """,
    )
    assert [tier.name for tier in found] == ["free", "tier1", "tier2", "team", "tier3", "tier4", "tier5"]
    own = find_tier(found, "tier1")
    assert own is not None
    assert (own.paid, own.days, own.cap, own.title) == (7_500_000_000, 7, 0, "tier1")
    assert own.limits == Limits(rpm=10, tpd=1_000)
    assert own.models == (("gpt-4*", Limits(rpm=2, concurrency=1)),)
    assert find_tier(found, "none") is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("rpm = -1", "rpm"),
        ("tpd = 3_000_000_000", "tpd"),
        ("days = -1", "days"),
        ("queue_ms = 10_000_000", "queue_ms"),
        ("paid = -5", "paid"),
        ("cap = 1e30", "cap"),
        ('models = [{ model = "" }]', "no model"),
        ('models = [{ model = "m", rpm = -2 }]', "tier 'x', m: rpm"),
        ("colour = 1", "colour"),
    ],
)
def test_a_mistake_is_named(row, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        tiers(tmp_path, f'[[tiers]]\nname = "x"\n{row}')


def test_a_tier_stands_once(tmp_path):
    with pytest.raises(ConfigError, match="twice"):
        tiers(tmp_path, '[[tiers]]\nname = "x"\n[[tiers]]\nname = "x"')
